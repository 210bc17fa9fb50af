"""Fixtures of other rooms that these tests use too."""

from tests.predict.conftest import dark_is_cell, destination, make_slide, two_classes

__all__ = ["dark_is_cell", "destination", "make_slide", "two_classes"]
