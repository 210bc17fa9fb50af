"""The training loop: resuming, logging, checkpoints and stopping."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import Dataset

from cytoseg.checkpoints import find_checkpoints
from cytoseg.diffusion.adm import with_map_channels
from cytoseg.diffusion.architecture import Architecture, check_same, start_architecture
from cytoseg.diffusion.settings import crosses_multiple
from cytoseg.diffusion.space import load_space, measure_scale
from cytoseg.diffusion.state import (
    TrainingRecord,
    TrainState,
    changed_values,
    load_autoencoder,
    load_backbone,
    load_weights,
    prune,
    resume_from_newest,
    save,
)
from cytoseg.diffusion.train_plan import TrainPlan
from cytoseg.diffusion.train_steps import StepReport, new_accelerator, new_state, train_steps
from cytoseg.diffusion.unet import start_from_imagenet
from cytoseg.errors import CheckpointError, CytosegError, SlideError
from cytoseg.interrupts import Interrupt, finish_step_on_interrupt
from cytoseg.leftovers import sweep
from cytoseg.runs import MetricsLog
from cytoseg.shipped import find_base_model

SCALE_CROPS = 64
"""Crops on which the scale of latents is measured; a first batch may be all glass."""


@dataclass(frozen=True)
class Watch:
    """Callbacks of a training; called only in rank 0.

    Attributes:
        on_step: Called after every step.
        on_note: Called with messages: a skipped damaged checkpoint, a changed recipe.
        on_preview: Called with the state every ``preview_crops`` crops, to draw samples.
        preview_crops: Interval in crops; None for never.
    """

    on_step: Callable[[StepReport], None] = lambda _: None
    on_note: Callable[[str], None] = lambda _: None
    on_preview: Callable[[TrainState], None] = lambda _: None
    preview_crops: int | None = None


def train(
    folder: Path,
    plan: TrainPlan,
    crops_from: Callable[[int], Dataset[Tensor]],
    *,
    device: torch.device,
    resume: bool,
    watch: Watch | None = None,
) -> TrainState:
    """Train to the full length, saving checkpoints and ``metrics.jsonl`` in a folder.

    Ctrl-C, SIGTERM or SIGHUP finishes the step, saves a checkpoint and raises KeyboardInterrupt.

    Args:
        folder: Folder of checkpoints and log.
        plan: The training plan.
        crops_from: Returns the crops from a number on.
        device: Training device.
        resume: Resume from the newest intact checkpoint if there is one.
        watch: Callbacks.

    Returns:
        The final state; returned at once if the newest checkpoint has seen all crops.

    Raises:
        CheckpointError: If there are checkpoints and ``resume`` is False, or all are damaged, or the newest has a
            different architecture, or one cannot be written.
        RecipeError: If the crops of a step cannot be divided evenly among the processes.
        CytosegError: If the loss is NaN or diverges, or another process has ended.
    """
    watch, settings = watch or Watch(), plan.settings
    accelerator = new_accelerator(settings, device)
    if accelerator.is_main_process:
        sweep(folder)
    state = _start(folder, plan, crops_from, resume=resume, on_note=watch.on_note)
    _refuse_different_starts(state, accelerator, folder)
    if state.crops_seen >= settings.crops:
        return state
    crops = crops_from(state.crops_seen)
    steps = train_steps(state, crops, settings=settings, accelerator=accelerator, masks=plan.masks, maps=plan.maps)
    with (
        contextlib.closing(steps),  # type: ignore[type-var] # a generator; its annotation says Iterator for its readers
        _name_lost_process(accelerator, folder, plan.architecture.command),
        finish_step_on_interrupt() as interrupt,
        _errors_after_signal_as_interrupt(interrupt),
        _keeper(folder, plan, state, watch) if accelerator.is_main_process else contextlib.nullcontext() as keeper,
    ):
        for report in steps:
            if keeper is not None:
                keeper.after(report)
            if _agree_to_stop(interrupt.requested, report, accelerator):
                raise KeyboardInterrupt
    return state


def _start(
    folder: Path,
    plan: TrainPlan,
    crops_from: Callable[[int], Dataset[Tensor]],
    *,
    resume: bool,
    on_note: Callable[[str], None],
) -> TrainState:
    state = new_state(plan.architecture, plan.settings)
    if not resume and (found := find_checkpoints(folder)):
        raise CheckpointError(
            f"{folder}: already contains {found[0].name}. Add --resume to continue from it, "
            "or choose another folder (folder=runs/NAME)."
        )
    resumed = resume_from_newest(folder, state, on_damaged=on_note)
    if resumed is not None:
        _note_changes(resumed, plan, on_note)
    elif plan.init is not None:
        unet, theirs, origin = load_backbone(find_base_model(plan.init))
        check_same(theirs, start_architecture(plan.architecture, theirs), where=str(plan.init))
        for network in (state.unet, state.ema.ema_model):
            load_weights(network, with_map_channels(unet.state_dict(), network.state_dict()), plan.init)
        state.started_from = {"path": str(plan.init), **origin}
        on_note(f"Starting from {plan.init}, trained on {origin['crops_seen']} crops.")
        values = (f"{key} {value}" for key, value in plan.architecture.as_json().items())
        on_note(f"This run uses its architecture: {', '.join(values)}.")
    else:
        for network in (state.unet, state.ema.ema_model):
            start_from_imagenet(network)
        if plan.autoencoder is not None:
            start_in_space(state, plan.autoencoder, crops_from(0))
    return state


def start_in_space(state: TrainState, autoencoder: Path, crops: Dataset[Tensor]) -> None:
    """Load the autoencoder of a new training, and measure the scale of its latents on the first crops.

    Args:
        state: From ``new_state``, in a latent space; changed in place.
        autoencoder: Folder of its checkpoints.
        crops: The crops of the training from the first on.

    Raises:
        CheckpointError: If it is missing, damaged, or of another space.
    """
    weights = load_autoencoder(autoencoder, state.architecture)
    count = min(SCALE_CROPS, len(crops))  # type: ignore[arg-type] # Dataset has no length for mypy
    first = torch.stack([crops[number] for number in range(count)])
    load_space(state.unet, weights)
    measure_scale(state.unet, first)
    load_space(state.ema.ema_model, state.unet.state_dict())


def _note_changes(resumed: TrainingRecord, plan: TrainPlan, on_note: Callable[[str], None]) -> None:
    """Report differences from the recipe and slides of the checkpoint."""
    seen, started_from = resumed.crops_seen, resumed.started_from or {}
    changes = changed_values(resumed.recipe, plan.recipe)
    if changes:
        on_note(f"The recipe has changed since crop {seen}: {'; '.join(changes)}. Continuing with it.")
    if resumed.slides not in (None, plan.slides):
        on_note(
            f"The slides have changed since crop {seen}: from here on the crops differ from those of the "
            "original slides."
        )
    if resumed.maps_from not in (None, plan.maps_from):
        on_note(
            f"The interpreter or the labels that class maps come from have changed since crop {seen}: from here on "
            "the maps differ from those of the original ones."
        )
    if plan.init is not None and str(plan.init) != started_from.get("path"):
        on_note(f"training.init={plan.init} is ignored: continuing from crop {seen} of this training.")


def _refuse_different_starts(state: TrainState, accelerator: Accelerator, folder: Path) -> None:
    """Check that all processes start from the same checkpoint.

    Raises:
        CheckpointError: If they differ.
    """
    if accelerator.num_processes == 1:
        return
    # The averaged weights represent the whole checkpoint.
    weights = torch.stack([p.detach().double().abs().sum() for p in state.ema.ema_model.parameters()]).sum()
    mine = torch.tensor([[float(state.crops_seen), float(weights)]], dtype=torch.float64, device=accelerator.device)
    starts = cast(Tensor, accelerator.gather(mine))
    if not bool((starts == starts[0]).all()):
        seen = ", ".join(str(int(start)) for start in starts[:, 0])
        raise CheckpointError(
            f"{folder}: the processes found different checkpoints (crops seen: {seen}). "
            "All machines must see one folder; move damaged checkpoints away."
        )


class _Keeper:
    """Logs and saves; exists only in rank 0."""

    def __init__(self, folder: Path, plan: TrainPlan, state: TrainState, watch: Watch) -> None:
        self._folder, self._plan, self._state, self._watch = folder, plan, state, watch
        self._log = MetricsLog(folder / "metrics.jsonl", keep_until=state.crops_seen)
        self._saved_at = self._previewed_at = state.crops_seen

    def after(self, report: StepReport) -> None:
        """Log a step; save and draw samples when due."""
        settings, watch = self._plan.settings, self._watch
        if report.reading is not None:
            self._log.write(_row(report, self._plan.architecture))
        watch.on_step(report)
        if crosses_multiple(settings.checkpoint_crops, self._saved_at, report.crops_seen):
            self.save()
        if watch.preview_crops is not None and crosses_multiple(
            watch.preview_crops, self._previewed_at, report.crops_seen
        ):
            self._previewed_at = report.crops_seen
            self._draw_preview()

    def _draw_preview(self) -> None:
        try:
            self._watch.on_preview(self._state)
        except OSError as error:  # a failed preview must not stop the training
            self._watch.on_note(f"No images at crop {self._previewed_at} ({error}). Training continues.")

    def save(self) -> None:
        """Write a checkpoint unless this state is already saved; prune old ones."""
        settings, seen = self._plan.settings, self._state.crops_seen
        if self._saved_at != seen:
            plan = self._plan
            save(self._folder, self._state, recipe=plan.recipe, slides=plan.slides, maps_from=plan.maps_from)
            self._saved_at = seen
        every = settings.keep_every * settings.checkpoint_crops
        prune(self._folder, keep=settings.keep_checkpoints, newest=seen, keep_every_crops=every)

    def close(self) -> None:
        """Close the log."""
        self._log.close()


@contextlib.contextmanager
def _keeper(folder: Path, plan: TrainPlan, state: TrainState, watch: Watch) -> Iterator[_Keeper]:
    """Save a checkpoint at the end, on Ctrl-C, and when a slide or another process is lost."""
    keeper = _Keeper(folder, plan, state, watch)
    try:
        yield keeper
        keeper.save()
    except (KeyboardInterrupt, RuntimeError, OSError, SlideError):
        if state.whole:  # a second Ctrl-C may interrupt a step: then resume from the last checkpoint
            keeper.save()
        raise
    finally:
        keeper.close()


@contextlib.contextmanager
def _errors_after_signal_as_interrupt(interrupt: Interrupt) -> Iterator[None]:
    """Treat errors after a signal as its consequence: terminated workers, a closed terminal."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        if not interrupt.requested:
            raise
        raise KeyboardInterrupt from error


