"""Shared parts of trainings on labelled crops and lessons: data, step loop, learning rate, checked update."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from ema_pytorch import EMA
from numpy.typing import NDArray
from torch import Tensor, nn

from cytoseg.errors import CheckpointError
from cytoseg.interpreter.part_draw import PartDraw, part_px
from cytoseg.interpreter.tune_state import Network, Resume, TuneState
from cytoseg.interrupts import finish_step_on_interrupt

EMA_DECAY = 0.99
BLURRED = 0.25
"""Fraction of blurred parts: focus differs between slides."""
CHECKS = 20
"""Number of evaluations on held-out crops, and saved states, per training."""


@dataclass(frozen=True)
class LabelledPictures:
    """Training data.

    Attributes:
        pictures: Crops, each (H, W, 3) uint8 RGB.
        label_maps: One per crop, (H, W) uint8 ids, 255 for ignore.
        slides: The slide of each crop; one with None is never held out.
    """

    pictures: Sequence[NDArray[np.uint8]]
    label_maps: Sequence[NDArray[np.uint8]]
    slides: Sequence[str | None]

    def part_px(self, wanted_px: int) -> int:
        """Return the side of parts that almost all crops hold, see ``part_draw.part_px``."""
        return part_px(wanted_px, (label_map.shape for label_map in self.label_maps))

    def only(self, numbers: Sequence[int]) -> "LabelledPictures":
        """Select some of the crops."""
        return replace(
            self,
            pictures=[self.pictures[i] for i in numbers],
            label_maps=[self.label_maps[i] for i in numbers],
            slides=[self.slides[i] for i in numbers],
        )


class StepSettings(Protocol):
    """The settings that all these trainings have."""

    @property
    def steps(self) -> int:
        """Number of updates."""
        ...

    @property
    def batch(self) -> int:
        """Parts per update."""
        ...

    @property
    def size_px(self) -> int:
        """Side of a part."""
        ...

    @property
    def rate(self) -> float:
        """Highest learning rate."""
        ...

    @property
    def seed(self) -> int:
        """Seed of the parts."""
        ...


Batch = tuple[Tensor, Tensor]
"""(B, 3, H, W) images and their targets, such as (B, H, W) ids."""
Update = Callable[[TuneState[Network], Batch], float]
"""One update from a batch; returns the loss."""


def new_state(
    network: Network, optimiser: Callable[[Network], torch.optim.Optimizer], device: torch.device
) -> TuneState[Network]:
    """Move a network to the device and begin its training.

    Args:
        network: Trained in place.
        optimiser: Makes the optimiser of the moved network.
        device: Training device.
    """
    network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs lack this keyword
    averaging: dict[str, Any] = {"update_after_step": 0, "update_every": 1, "include_online_model": False}
    average = EMA(network, beta=EMA_DECAY, use_foreach=True, **averaging)
    return TuneState(network, average, optimiser(network))


def labelled_parts(labelled: LabelledPictures, settings: StepSettings) -> PartDraw:
    """Draw augmented parts of the labelled crops, of ``size_px`` or what almost all crops hold."""
    return PartDraw(
        labelled.pictures,
        labelled.label_maps,
        size_px=labelled.part_px(settings.size_px),
        batch=settings.batch,
        blurred=BLURRED,
        seed=settings.seed,
    )


def training_steps(
    state: TuneState[Network],
    draw: Callable[[int], Batch],
    update: Update[Network],
    *,
    steps: int,
    resume: Resume | None,
) -> Iterator[tuple[int, float]]:
    """Train from the current state to the last step, saving the state at every check; yield each step and its loss.

    Args:
        state: Changed in place.
        draw: Makes the batch of a step, a function of its number alone.
        update: Updates the weights.
        steps: Number of the last step.
        resume: Where to save the state; None saves nothing.

    Raises:
        CheckpointError: If the state cannot be written.
        KeyboardInterrupt: After the current step, when Ctrl-C was pressed.
    """
    with finish_step_on_interrupt() as interrupt:
        while state.step < steps:
            loss = update(state, draw(state.step))
            if state.average is not None:
                state.average.update()
            state.step += 1
            yield state.step, loss
            if resume is not None and (interrupt.requested or is_check(state.step, steps)):
                resume.save(state)
            if interrupt.requested:
                raise KeyboardInterrupt


def is_check(step: int, steps: int) -> bool:
    """Return whether held-out crops are evaluated and the state is saved after a step."""
    return step % _check_steps(steps) == 0


def set_rates(state: TuneState[Network], settings: StepSettings) -> None:
    """Set the learning rates of the next step: a linear warm-up, then a cosine to zero; times a group's ``share``."""
    warm = min(1.0, (state.step + 1) / _check_steps(settings.steps))
    falling = 0.5 * (1.0 + math.cos(math.pi * state.step / settings.steps))
    for group in state.optimiser.param_groups:
        group["lr"] = settings.rate * group.get("share", 1.0) * warm * falling


def apply_gradients(state: TuneState[Network], loss: Tensor, *, what: str, advice: str) -> float:
    """Update the weights from clipped gradients and return the loss.

    Args:
        state: With the gradients of the loss.
        loss: A scalar.
        what: The training, for the message.
        advice: What to do about a loss that is not finite, as a sentence.

    Raises:
        CheckpointError: If the loss or a gradient is not finite; the weights are unchanged.
    """
    length = nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
    if not torch.stack((loss.detach(), length)).isfinite().all():
        raise CheckpointError(f"{what}: the loss of step {state.step + 1} is not finite. {advice}")
    state.optimiser.step()
    return loss.item()


def _check_steps(steps: int) -> int:
    return max(1, steps // CHECKS)
