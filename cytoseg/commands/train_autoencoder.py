"""``cytoseg train-autoencoder``: train the autoencoder of a latent space."""

import contextlib
import os
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.devices import pick_device
from cytoseg.diffusion.state import TrainState
from cytoseg.diffusion.train import Watch, train
from cytoseg.diffusion.train_plan import TrainPlan
from cytoseg.distributed import process_rank
from cytoseg.errors import RecipeError
from cytoseg.interrupts import PARENT_VARIABLE, TORCHRUN_VARIABLE, terminate_with_parent
from cytoseg.terminal import say
from cytoseg.workflows.autoencoder import AUTOENCODER_FOLDER, autoencoder_settings, draw_reconstructions
from cytoseg.workflows.launch import launch
from cytoseg.workflows.recorded_command import Overrides, RecipeArgument, Run, alone_in, start_run
from cytoseg.workflows.training_crops import tissue_crops, training_crops
from cytoseg.workflows.training_progress import shown_steps

SHOWN_CROPS = 8


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the newest checkpoint.")] = False,
    gpus: Annotated[int | None, typer.Option("--gpus", min=1, help="Number of GPUs of this machine.")] = None,
) -> None:
    """Train the autoencoder of a latent space, in which train-ddpm then works (space.kind kl or vq).

    Writes checkpoints, metrics.jsonl, loss.png and reconstructed.png into the run folder's autoencoder/. Ctrl-C saves
    a checkpoint; --resume continues from it exactly as without the interruption.
    """
    if gpus is not None:
        launch(["train-autoencoder", recipe, *(overrides or []), *(["--resume"] if resume else [])], gpus=gpus)
        return
    if TORCHRUN_VARIABLE in os.environ:
        terminate_with_parent(int(os.environ.get(PARENT_VARIABLE, os.getppid())))
    with (
        start_run(recipe, overrides, command="train-autoencoder") as current,
        alone_in(current.folder / AUTOENCODER_FOLDER),
    ):
        if not current.recipe.space.is_latent:
            raise RecipeError(
                "train-autoencoder: the recipe has no latent space. Write space: {kind: kl, factor: 2}, or continue "
                "with `cytoseg train-ddpm`."
            )
        begin = time.perf_counter()
        state, seen_before, ratio_db = _train(current, current.folder / AUTOENCODER_FOLDER, resume=resume)
        current.entry["crops_seen"] = state.crops_seen
        current.entry["crops_trained"] = state.crops_seen - seen_before
        if ratio_db is not None:
            minutes = (time.perf_counter() - begin) / 60
            picture = current.folder / AUTOENCODER_FOLDER / "reconstructed.png"
            say(
                f"Trained on {state.crops_seen} crops ({minutes:.1f} min now). Reconstruction of "
                f"{SHOWN_CROPS} crops: PSNR {ratio_db:.1f} dB. See {picture}."
            )


def _train(current: Run, folder: Path, *, resume: bool) -> tuple[TrainState, int, float | None]:
    """Train; return the final state, the crops seen before, and the PSNR of the shown crops, only in rank 0."""
    recipe = current.recipe
    device = pick_device(recipe.training.device)
    if device.type == "cpu":
        tune_cpu_allocator()
    settings = autoencoder_settings(recipe)
    with contextlib.closing(tissue_crops(recipe)) as crop:
        crops_from = training_crops(recipe, crop, last=settings.crops)
        # Crops that the training does not see.
        unseen = training_crops(recipe, crop, last=settings.crops + SHOWN_CROPS)(settings.crops)
        shown = torch.stack([unseen[number] for number in range(SHOWN_CROPS)])
        architecture = recipe.architecture().of_autoencoder()
        plan = TrainPlan(architecture, settings, recipe.model_dump(mode="json"), slides=crop.digest())
        with shown_steps(folder, plan, recipe) as (on_step, first_step):

            def draw(state: TrainState) -> None:
                draw_reconstructions(folder, state, recipe, shown)

            watch = Watch(on_step, say, draw, recipe.training.look_crops)
            state = train(folder, plan, crops_from, device=device, resume=resume, watch=watch)
    ratio_db = draw_reconstructions(folder, state, recipe, shown) if process_rank() == 0 else None
    return state, first_step[0] if first_step else state.crops_seen, ratio_db
