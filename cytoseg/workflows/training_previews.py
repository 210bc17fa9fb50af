"""Training previews: samples, denoised crops, loss curve, TensorBoard."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cytoseg.devices import pick_device
from cytoseg.diffusion.add_noise import add_noise, alpha_bar
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.channels import as_channels
from cytoseg.diffusion.class_map import MapConditioned
from cytoseg.diffusion.network_output import split_output
from cytoseg.diffusion.sample import ddim, predict_x0_and_noise, starting_noise
from cytoseg.diffusion.space import decoded, space_of
from cytoseg.diffusion.state import TrainState
from cytoseg.diffusion.train_steps import StepReport
from cytoseg.diffusion.upsampling import noiseless_input, shrink
from cytoseg.drawing.pictures import is_noise_file
from cytoseg.errors import RecipeError
from cytoseg.recipe import Recipe
from cytoseg.runs import read_metrics
from cytoseg.seeds import generator_for
from cytoseg.slides.generated_mark import drawn_mark
from cytoseg.terminal import progress, say
from cytoseg.workflows.run_pictures import save_grid, save_loss_curve

SAMPLE_STEPS = 50
PATIENCE_S = 600.0
"""Timeout of samples during a training, because other processes wait for them."""
DENOISED_CROPS = 6


def draw_previews(
    folder: Path, state: TrainState, recipe: Recipe, crops: Tensor, *, patience_s: float | None = PATIENCE_S
) -> None:
    """Draw loss.png, denoised.png and samples.png from the averaged weights.

    Args:
        folder: The run's ``ddpm`` folder.
        state: The state of the training.
        recipe: The recipe, with the number of samples and feature timesteps.
        crops: (N, 3, H, W) in [-1, 1], to noise and denoise.
        patience_s: Timeout of the samples in seconds, reported in a sentence; None for no limit.
    """
    save_loss_curve(folder / "loss.png", read_metrics(folder / "metrics.jsonl"))
    device, factor, count = pick_device(recipe.training.device), recipe.diffusion.upsample, recipe.training.samples
    unet = state.ema.ema_model.to(device).eval()
    if factor > 1:  # a sample for each crop, from its small image
        small = shrink(as_channels(crops, recipe.diffusion.channels), factor)
        unet, count = (
            MapConditioned(unet, noiseless_input(small, factor).to(device), scale=1.0),
            min(count, 1) * len(crops),
        )
    save_denoised(folder / "denoised.png", unet, crops, recipe)
    if count:
        save_samples(folder / "samples.png", unet, recipe, count=count, patience_s=patience_s)


def existing_previews(folder: Path, recipe: Recipe) -> list[Path]:
    """List the existing images of ``draw_previews`` for this recipe, without samples that are still noise.

    Args:
        folder: The run's ``ddpm`` folder.
        recipe: The recipe.
    """
    names = ("denoised.png", "loss.png", *(["samples.png"] if recipe.training.samples else []))
    there = [folder / name for name in names if (folder / name).exists()]
    return [path for path in there if path.name != "samples.png" or not is_noise_file(path)]


def save_samples(path: Path, unet: torch.nn.Module, recipe: Recipe, *, count: int, patience_s: float | None) -> None:
    """Save a grid of ``count`` samples, unless it takes too long."""
    end = time.monotonic() + patience_s if patience_s is not None else math.inf
    space = space_of(unet)
    side = recipe.crops.size_px // space.factor
    noise = starting_noise(recipe.training.seed, count, size_px=side, channels=space.channels)
    steps = min(SAMPLE_STEPS, recipe.diffusion.timesteps)
    parts = torch.split(noise, _together(recipe))
    drawn: list[Tensor] = []
    with progress("samples", steps * len(parts)) as bar:

        def on_step(done: int) -> None:
            bar.update(steps * len(drawn) + done)
            if time.monotonic() > end and steps * len(drawn) + done < steps * len(parts):
                raise TimeoutError

        try:
            for part in parts:
                samples = ddim(
                    unet,
                    part.to(pick_device(recipe.training.device)),
                    alpha_bars=alpha_bar(recipe.diffusion.schedule, recipe.diffusion.timesteps),
                    objective=recipe.diffusion.objective,
                    steps=steps,
                    limit=space.limit,
                    on_step=on_step,
                )
                drawn.append(decoded(space, samples))
        except TimeoutError:
            say(
                f"Drawing samples was stopped after {patience_s:.0f} s: the training waits for them. Lower "
                "training.samples."
            )
            return
    save_grid(path, torch.cat(drawn), made=drawn_mark(f"samples during the training of {recipe.name}"))


def _together(recipe: Recipe) -> int:
    """Return how many samples are drawn at once: a pass of the training fitted in memory, and denoised.png does."""
    return max(DENOISED_CROPS, recipe.training.micro_batch or recipe.training.batch)


@torch.inference_mode()
def save_denoised(path: Path, unet: torch.nn.Module, crops: Tensor, recipe: Recipe) -> None:
    """Save denoised crops: a row per crop, x_t and predicted x0 per timestep, x0 at the end.

    The timesteps are those of the features: a network that cannot see a cell there has no features of it.
    """
    device, space = pick_device(recipe.training.device), space_of(unet)
    x0 = space.encode(crops.to(device))
    eps = torch.randn(x0.shape, generator=generator_for(recipe.training.seed, 0, what="denoised")).to(device)
    bars = alpha_bar(recipe.diffusion.schedule, recipe.diffusion.timesteps)
    columns = []
    for t in recipe.feature_timesteps():
        xt = add_noise(x0, float(bars[t]), eps)
        output, _ = split_output(unet(xt, torch.full((len(xt),), t, device=device)).float(), channels=xt.shape[1])
        seen, _ = predict_x0_and_noise(
            output, xt, bars[t].to(xt), objective=recipe.diffusion.objective, limit=space.limit
        )
        columns += [xt, seen]
    grid = torch.stack([*columns, x0], dim=1)
    made = drawn_mark(f"denoised crops, {recipe.name}")
    save_grid(path, decoded(space, grid.flatten(0, 1)), columns=grid.shape[1], made=made)


@contextlib.contextmanager
def tensorboard_log(folder: Path, recipe: Recipe, architecture: Architecture) -> Iterator[Callable[[StepReport], None]]:
    """Return a function that logs a step to TensorBoard, if the recipe enables it.

    Raises:
        RecipeError: If TensorBoard is not installed.
    """
    if recipe.training.track == "none":
        yield lambda _: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise RecipeError(
            "training.track=tensorboard: TensorBoard is not installed. pip install 'cytoseg[track]'."
        ) from None
    writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def log(report: StepReport) -> None:
        if report.reading is None:
            return
        writer.add_scalar("loss", report.reading.mean, report.crops_seen)
        if report.reading.mean_masks is not None:
            writer.add_scalar(architecture.other_loss, report.reading.mean_masks, report.crops_seen)
        writer.add_scalar("rate", report.rate, report.crops_seen)
        if architecture.part == "autoencoder":
            return
        for name, loss in report.reading.by_timestep(architecture.timesteps).items():
            writer.add_scalar(f"loss by t/{name}", loss, report.crops_seen)

    with contextlib.closing(writer):
        yield log
