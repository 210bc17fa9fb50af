"""``cytoseg sample``: samples of the diffusion model."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, cast

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor, nn

from cytoseg.devices import pick_device, tune_cpu_allocator
from cytoseg.diffusion.sample import ddim, ddpm, noise_of
from cytoseg.diffusion.sample_check import fault_of
from cytoseg.diffusion.sample_folder import Origin, open_folder, ranges, sample_path
from cytoseg.diffusion.schedule import alpha_bar
from cytoseg.diffusion.state import load_backbone
from cytoseg.errors import CytosegError, RecipeError
from cytoseg.recipe import Recipe
from cytoseg.workflows.recorded_command import Bar, Overrides, RecipeArgument, progress, say, start_run
from cytoseg.workflows.run_pictures import save_grid

DDIM_STEPS = 50
GRID = 64
"""Most samples in grid.png."""

Sampler = Literal["ddim", "ddpm"]
Draw = Callable[[Sequence[int], Callable[[int], None]], Tensor]
"""From sample numbers and a step callback to (N, 3, H, W) on the CPU."""


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
) -> None:
    """Draw samples from the diffusion model.

    Takes the averaged weights of the newest checkpoint and writes a PNG per sample and grid.png into the run folder's
    samples/. The same command again draws only missing samples, so --n may grow; with another sampler, seed, number
    of steps or checkpoint the samples go into a separate folder in samples/. Invalid images are not saved.
    """
    with start_run(recipe, overrides, command="sample") as current:
        steps = _steps(current.recipe, sampler, steps)
        unet, _, backbone = load_backbone(current.folder / "ddpm", current.recipe.architecture())
        crops_seen, sha256 = cast(int, backbone["crops_seen"]), str(backbone["sha256"])
        origin = Origin(sampler, steps, seed, current.recipe.crops.size_px, crops_seen, sha256)
        folder = open_folder(current.folder / "samples", origin)
        batch = current.recipe.training.micro_batch or current.recipe.training.batch
        draw = _drawer(unet, origin, current.recipe)
        faults = _draw_missing(draw, folder, n=n, batch=batch, steps=steps)
        _save_grid(folder, n)
        current.entry.update(samples=n - len(faults), folder=folder.name)
        if faults:
            raise CytosegError(_complaint(faults, n, folder))
        say(f"{n} samples after {crops_seen} crops. See {folder / 'grid.png'}.")


def _steps(recipe: Recipe, sampler: Sampler, asked: int | None) -> int:
    timesteps = recipe.diffusion.timesteps
    if asked is None:
        return min(DDIM_STEPS, timesteps) if sampler == "ddim" else timesteps
    if asked > timesteps:
        raise RecipeError(f"--steps {asked}: the model has {timesteps} timesteps. Give at most that many.")
    return asked


def _drawer(unet: nn.Module, origin: Origin, recipe: Recipe) -> Draw:
    device = pick_device(recipe.training.device)
    if device.type == "cpu":
        tune_cpu_allocator()
    unet.to(device)
    bars, objective = alpha_bar(recipe.diffusion.schedule, recipe.diffusion.timesteps), recipe.diffusion.objective

    def draw(numbers: Sequence[int], on_step: Callable[[int], None]) -> Tensor:
        noises = (noise.to(device) for noise in noise_of(origin.seed, numbers, size_px=origin.size_px))
        if origin.sampler == "ddpm":
            drawn = ddpm(unet, noises, alpha_bars=bars, objective=objective, steps=origin.steps, on_step=on_step)
        else:
            drawn = ddim(unet, next(noises), alpha_bars=bars, objective=objective, steps=origin.steps, on_step=on_step)
        return drawn.cpu()

    return draw


def _draw_missing(draw: Draw, folder: Path, *, n: int, batch: int, steps: int) -> dict[int, str]:
    """Draw missing samples, ``batch`` at a time, which fits in memory because the training batch did.

    Returns:
        The numbers of failed samples, which were not saved, with the fault of each.
    """
    faults: dict[int, str] = {}
    missing = [number for number in range(n) if not sample_path(folder, number).exists()]
    there = n - len(missing)
    with progress("samples", n, done=there) as bar:
        for first in range(0, len(missing), batch):
            numbers = missing[first : first + batch]
            samples = draw(numbers, functools.partial(_note, bar, there + first, steps))
            for number, sample in zip(numbers, samples, strict=True):
                fault = fault_of(sample)
                if fault is None:
                    save_grid(sample_path(folder, number), sample[None])
                else:
                    faults[number] = fault
            bar.at(there + first + len(numbers))
    return faults


def _note(bar: Bar, done: int, steps: int, step: int) -> None:
    bar.at(done, f"step {step} of {steps}")


def _save_grid(folder: Path, n: int) -> None:
    """Save the first existing samples as one grid."""
    there = [path for path in (sample_path(folder, number) for number in range(n)) if path.exists()]
    if there:
        save_grid(folder / "grid.png", torch.stack([_read(path) for path in there[:GRID]]))


def _read(path: Path) -> Tensor:
    try:
        with Image.open(path) as picture:
            pixels = np.array(picture.convert("RGB"))
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