def _agree_to_stop(wanted: bool, report: StepReport, accelerator: Accelerator) -> bool:
    """Return whether to stop, only at readings, so that no loss is left unread.

    Processes must agree on the step, or one would wait for another forever.
    """
    if report.reading is None or accelerator.num_processes == 1:
        return wanted and report.reading is not None
    flags = accelerator.gather(torch.tensor([float(wanted)], device=accelerator.device))
    return bool(flags.any())


@contextlib.contextmanager
def _name_lost_process(accelerator: Accelerator, folder: Path, command: str) -> Iterator[None]:
    """Report in one sentence that another process has ended, instead of a connection error."""
    try:
        yield
    except RuntimeError as error:
        if accelerator.num_processes == 1 or not _is_connection(error):
            raise
        newest = next((path.name for path in find_checkpoints(folder)), "no checkpoint yet")
        raise CytosegError(
            f"{command}: another process of this training has ended; see its message above. "
            f"{folder} holds {newest}. Start again with --resume."
        ) from error


def _is_connection(error: RuntimeError) -> bool:
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error).lower()


def _row(report: StepReport, architecture: Architecture) -> dict[str, Any]:
    reading = report.reading
    assert reading is not None, "only readings are logged"
    row: dict[str, Any] = {"crops_seen": report.crops_seen, "loss": round(reading.mean, 6), "rate": report.rate}
    if architecture.part == "autoencoder":
        return row | ({} if reading.mean_masks is None else {"discriminator_loss": round(reading.mean_masks, 6)})
    row["by_t"] = reading.by_timestep(architecture.timesteps)
    return row | ({} if reading.mean_masks is None else {"mask_loss": round(reading.mean_masks, 6)})
