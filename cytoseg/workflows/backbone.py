"""Finding and loading a run's backbone or base model."""

from pathlib import Path
from typing import Any

from torch import nn

from cytoseg.checkpoints import find_checkpoints, is_checkpoint, load_state
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.settings import lack_of_denoising
from cytoseg.diffusion.state import load_backbone
from cytoseg.errors import CheckpointError
from cytoseg.recipe import Recipe
from cytoseg.shipped import find_base_model
from cytoseg.terminal import say


def backbone_folder(recipe: Recipe, folder: Path) -> Path:
    """Find the newest network of a run.

    Args:
        recipe: Its ``training.init`` is used if the run has not trained its own network.
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
    """Name the labelled sources of a network, because scores on their slides are biased.

    Args:
        folder: Checkpoint folder, or one checkpoint.

    Returns:
        A sentence for the user, empty without labelled sources.
    """
    newest = folder if is_checkpoint(folder) else find_checkpoints(folder)[0]
    try:
        labels = load_state(newest)["recipe"]["labels"]
        names = [str(source["folder"]) for source in labels["sources"]]
    except (KeyError, TypeError):
        return ""  # of an older version
    if not names:
        return ""
    taught = f"The backbone was trained with labelled sources ({', '.join(names)})"
    return f"{taught}: scores on their slides are optimistic."


def refuse_without_denoising(folder: Path) -> None:
    """Refuse a network that did not learn to denoise, or only weak noise: it can neither draw nor tell anomalies.

    Args:
        folder: Checkpoint folder, or one checkpoint.

    Raises:
        CheckpointError: If it was trained with ``training.denoising_weight`` 0 or a ``training.highest_t`` below T.
    """
    checkpoints = [folder] if is_checkpoint(folder) else find_checkpoints(folder)
    if not checkpoints:
        return  # loading it says what is missing
    recipe: Any = load_state(checkpoints[0]).get("recipe")
    if key := lack_of_denoising(recipe):
        noise = " stronger noise" if key == "highest_t" else ""
        raise CheckpointError(
            f"{checkpoints[0]}: this network was trained with training.{key} {recipe['training'][key]} and cannot "
            f"denoise{noise}. Train a diffusion model of your slides with `cytoseg train-ddpm`, without this setting."
        )


def run_backbone(recipe: Recipe, folder: Path) -> tuple[nn.Module, Architecture, dict[str, object]]:
    """Load the run's network; print a note if it is the base model.

    Args:
        recipe: The run's recipe.
        folder: The run folder.

    Returns:
        See ``load_backbone``.

    Raises:
        CheckpointError: If it is missing, damaged or of a different architecture.
    """
    found = backbone_folder(recipe, folder)
    if found != folder / "ddpm":
        say(f"Features come from {recipe.training.init}, because this run has not trained its own diffusion model.")
    elif not find_checkpoints(found):
        raise CheckpointError(
            f"{found}: no checkpoint here. Train one with `cytoseg train-ddpm`, or use the features of a base model "
            "directly: training.init=cytology-base."
        )
    return load_backbone(found, recipe.architecture())


def needs_backbone(recipe: Recipe) -> bool:
    """Return whether a recipe's interpreter uses the diffusion model; filters, ImageNet features and SegDiff do not."""
    kind = recipe.student.teacher if recipe.interpreter.kind == "student" else recipe.interpreter.kind
    return kind == "decoder" or (kind == "mlps" and "ddpm" in recipe.features.extractors)


def interpreter_backbone(recipe: Recipe, folder: Path) -> tuple[nn.Module, Architecture, dict[str, object]]:
    """Load the network of a run if its interpreter needs one.

    Args:
        recipe: The run's recipe.
        folder: The run folder.

    Returns:
        See ``run_backbone``; if not needed, a network without weights, the recipe's architecture, and no origin.

    Raises:
        CheckpointError: If one is needed and there is none, or it is damaged or of a different architecture.
    """
    return run_backbone(recipe, folder) if needs_backbone(recipe) else (nn.Identity(), recipe.architecture(), {})
