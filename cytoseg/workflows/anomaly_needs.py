"""What a run must have before its slides can be scored for anomalies, checked without loading the networks."""

import re
from dataclasses import dataclass
from pathlib import Path

from cytoseg.anomaly.regions import FOLDER
from cytoseg.anomaly.thresholds import read_thresholds
from cytoseg.diffusion.settings import lack_of_denoising
from cytoseg.errors import CytosegError
from cytoseg.json_text import load_json
from cytoseg.recipe import Recipe, recipe_of_run
from cytoseg.shipped import find_base_model
from cytoseg.workflows.run_paths import BUNDLE

_STATE = "state.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Missing:
    """Something that a run lacks.

    Attributes:
        sentence: What is missing.
        command: Name of the command that makes it; empty if another recipe is needed.
    """

    sentence: str
    command: str = ""


def missing_for_anomalies(run: Path, *, base: Path) -> Missing | None:
    """Find the first thing that a run lacks to score slides for anomalies; None if it can.

    Args:
        run: The run folder.
        base: Base folder of relative paths in the recipe.

    Raises:
        RecipeError: If the recipe cannot be read.
    """
    recipe = recipe_of_run(run)
    if recipe.space.is_latent:
        return Missing(
            f"Anomalies need a diffusion model of pixels, but the recipe has space.kind: {recipe.space.kind}. Begin a "
            "run without the section space."
        )
    state = _state_of_network(recipe, run, base)
    if state is None:
        return Missing("This run has no diffusion model yet, which tells what is normal.", "train-ddpm")
    if lack := _lack_of(state):
        learned = "weak noise" if lack == "highest_t" else "masks"
        return Missing(
            f"The network {state.parent.name} learned {learned} only and cannot tell what is normal: a diffusion model "
            "of this run's own slides is needed.",
            "train-ddpm",
        )
    if not (run / BUNDLE).is_dir():
        return Missing("This run has no model of its classes yet: annotate crops and train.", "train-interpreter")
    return None


def refuse_unready_for_anomalies(run: Path, *, base: Path, normal: bool) -> None:
    """Refuse a run that cannot score slides yet.

    Args:
        run: The run folder.
        base: Base folder of relative paths in the recipe.
        normal: Whether normal slides are given, so that no thresholds are needed.

    Raises:
        CytosegError: In one line, with what to do first.
    """
    missing = missing_for_anomalies(run, base=base)
    if missing is not None:
        advice = f" Run `cytoseg {missing.command} RECIPE` first." if missing.command else ""
        raise CytosegError(f"anomaly: {missing.sentence}{advice}")
    if not normal and read_thresholds(run / FOLDER) is None:
        raise CytosegError("anomaly: this run has no normal slides yet. Choose some, and learn them as normal first.")


def _state_of_network(recipe: Recipe, run: Path, base: Path) -> Path | None:
    """Return the state file of the newest network of a run, or else of its base model."""
    own = _newest_state(run / "ddpm")
    init = recipe.training.init
    if own is not None or init is None:
        return own
    try:
        return _newest_state(find_base_model(base / init if (base / init).is_dir() else init))
    except CytosegError:
        return None


def _newest_state(folder: Path) -> Path | None:
    if (folder / _STATE).is_file():
        return folder / _STATE
    found = [(int(m[1]), path) for path in folder.glob(f"*/{_STATE}") if (m := _CHECKPOINT.fullmatch(path.parent.name))]
    return max(found)[1] if found else None


def _lack_of(state: Path) -> str | None:
    """Return what kept a network from learning to denoise; see ``lack_of_denoising``."""
    try:
        return lack_of_denoising(load_json(state)["recipe"])
    except (OSError, ValueError, LookupError, TypeError):
        return None  # the command says what is wrong with it
