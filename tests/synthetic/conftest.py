"""Fixtures shared with other rooms."""

from tests.slides.conftest import find, four_colours, speckles, write_glass, write_map, write_pyramid, write_tiff

__all__ = ["find", "four_colours", "speckles", "write_glass", "write_map", "write_pyramid", "write_tiff"]
