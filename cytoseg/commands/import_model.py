"""``cytoseg import-model``: read a published network as a checkpoint of ours."""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import typer

from cytoseg.checkpoints import save_checkpoint
from cytoseg.diffusion.architecture import Architecture, tap_names
from cytoseg.diffusion.guided_diffusion_files import GuidedDiffusion, read_guided_diffusion
from cytoseg.diffusion.state import TrainingRecord
from cytoseg.errors import CheckpointError
from cytoseg.leftovers import sweep_beside
from cytoseg.runs import versions
from cytoseg.terminal import say

TIMESTEPS = 1000
"""Timesteps of all published guided-diffusion networks for images of 256 px, with the linear schedule; not in the
file."""


def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .pt file, such as lsun_bedroom.pt.")],
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The new checkpoint.")],
    layout: Annotated[
        Literal["guided-diffusion"], typer.Option(help="Project whose tensor names the file uses.")
    ] = "guided-diffusion",
    image_size: Annotated[
        int, typer.Option(min=16, max=1024, help="Side in px of the images it was trained on.")
    ] = 256,
) -> None:
    """Write a published diffusion model as a checkpoint, for training.init in a recipe.

    No code in the file is executed, and nothing is downloaded. Widths, blocks and attention are inferred from the
    tensors; a file that does not fit is refused with the name of the tensor. A learned variance is kept.
    """
    sweep_beside(folder)
    _refuse_existing(folder)
    found = read_guided_diffusion(file)
    architecture = _architecture(found, file)
    state = _state(architecture, file, layout, image_size).as_json()
    # Checked again before writing: another import may have been quicker.
    save_checkpoint(folder, {"ema": found.weights}, state, add=lambda _: _refuse_existing(folder))
    millions = sum(tensor.numel() for tensor in found.weights.values()) / 1e6
    blocks = len(tap_names(architecture))
    say(f"{folder}: {millions:,.1f} million weights, {blocks} blocks (block0.output to block{blocks - 1}.output).")
    say(f"Set training.init: {folder} in a recipe; its features need no training: features.taps names the blocks.")


def _refuse_existing(folder: Path) -> None:
    if folder.exists():
        raise CheckpointError(f"{folder}: already exists. Choose a new folder for the checkpoint.")


def _architecture(found: GuidedDiffusion, file: Path) -> Architecture:
    shape = found.shape
    channels = shape.in_channels
    if channels not in (1, 3) or shape.out_channels not in (channels, 2 * channels):
        raise CheckpointError(
            f"{file}: takes {channels} channels and gives {shape.out_channels}; images here have 3, or 1 if grey, "
            "and a network that learns the variance gives twice as many. Take the model of another resolution."
        )
    return Architecture(
        backbone="adm",
        dim=shape.width,
        dim_mults=shape.mults,
        timesteps=TIMESTEPS,
        schedule="linear",
        objective="pred_noise",
        learn_variance=shape.out_channels == 2 * channels,
        channels=1 if channels == 1 else 3,
        adm=shape.settings,
    )


def _state(architecture: Architecture, file: Path, layout: str, image_size: int) -> TrainingRecord:
    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    return TrainingRecord(
        crops_seen=0,
        architecture=architecture.as_json(),
        versions=versions(),
        recipe={"crops": {"size_px": image_size}},
        started_from={"file": file.name, "layout": layout, "sha256": sha256},
    )
