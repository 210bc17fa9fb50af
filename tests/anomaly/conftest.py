"""Fixtures shared with other rooms."""

from tests.predict.conftest import destination, make_slide, two_classes

__all__ = ["destination", "make_slide", "two_classes"]
