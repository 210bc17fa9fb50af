"""Files that come with the program but are not Python modules: recipes and the review app."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped_recipes() -> Path:
    """Find the folder of recipes, in an installed wheel or beside the sources."""
    return _find("recipes", "recipes")


def shipped_review() -> Path:
    """Find the folder of the review app, in an installed wheel or beside the sources."""
    return _find("review", "apps/review")


def _find(installed: str, in_sources: str) -> Path:
    wheel = _PACKAGE / "_shipped" / installed
    return wheel if wheel.is_dir() else _PACKAGE.parent / in_sources
