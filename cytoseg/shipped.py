"""Files that come with the program but are not Python modules: recipes, base models and the review app."""

import difflib
from collections.abc import Collection
from pathlib import Path

from cytoseg.errors import CheckpointError

_PACKAGE = Path(__file__).parent


def shipped_recipes() -> Path:
    """Find the folder of recipes, in an installed wheel or beside the sources."""
    return _find("recipes", "recipes")


def shipped_review() -> Path:
    """Find the folder of the review app, in an installed wheel or beside the sources."""
    return _find("review", "apps/review")


def shipped_models() -> dict[str, Path]:
    """Find the base models, by name: each a folder of weights with its card."""
    folders = _find("checkpoints", "data/checkpoints")
    return {path.parent.name: path.parent for path in sorted(folders.glob("*/state.json"))}


def find_base_model(named: Path) -> Path:
    """Find the model to start from: a folder, or the name of one that comes with the program.

    Args:
        named: A run's ``ddpm`` folder or a checkpoint; what exists goes before a name.

    Raises:
        CheckpointError: If there is no such folder and no such name.
    """
    if named.is_dir():
        return named
    models = shipped_models()
    # Older recipes name the folder beside the sources, which an installed program has elsewhere.
    name = named.name if named.parent in (Path("."), Path("data/checkpoints")) else ""
    if name in models:
        return models[name]
    raise CheckpointError(
        f"training.init: {named}: no such folder{did_you_mean(str(named), models)}. "
        f"Name the ddpm folder of a run, a checkpoint, or one of {', '.join(models)}."
    )


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Propose the known word that a misspelt one is nearest to: `` (did you mean 'batch'?)``; empty if none is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.7)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _find(installed: str, in_sources: str) -> Path:
    wheel = _PACKAGE / "_shipped" / installed
    return wheel if wheel.is_dir() else _PACKAGE.parent / in_sources
