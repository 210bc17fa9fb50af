"""Fixtures shared with other rooms."""

from tests.commands.conftest import cytoseg

__all__ = ["cytoseg"]
