"""``cytoseg sample``: samples of the diffusion model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor

from cytoseg.diffusion.sample_folder import ranges, sample_path
from cytoseg.errors import CytosegError
from cytoseg.workflows.drawn_samples import Sampler, draw_samples
from cytoseg.workflows.guidance import guidance_of
from cytoseg.workflows.recorded_command import Overrides, RecipeArgument, say, start_run
from cytoseg.workflows.run_pictures import save_grid

GRID = 64
"""Most samples in grid.png."""


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Number of samples.")] = 64,
    sampler: Annotated[
        Sampler, typer.Option("--sampler", help="ddim needs few steps; ddpm samples as in training.")
    ] = "ddim",
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="Network evaluations; default 50 for ddim, all timesteps for ddpm."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Sample i is a function of (seed, i).")] = 0,
    guide: Annotated[
        str | None,
        typer.Option("--guide", metavar="CLASS", help="Steer samples to have more of this class of the interpreter."),
    ] = None,
    scale: Annotated[
        float | None, typer.Option("--scale", help="How strongly to guide, above 0 and at most 10,000; default 1.")
    ] = None,
) -> None:
    """Draw samples from the diffusion model.

    Takes the averaged weights of the newest checkpoint and writes a PNG per sample and grid.png into the run folder's
    samples/. The same command again draws only missing samples, so --n may grow; with another sampler, seed, number
    of steps or checkpoint the samples go into a separate folder in samples/. Invalid images are not saved.

    With --guide the run's own interpreter judges each step: samples get more pixels of the class, and differ less from
    one another.
    """
    with start_run(recipe, overrides, command="sample") as current:
        guided = guidance_of(current.recipe, current.folder, guide, scale)
        drawn = draw_samples(current, n, sampler=sampler, steps=steps, seed=seed, guided=guided)
        _save_grid(drawn.folder, n)
        current.entry.update(samples=len(drawn.numbers), folder=drawn.folder.name)
        if drawn.faults:
            raise CytosegError(_complaint(drawn.faults, n, drawn.folder))
        say(f"{n} samples after {drawn.origin.crops_seen} crops. See {drawn.folder / 'grid.png'}.")


def _save_grid(folder: Path, n: int) -> None:
    """Save the first existing samples as one grid."""
    there = [path for path in (sample_path(folder, number) for number in range(n)) if path.exists()]
    if there:
        save_grid(folder / "grid.png", torch.stack([_read(path) for path in there[:GRID]]))


def _read(path: Path) -> Tensor:
    try:
        with Image.open(path) as picture:
            pixels = np.atleast_3d(np.array(picture if picture.mode == "L" else picture.convert("RGB")))
    except OSError as error:
        raise CytosegError(f"{path}: damaged ({error}). Remove it and give the command again.") from error
    return torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1.0


def _complaint(faults: Mapping[int, str], n: int, folder: Path) -> str:
    kinds = sorted(set(faults.values()))
    listed = "; ".join(f"{kind}: {ranges(i for i, fault in faults.items() if fault == kind)}" for kind in kinds)
    return (
        f"{folder}: {len(faults)} of {n} samples are not valid images and were not saved ({listed}). "
        "Train longer, or lower training.rate."
    )
