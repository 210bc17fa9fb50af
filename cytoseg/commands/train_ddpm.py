"""``cytoseg train-ddpm``: train the diffusion model on random crops of the slides."""

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.devices import pick_device
from cytoseg.diffusion.state import TrainState
from cytoseg.diffusion.train import Watch, train
from cytoseg.diffusion.train_plan import TrainPlan
from cytoseg.distributed import process_rank
from cytoseg.interrupts import PARENT_VARIABLE, TORCHRUN_VARIABLE, terminate_with_parent
from cytoseg.recipe import Recipe
from cytoseg.terminal import say
from cytoseg.workflows.autoencoder import starting_autoencoder
from cytoseg.workflows.feature_check import CHECK_FILES, Picture, check_after_training, tissue_pictures
from cytoseg.workflows.labelled_sources import source_parts
from cytoseg.workflows.launch import launch
from cytoseg.workflows.map_source import crop_maps
from cytoseg.workflows.preview_provenance import is_shown, note_shown, weights_of
from cytoseg.workflows.recorded_command import Overrides, RecipeArgument, Run, alone_in, start_run
from cytoseg.workflows.training_crops import settings_of, tissue_crops, training_crops
from cytoseg.workflows.training_previews import DENOISED_CROPS, draw_previews, existing_previews
from cytoseg.workflows.training_progress import shown_steps
from cytoseg.workflows.upsampling import upsampling_inputs


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the newest checkpoint.")] = False,
    init: Annotated[Path | None, typer.Option("--init", help="Base model by name, or another run's ddpm/.")] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", min=1, help="Number of GPUs of this machine.")] = None,
) -> None:
    """Train the diffusion model on random crops of unlabelled slides.

    Writes checkpoints, metrics.jsonl, loss.png, denoised.png and samples.png into the run folder's ddpm/. Ctrl-C saves
    a checkpoint; --resume continues from it exactly as without the interruption. At the end the features are checked
    as in `doctor RECIPE`, with results in check/. On several machines start it with torchrun: torchrun --nnodes 2
    --nproc-per-node 4 ... -m cytoseg train-ddpm RECIPE.
    """
    if gpus is not None:
        options = [*(["--resume"] if resume else []), *(["--init", str(init)] if init else [])]
        launch(["train-ddpm", recipe, *(overrides or []), *options], gpus=gpus)
        return
    if TORCHRUN_VARIABLE in os.environ:
        terminate_with_parent(int(os.environ.get(PARENT_VARIABLE, os.getppid())))
    given = [f"training.init={json.dumps(str(init))}"] if init else []  # quoted, because a path may look like a number
    with (
        start_run(recipe, [*(overrides or []), *given], command="train-ddpm") as current,
        alone_in(current.folder / "ddpm"),
    ):
        begin = time.perf_counter()
        state, seen_before, pictures = _train(current, current.folder / "ddpm", resume=resume)
        current.entry["crops_seen"] = state.crops_seen
        current.entry["crops_trained"] = state.crops_seen - seen_before
        trained_s = time.perf_counter() - begin
        seen = ", ".join(str(path) for path in existing_previews(current.folder / "ddpm", current.recipe))
        say(f"Trained on {state.crops_seen} crops ({trained_s / 60:.1f} min now). See {seen}.")
        if process_rank() == 0:
            _check(current, pictures, trained_s=trained_s)


def _check(current: Run, pictures: list[Picture], *, trained_s: float) -> None:
    """Check the features, unless done for these weights; remove an outdated check first."""
    folder, check = current.folder / "ddpm", current.folder / "check"
    weights = weights_of(folder)
    if is_shown(folder, "check", weights) and (check / "check.md").exists():
        return
    for name in CHECK_FILES:
        (check / name).unlink(missing_ok=True)
    check_after_training(current.recipe, current.folder, pictures, trained_s=trained_s)
    note_shown(folder, "check", weights)


def _train(current: Run, folder: Path, *, resume: bool) -> tuple[TrainState, int, list[Picture]]:
    """Train; return the final state, the crops seen before, and tissue crops for the feature check."""
    recipe = current.recipe
    device = pick_device(recipe.training.device)
    if device.type == "cpu":
        tune_cpu_allocator()
    small = upsampling_inputs(recipe)
    with contextlib.closing(tissue_crops(recipe)) as crop:
        crops_from = training_crops(recipe, crop)
        shown = torch.stack([crops_from(0)[number] for number in range(DENOISED_CROPS)])
        pictures = tissue_pictures(recipe, crop)
        maps = crop_maps(recipe, current.folder, device=device)
        plan = TrainPlan(
            recipe.architecture(),
            settings_of(recipe),
            recipe.model_dump(mode="json"),
            recipe.training.init,
            crop.digest(),
            source_parts(recipe),
            small or maps,
            maps.sha256 if maps else "",
            starting_autoencoder(recipe),
        )
        with shown_steps(folder, plan, recipe) as (on_step, first_step):
            state = train(
                folder,
                plan,
                crops_from,
                device=device,
                resume=resume,
                watch=Watch(
                    on_step, say, lambda state: draw_previews(folder, state, recipe, shown), recipe.training.look_crops
                ),
            )
    seen_before = first_step[0] if first_step else state.crops_seen
    if process_rank() == 0:
        _draw_last_previews(folder, state, recipe, shown)
    return state, seen_before, pictures


def _draw_last_previews(folder: Path, state: TrainState, recipe: Recipe, crops: Tensor) -> None:
    """Draw the images, unless they exist for these weights: a kill may have come before drawing."""
    weights = weights_of(folder)
    there = all(path.exists() for path in (folder / "loss.png", folder / "denoised.png"))
    if not (there and is_shown(folder, "pictures", weights)):
        draw_previews(folder, state, recipe, crops, patience_s=None)
        note_shown(folder, "pictures", weights)
