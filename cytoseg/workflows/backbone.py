"""The network that a run's features come from: the one it has trained, or else the base model it starts from."""

from pathlib import Path

from torch import nn

from cytoseg.checkpoints import find_checkpoints, is_checkpoint, load_state
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.state import load_backbone
from cytoseg.errors import CheckpointError
from cytoseg.recipe import Recipe
from cytoseg.shipped import find_base_model
from cytoseg.workflows.recorded_command import say


def backbone_folder(recipe: Recipe, folder: Path) -> Path:
    """Find the newest network of a run.

    Args:
        recipe: Its ``training.init`` is taken as it is where the run has trained nothing of its own.
        folder: The run folder.

    Returns:
        The run's ``ddpm`` folder, or that of the base model.

    Raises:
        CheckpointError: If the base model is unknown.
    """
    own = folder / "ddpm"
    if recipe.training.init is None or find_checkpoints(own):
        return own
    return find_base_model(recipe.training.init)


def sources_sentence(folder: Path) -> str:
    """Say which labelled sources taught a network, so that nobody takes a comparison on their slides for a fair one.

    Args:
        folder: Of checkpoints, or one checkpoint, that can be read.

    Returns:
        A sentence for people, empty where no source taught it.
    """
    newest = folder if is_checkpoint(folder) else find_checkpoints(folder)[0]
    try:
        labels = load_state(newest)["recipe"]["labels"]
        names = [str(source["folder"]) for source in labels["sources"]]
    except (KeyError, TypeError):
        return ""  # of an older version
    if not names:
        return ""
    return f"The backbone was taught by labelled sources ({', '.join(names)}); slides of theirs would flatter it."


def run_backbone(recipe: Recipe, folder: Path) -> tuple[nn.Module, Architecture, dict[str, object]]:
    """Load that network; says so where it is the base model's.

    Args:
        recipe: Of the run.
        folder: The run folder.

    Returns:
        As ``load_backbone`` does.

    Raises:
        CheckpointError: If it is missing, damaged or of a different architecture.
    """
    found = backbone_folder(recipe, folder)
    if found != folder / "ddpm":
        say(f"Features come from {recipe.training.init} as it is: this run has trained no diffusion model of its own.")
    elif not find_checkpoints(found):
        raise CheckpointError(
            f"{found}: no checkpoint here. Train one with `cytoseg train-ddpm`, or take the features of a base model "
            "as they are: training.init=cytology-base."
        )
    return load_backbone(found, recipe.architecture())


def needs_backbone(recipe: Recipe) -> bool:
    """Return whether a recipe's interpreter uses the diffusion model at all: filters and ImageNet features do not."""
    kind = recipe.student.teacher if recipe.interpreter.kind == "student" else recipe.interpreter.kind
    return kind == "decoder" or "ddpm" in recipe.features.extractors


def interpreter_backbone(recipe: Recipe, folder: Path) -> tuple[nn.Module, Architecture, dict[str, object]]:
    """Load the network of a run if its interpreter needs one; else nothing is read, and nothing need have been trained.

    Args:
        recipe: Of the run.
        folder: The run folder.

    Returns:
        As ``run_backbone`` does; without a network one of no weights, the recipe's architecture, and no origin.

    Raises:
        CheckpointError: If one is needed and there is none, or it is damaged or of a different architecture.
    """
    return run_backbone(recipe, folder) if needs_backbone(recipe) else (nn.Identity(), recipe.architecture(), {})
