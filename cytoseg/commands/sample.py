"""``cytoseg sample``: samples of the diffusion model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch.nn import functional

from cytoseg.diffusion.channels import as_channels
from cytoseg.diffusion.sample_folder import ranges, sample_path
from cytoseg.errors import CytosegError, RecipeError
from cytoseg.terminal import say
from cytoseg.workflows.drawn_samples import Drawing, DrawnSamples, Sampler, draw_samples, mark_of, read_sample
from cytoseg.workflows.guidance import guidance_of
from cytoseg.workflows.recorded_command import Overrides, RecipeArgument, start_run
from cytoseg.workflows.requested_maps import RequestedMaps, requested_maps
from cytoseg.workflows.run_pictures import save_grid
from cytoseg.workflows.upsampling import SmallKind

GRID = 64
"""Most samples in grid.png."""
DEFAULT_N = 64


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    n: Annotated[
        int | None, typer.Option("--n", min=1, help="Number of samples; default 64, or one for each map.")
    ] = None,
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
        float | None,
        typer.Option("--scale", help="How strongly to follow a class (0 to 10,000; default 1) or maps."),
    ] = None,
    maps: Annotated[
        Path | None,
        typer.Option("--maps", help="Folder of class maps to draw: images of class ids, or labelme files."),
    ] = None,
    small: Annotated[
        SmallKind | None,
        typer.Option("--small", help="Small images to enlarge: drawn by diffusion.upsample_from, or real crops."),
    ] = None,
) -> None:
    """Draw samples from the diffusion model.

    Takes the averaged weights of the newest checkpoint and writes a PNG per sample and grid.png into the run folder's
    samples/. The same command again draws only missing samples, so --n may grow; with another sampler, seed, number
    of steps or checkpoint the samples go into a separate folder in samples/. Invalid images are not saved.

    With --guide the run's interpreter steers each step: samples have more pixels of the class, and vary less.

    With --maps sample i shows map i of the folder: from the map itself if the model was trained with
    diffusion.condition=map, otherwise guided by the run's interpreter. maps.png shows each map beside its sample.

    A model with diffusion.upsample_from enlarges images that the run of that name draws first with the same sampler and
    seed, or, with --small crops, reduced real crops. small.png shows each small image beside its sample.
    """
    with start_run(recipe, overrides, command="sample") as current:
        if guide is not None and maps is not None:
            raise RecipeError("--guide and --maps: a map already sets the class of every pixel. Give one of them.")
        asked = requested_maps(current.recipe, current.folder, maps, scale)
        guided = asked or guidance_of(current.recipe, current.folder, guide, scale)
        n = n or (DEFAULT_N if asked is None else len(asked))
        drawn = draw_samples(current, n, Drawing(sampler, steps, seed, guided, small))
        picture = _save_grids(drawn, n, asked, current.recipe.class_list().colour_table())
        current.entry.update(samples=len(drawn.numbers), folder=drawn.folder.name)
        if drawn.faults:
            raise CytosegError(_complaint(drawn.faults, n, drawn.folder))
        say(f"{n} samples after {drawn.origin.crops_seen} crops. See {picture}.")


def _save_grids(drawn: DrawnSamples, n: int, asked: RequestedMaps | None, colours: NDArray[np.uint8]) -> Path:
    """Save the grids that apply; return the most informative one."""
    _save_grid(drawn, n)
    if asked is not None:
        _save_beside_maps(drawn, n, asked, colours)
    if drawn.small is not None:
        _save_beside_small(drawn, drawn.small, n)
    return drawn.folder / ("maps.png" if asked else "small.png" if drawn.small else "grid.png")


def _save_grid(drawn: DrawnSamples, n: int) -> None:
    """Save the first existing samples as one grid."""
    folder = drawn.folder
    there = [path for path in (sample_path(folder, number) for number in range(n)) if path.exists()]
    if there:
        save_grid(
            folder / "grid.png", torch.stack([read_sample(path) for path in there[:GRID]]), made=mark_of(drawn.origin)
        )


def _save_beside_maps(drawn: DrawnSamples, n: int, asked: RequestedMaps, colours: NDArray[np.uint8]) -> None:
    """Save the first existing samples, each beside its map."""
    folder = drawn.folder
    there = [number for number in range(n) if sample_path(folder, number).exists()][:GRID]
    if there:
        maps = torch.from_numpy(colours[asked.of(there).numpy()]).permute(0, 3, 1, 2) / 127.5 - 1.0
        samples = as_channels(torch.stack([read_sample(sample_path(folder, number)) for number in there]), 3)
        pairs = torch.stack([maps, samples], dim=1).flatten(0, 1)
        columns = 2 * int(np.ceil(np.sqrt(len(there) / 2)))
        save_grid(folder / "maps.png", pairs, columns=columns, made=mark_of(drawn.origin))


def _save_beside_small(drawn: DrawnSamples, small: Path, n: int) -> None:
    """Save the first existing samples, each beside the small image that it was made from."""
    folder = drawn.folder
    there = [number for number in range(n) if sample_path(folder, number).exists()][:GRID]
    if there:
        samples = torch.stack([read_sample(sample_path(folder, number)) for number in there])
        before = torch.stack([read_sample(sample_path(small, number)) for number in there])
        large = functional.interpolate(before, size=samples.shape[2:], mode="nearest")
        pairs = torch.stack([large, samples], dim=1).flatten(0, 1)
        columns = 2 * int(np.ceil(np.sqrt(len(there) / 2)))
        save_grid(folder / "small.png", pairs, columns=columns, made=mark_of(drawn.origin))


def _complaint(faults: Mapping[int, str], n: int, folder: Path) -> str:
    kinds = sorted(set(faults.values()))
    listed = "; ".join(f"{kind}: {ranges(i for i, fault in faults.items() if fault == kind)}" for kind in kinds)
    return (
        f"{folder}: {len(faults)} of {n} samples are not valid images and were not saved ({listed}). "
        "Train longer, or lower training.rate."
    )
