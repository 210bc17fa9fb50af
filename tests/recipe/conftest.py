"""The smallest recipe that can be loaded."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cytoseg.recipe import Recipe, load_recipe

SMALLEST = """\
name: tiny
classes:
  - {name: background, colour: "#f0f0f0"}
  - {name: cell, colour: "#0072b2"}
"""

Load = Callable[..., Recipe]


@pytest.fixture
def smallest() -> str:
    """The text of the smallest recipe."""
    return SMALLEST


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load the smallest recipe, with more YAML after it, or another text instead of it, and with overrides."""

    def load(*overrides: str, more: str = "", text: str = SMALLEST) -> Recipe:
        path = tmp_path / "tiny.yaml"
        path.write_text(text + more, encoding="utf-8")
        return load_recipe(str(path), overrides)

    return load
