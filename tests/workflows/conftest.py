"""Fixtures of other rooms that these tests use too."""

from tests.commands.conftest import cytoseg

__all__ = ["cytoseg"]
