"""``cytoseg recipe list``, separate because it needs few imports."""

from pathlib import Path

from cytoseg.shipped import shipped_recipes
from cytoseg.terminal import say, say_next

_FIRST = ("quickstart", "cervical", "lbc", "dsb16", "cytology-base", "lbc-base", "lbc-cric-base")
"""Recipes of cells and of the base models. Those that test the method on other pictures come after them."""


def list_shipped() -> None:
    """List the shipped recipes, each with its first line."""
    paths = sorted(shipped_recipes().glob("*.yaml"), key=_place)
    widest = max((len(path.stem) for path in paths), default=0)
    for path in paths:
        say(f"{path.stem:{widest}}  {path.read_text(encoding='utf-8').splitlines()[0].removeprefix('# ')}")
    say_next("recipe", "new", "mylab.yaml")


def _place(path: Path) -> tuple[int, str]:
    return _FIRST.index(path.stem) if path.stem in _FIRST else len(_FIRST), path.stem


VERBS = {"list": list_shipped}
