"""Files shipped with the package: recipes, base models and the review app."""

import difflib
from collections.abc import Collection
from pathlib import Path

from cytoseg.errors import CheckpointError

_PACKAGE = Path(__file__).parent


def shipped_recipes() -> Path:
    """Find the folder of recipes, in an installed wheel or a source checkout."""
    return _find("recipes", "recipes")


def shipped_review() -> Path:
    """Find the folder of the review app, in an installed wheel or a source checkout."""
    return _find("review", "apps/review")


def shipped_models() -> dict[str, Path]:
    """Find the shipped base models by name: each is a folder of weights with a model card."""
    folders = _find("checkpoints", "data/checkpoints")
    return {path.parent.name: path.parent for path in sorted(folders.glob("*/state.json"))}


def find_base_model(named: Path) -> Path:
    """Find the model to start from: a folder, or the name of a shipped one.

    Args:
        named: A run's ``ddpm`` folder, a checkpoint or a name; an existing path takes precedence.

    Raises:
        CheckpointError: If there is no such folder and no such name.
    """
    if named.is_dir():
        return named
    models = shipped_models()
    # Older recipes name the folder of a source checkout, which an installed package has elsewhere.
    name = named.name if named.parent in (Path("."), Path("data/checkpoints")) else ""
    if name in models:
        return models[name]
    raise CheckpointError(
        f"training.init: {named}: no such folder{did_you_mean(str(named), models)}. "
        f"Name the ddpm folder of a run, a checkpoint, or one of {', '.join(models)}."
    )


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Suggest the closest known word: `` (did you mean 'batch'?)``; empty if none is close."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.7)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _find(installed: str, in_sources: str) -> Path:
    wheel = _PACKAGE / "_shipped" / installed
    return wheel if wheel.is_dir() else _PACKAGE.parent / in_sources
