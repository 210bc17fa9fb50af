"""Fixtures of other rooms that these tests use too."""

from tests.slides.conftest import four_colours, speckles, write_map, write_pyramid, write_tiff

__all__ = ["four_colours", "speckles", "write_map", "write_pyramid", "write_tiff"]
