"""The autoencoder of a run: its folder, its settings, and whether it fits the recipe."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cytoseg.checkpoints import find_checkpoints
from cytoseg.devices import pick_device
from cytoseg.diffusion.autoencoder_training import AutoencoderTraining
from cytoseg.diffusion.settings import TrainSettings
from cytoseg.diffusion.space import LatentSpace
from cytoseg.diffusion.state import TrainState, recipe_of_newest
from cytoseg.errors import CheckpointError
from cytoseg.quoting import short_repr
from cytoseg.recipe import Recipe
from cytoseg.runs import read_metrics
from cytoseg.shipped import find_base_model
from cytoseg.workflows.run_pictures import save_grid, save_loss_curve
from cytoseg.workflows.training_crops import settings_of

AUTOENCODER_FOLDER = "autoencoder"


def autoencoder_settings(recipe: Recipe) -> TrainSettings:
    """Return the settings of an autoencoder's training: those of the section training, except for those in space."""
    space = recipe.space
    return replace(
        settings_of(recipe), crops=space.crops, rate=space.rate, adversarial_from=space.adversarial_from, compile=False
    )


def starting_autoencoder(recipe: Recipe) -> Path | None:
    """Return the autoencoder that a new training of the diffusion model starts with.

    Returns:
        Its folder; None in pixel space, or if the space comes with the run's own checkpoint or the base model.

    Raises:
        CheckpointError: If there is none, or the space was trained at another pixel size.
    """
    if not recipe.space.is_latent or find_checkpoints(recipe.run_folder() / "ddpm"):
        return None
    if recipe.training.init is None:
        return trained_autoencoder(recipe)
    _refuse_other_mpp(find_base_model(recipe.training.init), recipe)
    return None


def trained_autoencoder(recipe: Recipe) -> Path:
    """Return the folder of the run's autoencoder.

    Raises:
        CheckpointError: If there is none, or it was trained at another pixel size.
    """
    folder = recipe.run_folder() / AUTOENCODER_FOLDER
    if not find_checkpoints(folder):
        raise CheckpointError(
            f"{folder}: space.kind={recipe.space.kind} needs an autoencoder, but there is none. Run "
            "`cytoseg train-autoencoder` with this recipe first."
        )
    _refuse_other_mpp(folder, recipe)
    return folder


def _refuse_other_mpp(folder: Path, recipe: Recipe) -> None:
    slides = recipe_of_newest(folder).get("slides")
    there, here = slides.get("mpp") if isinstance(slides, dict) else None, recipe.slides.mpp
    if there != here:
        sizes = ("null" if mpp is None else short_repr(mpp) for mpp in (there, here))
        raise CheckpointError(
            "{}: its autoencoder was trained at slides.mpp {}, but the recipe has {}. Use its pixel size, or train "
            "another in a separate folder (folder=runs/NAME).".format(folder, *sizes)
        )


def draw_reconstructions(folder: Path, state: TrainState, recipe: Recipe, crops: Tensor) -> float:
    """Draw loss.png and reconstructed.png: rows of crops above rows of their reconstructions.

    Args:
        folder: The run's ``autoencoder`` folder.
        state: The state of the training.
        recipe: The recipe.
        crops: (N, 3, H, W) in [-1, 1].

    Returns:
        Their peak signal-to-noise ratio in decibels.
    """
    save_loss_curve(folder / "loss.png", read_metrics(folder / "metrics.jsonl"))
    network = state.ema.ema_model.to(pick_device(recipe.training.device)).eval()
    assert isinstance(network, AutoencoderTraining), "of train-autoencoder"
    x, seen = reconstructed(network.space, crops.to(pick_device(recipe.training.device)))
    save_grid(folder / "reconstructed.png", torch.cat([x, seen]), columns=len(x))
    return peak_ratio_db(x, seen)


@torch.inference_mode()
def reconstructed(space: LatentSpace, crops: Tensor) -> tuple[Tensor, Tensor]:
    """Return (N, 3, H, W) crops with the channels of the space, and their reconstructions, on the CPU."""
    return space.of_space(crops).cpu(), space.decode(space.encode(crops)).cpu()


def peak_ratio_db(pictures: Tensor, others: Tensor) -> float:
    """Compute the peak signal-to-noise ratio of images in [-1, 1], over all pixels, in decibels."""
    return float(10.0 * np.log10(4.0 / float((pictures - others).square().mean())))
