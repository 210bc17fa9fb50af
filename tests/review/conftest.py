"""Fixtures shared with other rooms."""

from tests.labels.conftest import classes, square, write_geojson, write_labelme, write_masks, write_picture

__all__ = ["classes", "square", "write_geojson", "write_labelme", "write_masks", "write_picture"]
