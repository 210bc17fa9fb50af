"""Fixtures shared with other rooms."""

from tests.slides.conftest import four_colours, speckles, write_map, write_pyramid, write_tiff

__all__ = ["four_colours", "speckles", "write_map", "write_pyramid", "write_tiff"]
