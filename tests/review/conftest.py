"""Fixtures of other rooms that these tests use too."""

from tests.labels.conftest import classes, square, write_geojson, write_labelme, write_masks, write_picture

__all__ = ["classes", "square", "write_geojson", "write_labelme", "write_masks", "write_picture"]
