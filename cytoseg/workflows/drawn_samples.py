"""Drawing the samples of a diffusion model that are not there yet."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from torch import Tensor, nn

from cytoseg.devices import pick_device, tune_cpu_allocator
from cytoseg.diffusion.add_noise import alpha_bar
from cytoseg.diffusion.failed_samples import fault_of
from cytoseg.diffusion.sample import ddim, ddpm, noise_of
from cytoseg.diffusion.sample_folder import Origin, open_folder, sample_path
from cytoseg.diffusion.space import decoded, space_of
from cytoseg.diffusion.state import load_backbone
from cytoseg.errors import RecipeError
from cytoseg.interpreter.guide import guide_by_interpreter
from cytoseg.recipe import Recipe
from cytoseg.workflows.asked_maps import AskedMaps
from cytoseg.workflows.guidance import Guidance
from cytoseg.workflows.recorded_command import Bar, Run, progress
from cytoseg.workflows.run_pictures import save_grid

DDIM_STEPS = 50

Sampler = Literal["ddim", "ddpm"]
Draw = Callable[[Sequence[int], Callable[[int], None]], Tensor]
"""From sample numbers and a step callback to (N, C, H, W) on the CPU."""


@dataclass(frozen=True)
class DrawnSamples:
    """Samples in a folder.

    Attributes:
        folder: Where they are.
        origin: Everything that determines them.
        numbers: The valid ones, ascending.
        faults: Why each of the others was not saved.
    """

    folder: Path
    origin: Origin
    numbers: tuple[int, ...]
    faults: dict[int, str]


def draw_samples(
    current: Run,
    n: int,
    *,
    sampler: Sampler,
    steps: int | None,
    seed: int,
    guided: Guidance | AskedMaps | None = None,
) -> DrawnSamples:
    """Draw samples 0 to n - 1 of the newest checkpoint, unless they are in the run folder's samples/ already.

    Args:
        current: The run.
        n: How many.
        sampler: Which sampler.
        steps: Network evaluations; by default 50 for ddim, all timesteps for ddpm.
        seed: Sample i is a function of (seed, i).
        guided: Steers the samples to a class or to class maps; None draws from the model alone.

    Raises:
        RecipeError: If there are more steps than timesteps.
        CheckpointError: If no diffusion model was trained.
        CytosegError: If the folder has other samples.
    """
    recipe = current.recipe
    steps = _steps(recipe, sampler, steps)
    unet, _, backbone = load_backbone(current.folder / "ddpm", recipe.architecture())
    crops_seen, sha256 = cast(int, backbone["crops_seen"]), str(backbone["sha256"])
    origin = Origin(sampler, steps, seed, recipe.crops.size_px, crops_seen, sha256)
    if isinstance(guided, Guidance):
        origin = replace(origin, guide=guided.class_id, scale=guided.scale, interpreter=guided.sha256)
    elif guided is not None:
        origin = replace(origin, maps=guided.sha256, scale=guided.scale, interpreter=guided.interpreter)
    folder = open_folder(current.folder / "samples", origin)
    batch = recipe.training.micro_batch or recipe.training.batch
    faults = _draw_missing(_drawer(unet, origin, recipe, guided), folder, n=n, batch=batch, steps=steps)
    return DrawnSamples(folder, origin, tuple(i for i in range(n) if i not in faults), faults)


def _steps(recipe: Recipe, sampler: Sampler, asked: int | None) -> int:
    timesteps = recipe.diffusion.timesteps
    if asked is None:
        return min(DDIM_STEPS, timesteps) if sampler == "ddim" else timesteps
    if asked > timesteps:
        raise RecipeError(f"--steps {asked}: the model has {timesteps} timesteps. Give at most that many.")
    return asked


def _drawer(unet: nn.Module, origin: Origin, recipe: Recipe, guided: Guidance | AskedMaps | None) -> Draw:
    device = pick_device(recipe.training.device)
    if device.type == "cpu":
        tune_cpu_allocator()
    unet.to(device)
    bars, objective = alpha_bar(recipe.diffusion.schedule, recipe.diffusion.timesteps), recipe.diffusion.objective
    how: dict[str, Any] = {"alpha_bars": bars, "objective": objective}
    space = space_of(unet)
    guide = None
    if isinstance(guided, Guidance):
        guide = guide_by_interpreter(guided.bundle, guided.class_id, unet, scale=guided.scale, **how)

    def draw(numbers: Sequence[int], on_step: Callable[[int], None]) -> Tensor:
        on_cpu = noise_of(origin.seed, numbers, size_px=origin.size_px // space.factor, channels=space.channels)
        noises = (noise.to(device) for noise in on_cpu)
        network, steering = guided.steer(unet, numbers, **how) if isinstance(guided, AskedMaps) else (unet, guide)
        further: dict[str, Any] = {"steps": origin.steps, "guide": steering, "on_step": on_step, "limit": space.limit}
        if origin.sampler == "ddpm":
            return decoded(space, ddpm(network, noises, **how, **further))
        return decoded(space, ddim(network, next(noises), **how, **further))

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
