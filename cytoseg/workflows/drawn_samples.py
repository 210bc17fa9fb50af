"""Drawing the missing samples of a diffusion model."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.devices import pick_device
from cytoseg.diffusion.add_noise import alpha_bar
from cytoseg.diffusion.class_map import MapConditioned
from cytoseg.diffusion.failed_samples import fault_of
from cytoseg.diffusion.sample import ddim, ddpm, noise_of
from cytoseg.diffusion.sample_folder import SampleOrigin, open_folder, sample_path, source_of
from cytoseg.diffusion.settings import DiffusionSection
from cytoseg.diffusion.space import decoded, space_of
from cytoseg.diffusion.state import load_backbone
from cytoseg.errors import CytosegError, RecipeError
from cytoseg.interpreter.guide import guide_by_interpreter
from cytoseg.recipe import Recipe
from cytoseg.slides.generated_mark import GeneratedMark, drawn_mark
from cytoseg.terminal import Bar, progress
from cytoseg.workflows.backbone import refuse_without_denoising
from cytoseg.workflows.guidance import Guidance
from cytoseg.workflows.recorded_command import Run
from cytoseg.workflows.requested_maps import RequestedMaps
from cytoseg.workflows.run_pictures import save_grid
from cytoseg.workflows.upsampling import SmallKind, reduced_real_crops, sample_inputs, small_image_model

DDIM_STEPS = 50
SMALL = "small"
"""Folder of small images, beside the samples made from them."""

Sampler = Literal["ddim", "ddpm"]
Draw = Callable[[Sequence[int], Callable[[int], None]], Tensor]
"""From sample numbers and a step callback to (N, C, H, W) on the CPU."""


@dataclass(frozen=True)
class Drawing:
    """How samples are drawn.

    Attributes:
        sampler: Which sampler.
        steps: Network evaluations; None for 50 with ddim, all timesteps with ddpm.
        seed: Sample i is a function of (seed, i).
        guided: Steers the samples to a class or to class maps; None draws from the model alone.
        small: Source of small images for a model that enlarges them; None for its ``upsample_from``, if there is one.
    """

    sampler: Sampler
    steps: int | None
    seed: int
    guided: Guidance | RequestedMaps | None = None
    small: SmallKind | None = None


@dataclass(frozen=True)
class DrawnSamples:
    """Samples in a folder.

    Attributes:
        folder: Their folder.
        origin: Everything that determines them.
        numbers: The valid ones, ascending.
        faults: Why the others were not saved, one reason each.
        small: Folder of the small images that they were made from; None if from noise alone.
    """

    folder: Path
    origin: SampleOrigin
    numbers: tuple[int, ...]
    faults: dict[int, str]
    small: Path | None = None


def draw_samples(current: Run, n: int, drawing: Drawing) -> DrawnSamples:
    """Draw samples 0 to n - 1 of the newest checkpoint, unless they are in the run folder's samples/ already.

    Args:
        current: The run.
        n: How many.
        drawing: How to draw them.

    Raises:
        RecipeError: If there are more steps than timesteps, or the small images do not fit the model.
        CheckpointError: If no diffusion model was trained or it cannot denoise, or that of the small images is missing.
        CytosegError: If the folder has other samples.
    """
    recipe, guided = current.recipe, drawing.guided
    steps = _steps(recipe.diffusion, drawing)
    refuse_without_denoising(current.folder / "ddpm")
    with _small_image_source(recipe, drawing) as small:
        unet, _, backbone = load_backbone(current.folder / "ddpm", recipe.architecture())
        crops_seen, sha256 = cast(int, backbone["crops_seen"]), str(backbone["sha256"])
        origin = SampleOrigin(drawing.sampler, steps, drawing.seed, recipe.crops.size_px, crops_seen, sha256)
        if isinstance(guided, Guidance):
            origin = replace(origin, guide=guided.class_id, scale=guided.scale, interpreter=guided.sha256)
        elif guided is not None:
            origin = replace(origin, maps=guided.sha256, scale=guided.scale, interpreter=guided.interpreter)
        if small is not None:
            origin = replace(origin, small=small.sha256)
        folder = open_folder(current.folder / "samples", origin)
        batch = recipe.training.micro_batch or recipe.training.batch
        failed, given = {}, None
        if small is not None:
            failed = _draw_missing(small.draw, folder / SMALL, range(n), batch=batch, made=small.made)
            given = functools.partial(_given, folder / SMALL, recipe, drawing)
    draw = _drawer(unet, origin, recipe, guided, given)
    wanted = [number for number in range(n) if number not in failed]
    faults = failed | _draw_missing(draw, folder, wanted, batch=batch, made=mark_of(origin), steps=steps)
    valid = tuple(i for i in range(n) if i not in faults)
    return DrawnSamples(folder, origin, valid, faults, None if small is None else folder / SMALL)


def mark_of(origin: SampleOrigin) -> GeneratedMark:
    """Return the mark of samples in their files."""
    return drawn_mark(source_of(origin))


def read_sample(path: Path) -> Tensor:
    """Read a sample, (C, H, W) in [-1, 1].

    Raises:
        CytosegError: If it is missing or damaged.
    """
    try:
        if not path.is_file():  # opening a pipe would block
            raise OSError("no file")
        with Image.open(path) as picture:
            pixels = np.atleast_3d(np.array(picture if picture.mode == "L" else picture.convert("RGB")))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CytosegError(f"{path}: damaged ({error}). Remove it and run the command again.") from error
    return torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1.0


@dataclass(frozen=True)
class _Small:
    sha256: str
    draw: Draw
    made: GeneratedMark | None = None


@contextlib.contextmanager
def _small_image_source(recipe: Recipe, drawing: Drawing) -> Iterator[_Small | None]:
    """Open the source of small images of a model that enlarges them; None for any other model."""
    network = recipe.diffusion
    if network.upsample_from is None and network.upsample == 1:
        if drawing.small is not None:
            raise RecipeError(f"--small {drawing.small}: the model of this run does not enlarge images. Omit --small.")
        yield None
        return
    if _are_drawn(recipe, drawing):
        if network.upsample_from is None:
            raise RecipeError("--small run: diffusion.upsample_from names no run. Name one, or use --small crops.")
        found = small_image_model(recipe, network.upsample_from)
        asked = None if drawing.steps is None else min(drawing.steps, found.architecture.timesteps)
        steps = _steps(found.architecture, replace(drawing, steps=asked))
        origin = SampleOrigin(drawing.sampler, steps, drawing.seed, found.size_px, 0, found.sha256)
        device = pick_device(recipe.training.device)
        yield _Small(found.sha256, _draw_with(found.unet.to(device), origin, found.architecture), mark_of(origin))
        return
    with reduced_real_crops(recipe, drawing.seed) as (sha256, cut):
        yield _Small(sha256, lambda numbers, _on_step: cut(numbers))


def _are_drawn(recipe: Recipe, drawing: Drawing) -> bool:
    if drawing.small is None:
        return recipe.diffusion.upsample_from is not None
    return drawing.small == "run"


def _given(folder: Path, recipe: Recipe, drawing: Drawing, numbers: Sequence[int]) -> Tensor:
    """Read the small images of samples as input of the network."""
    small = torch.stack([read_sample(sample_path(folder, number)) for number in numbers])
    return sample_inputs(numbers, small, recipe, seed=drawing.seed, drawn=_are_drawn(recipe, drawing))


def _steps(network: DiffusionSection, drawing: Drawing) -> int:
    timesteps, asked = network.timesteps, drawing.steps
    if asked is None:
        return min(DDIM_STEPS, timesteps) if drawing.sampler == "ddim" else timesteps
    if asked > timesteps:
        raise RecipeError(f"--steps {asked}: the model has {timesteps} timesteps. Give at most that many.")
    return asked


def _drawer(
    unet: nn.Module,
    origin: SampleOrigin,
    recipe: Recipe,
    guided: Guidance | RequestedMaps | None,
    given: Callable[[Sequence[int]], Tensor] | None,
) -> Draw:
    """Return the function that draws samples of the run's model, from their small images if it enlarges them."""
    device = pick_device(recipe.training.device)
    if device.type == "cpu":
        tune_cpu_allocator()
    unet.to(device)

    def draw(numbers: Sequence[int], on_step: Callable[[int], None]) -> Tensor:
        network = unet if given is None else MapConditioned(unet, given(numbers).to(device), scale=1.0)
        return _draw_with(network, origin, recipe.diffusion, guided)(numbers, on_step)

    return draw


