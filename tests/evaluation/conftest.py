"""Fixtures shared with other rooms."""

from tests.predict.conftest import dark_is_cell, destination, make_slide, two_classes

__all__ = ["dark_is_cell", "destination", "make_slide", "two_classes"]
