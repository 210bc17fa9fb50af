"""``cytoseg train-ddpm``: train the diffusion model on random crops of the slides."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from torch import Tensor
from torch.utils.data import Dataset

from cytoseg.commands.common import Overrides, RecipeArgument, Run, progress, say, start_run
from cytoseg.commands.pictures import save_grid, save_loss_curve
from cytoseg.devices import pick_device, tune_cpu_allocator
from cytoseg.diffusion.sample import ddim, starting_noise
from cytoseg.diffusion.schedule import alpha_bar
from cytoseg.diffusion.state import TrainState
from cytoseg.diffusion.train import StepReport, TrainSettings, train
from cytoseg.recipe import Recipe
from cytoseg.runs import read_metrics
from cytoseg.slides.crops import RandSlideCropd, SlideCrops, augmentation, find_tissue
from cytoseg.slides.open import find_slides

SAMPLE_STEPS = 50


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
) -> None:
    """Train the diffusion model on random crops of unlabelled slides.

    Writes checkpoints, metrics.jsonl, loss.png and samples.png into the run folder's ddpm/. Ctrl-C saves a checkpoint;
    --resume goes on from it with the same crops as if nothing had happened.
    """
    with start_run(recipe, overrides, command="train-ddpm") as current:
        folder = current.folder / "ddpm"
        begin = time.perf_counter()
        state, seen_before = _train(current, folder, go_on=resume)
        current.entry["crops_seen"] = state.crops_seen
        current.entry["crops_trained"] = state.crops_seen - seen_before
        if state.crops_seen > seen_before or not (folder / "samples.png").exists():
            _look(folder, state, current.recipe)
        minutes = (time.perf_counter() - begin) / 60
        say(f"Trained on {state.crops_seen} crops ({minutes:.1f} min now). See {folder / 'samples.png'} and loss.png.")


def tissue_crops(recipe: Recipe) -> RandSlideCropd:
    """Open the recipe's slides, find their cells, and give the transform that draws random tissue crops.

    Raises:
        SlideError: If slides are missing, damaged or too small.
    """
    paths = find_slides(recipe.slides.folders, include=recipe.slides.include, exclude=recipe.slides.exclude)
    sources = find_tissue(
        paths,
        size_px=recipe.crops.size_px,
        mpp=recipe.slides.mpp,
        assume_mpp=recipe.slides.assume_mpp,
        rule=recipe.slides.background.rule,
        threshold=recipe.slides.background.threshold,
    )
    say(f"{len(sources)} of {len(paths)} slides hold cells.")
    return RandSlideCropd(["image"], sources=sources, size_px=recipe.crops.size_px)


def training_crops(recipe: Recipe, crop: RandSlideCropd) -> Callable[[int], Dataset[Tensor]]:
    """Give the recipe's augmented crops from any number on.

    Args:
        recipe: Says how to augment, how many and the seed.
        crop: From ``tissue_crops``; to be closed by the caller.
    """
    steps = augmentation(flips=recipe.crops.flips, turns=recipe.crops.turns, jitter=recipe.crops.jitter)
    return lambda first: SlideCrops([crop, *steps], seed=recipe.training.seed, first=first, last=recipe.training.crops)


def settings_of(recipe: Recipe) -> TrainSettings:
    """Pick the training's settings out of a recipe."""
    t = recipe.training
    return TrainSettings(
        crops=t.crops,
        batch=t.batch,
        size_px=recipe.crops.size_px,
        rate=t.rate,
        rate_schedule=t.rate_schedule,
        warmup_crops=t.warmup_crops,
        ema_decay=t.ema_decay,
        clip_norm=t.clip_norm,
        precision=t.precision,
        seed=t.seed,
        checkpoint_crops=t.checkpoint_crops,
        workers=t.workers,
    )


def _train(current: Run, folder: Path, *, go_on: bool) -> tuple[TrainState, int]:
    recipe = current.recipe
    first: list[int] = []  # crops seen before the first step of this run
    device = pick_device(recipe.training.device)
    if device.type == "cpu":
        tune_cpu_allocator()
    begin = time.perf_counter()
    with (
        contextlib.closing(tissue_crops(recipe)) as crop,
        progress("crops", recipe.training.crops) as bar,
    ):

        def on_step(report: StepReport) -> None:
            if not first:
                first.append(report.crops_seen - recipe.training.batch)
            rate = (report.crops_seen - first[0]) / (time.perf_counter() - begin)
            bar.at(report.crops_seen, f"loss {report.loss:.4f}  {rate:.1f} crops/s")

        state = train(
            folder,
            recipe.architecture(),
            training_crops(recipe, crop),
            settings=settings_of(recipe),
            device=device,
            go_on=go_on,
            on_step=on_step,
        )
        bar.at(state.crops_seen)
    return state, first[0] if first else state.crops_seen


def _look(folder: Path, state: TrainState, recipe: Recipe) -> None:
    """Draw the loss curve and a grid of samples from the averaged weights."""
    save_loss_curve(folder / "loss.png", read_metrics(folder / "metrics.jsonl"))
    if not recipe.training.samples:
        return
    device = pick_device(recipe.training.device)
    noise = starting_noise(recipe.training.seed, recipe.training.samples, size_px=recipe.crops.size_px)
    table = alpha_bar(recipe.diffusion.schedule, recipe.diffusion.timesteps)
    steps = min(SAMPLE_STEPS, recipe.diffusion.timesteps)
    unet = state.ema.ema_model.to(device).eval()
    with progress("samples", steps) as bar:
        samples = ddim(
            unet, noise.to(device), alpha_bars=table, objective=recipe.diffusion.objective, steps=steps, on_step=bar.at
        )
    save_grid(folder / "samples.png", samples.cpu())