def _draw_with(
    unet: nn.Module, origin: SampleOrigin, network: DiffusionSection, guided: Guidance | RequestedMaps | None = None
) -> Draw:
    how: dict[str, Any] = {
        "alpha_bars": alpha_bar(network.schedule, network.timesteps),
        "objective": network.objective,
    }
    space, device = space_of(unet), next(unet.parameters()).device

    def draw(numbers: Sequence[int], on_step: Callable[[int], None]) -> Tensor:
        on_cpu = noise_of(origin.seed, numbers, size_px=origin.size_px // space.factor, channels=space.channels)
        noises = (noise.to(device) for noise in on_cpu)
        drawing, steering = unet, None
        if isinstance(guided, RequestedMaps):
            drawing, steering = guided.steer(unet, numbers, **how)
        elif guided is not None:
            steering = guide_by_interpreter(guided.bundle, guided.class_id, unet, scale=guided.scale, **how)
        further: dict[str, Any] = {"steps": origin.steps, "guide": steering, "on_step": on_step, "limit": space.limit}
        if origin.sampler == "ddpm":
            return decoded(space, ddpm(drawing, noises, **how, **further))
        return decoded(space, ddim(drawing, next(noises), **how, **further))

    return draw


def _draw_missing(
    draw: Draw, folder: Path, wanted: Sequence[int], *, batch: int, made: GeneratedMark | None, steps: int | None = None
) -> dict[int, str]:
    """Draw missing samples, ``batch`` at a time, which fits in memory because the training batch did.

    Returns:
        The numbers of failed samples, which were not saved, with the fault of each.
    """
    faults: dict[int, str] = {}
    folder.mkdir(exist_ok=True)
    missing = [number for number in wanted if not sample_path(folder, number).exists()]
    there = len(wanted) - len(missing)
    title = "small images" if folder.name == SMALL else "samples"
    with progress(title, len(wanted), done=there) as bar:
        for first in range(0, len(missing), batch):
            numbers = missing[first : first + batch]
            samples = draw(numbers, functools.partial(_note, bar, there + first, len(numbers), steps))
            for number, sample in zip(numbers, samples, strict=True):
                fault = fault_of(sample)
                if fault is None:
                    save_grid(sample_path(folder, number), sample[None], made=made)
                else:
                    faults[number] = fault
            bar.update(there + first + len(numbers))
    return faults


def _note(bar: Bar, done: int, batch: int, steps: int | None, step: int) -> None:
    if steps is None:
        bar.update(done, f"step {step}")
    else:
        bar.update(done, f"step {step} of {steps}", part=batch * step / steps)
