"""The log of the losses per crop, and the check for divergence."""

import math
from collections import deque
from dataclasses import dataclass
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor

from cytoseg.errors import CytosegError

BUCKETS = 10
"""Number of timestep ranges in the log: a mean over all timesteps hides which noise levels are learned."""

RATES = {"train-ddpm": "training.rate", "train-autoencoder": "space.rate"}
"""The learning rate of each command that trains."""

WATCHED_STEPS = 50
EXPLODED = 3.0
"""An untrained network has a loss of about 1; a mean of 3 over the window is divergence, not noise."""


@dataclass(frozen=True)
class LossReading:
    """Losses of a few steps from all processes, in crop order.

    Attributes:
        numbers: (N,) int64 crop numbers.
        t: (N,) int64 timesteps.
        losses: (N,) float32.
        masks: (N,) float32, loss of the labelled source part of each crop; None without sources.
    """

    numbers: Tensor
    t: Tensor
    losses: Tensor
    masks: Tensor | None = None

    @property
    def mean(self) -> float:
        """The mean loss."""
        return float(self.losses.mean())

    @property
    def mean_masks(self) -> float | None:
        """The mean mask loss; None without labelled sources."""
        return None if self.masks is None else float(self.masks.mean())

    def by_timestep(self, timesteps: int) -> dict[str, float]:
        """Average over ranges of timesteps, such as ``{"0-99": 0.12}``; ranges without crops are omitted."""
        width = -(-timesteps // BUCKETS)
        buckets = torch.div(self.t, width, rounding_mode="floor")
        return {
            f"{b * width}-{min((b + 1) * width, timesteps) - 1}": round(float(self.losses[buckets == b].mean()), 6)
            for b in sorted(set(buckets.tolist()))
        }


class LossWindow:
    """Buffers the losses on the device for a few steps, to avoid synchronising with a GPU at each step.

    Args:
        accelerator: Gathers them from all processes.
        every: Steps between two readings.
    """

    def __init__(self, accelerator: Accelerator, *, every: int) -> None:
        self._accelerator, self._every = accelerator, every
        self._kept: list[Tensor] = []

    def add(self, numbers: Tensor, t: Tensor, losses: Tensor, masks: Tensor | None = None) -> None:
        """Store the (N,) losses of one step of this process; either all steps have mask losses or none."""
        columns = [numbers, t, losses.detach(), *([] if masks is None else [masks.detach()])]
        self._kept.append(torch.stack([column.double() for column in columns]))

    @property
    def due(self) -> bool:
        """Return whether it is time to read."""
        return len(self._kept) >= self._every

    def read(self) -> LossReading:
        """Gather the losses since the last reading from all processes, which must call it at the same step."""
        kept = torch.cat(self._kept, dim=1).T.contiguous()
        self._kept = []
        table = cast(Tensor, self._accelerator.gather(kept)).cpu()
        table = table[table[:, 0].argsort()]
        masks = table[:, 3].float() if table.shape[1] > 3 else None
        return LossReading(table[:, 0].long(), table[:, 1].long(), table[:, 2].float(), masks)


class LossGuard:
    """Stops training when the loss is NaN or diverges.

    Args:
        weights: (T,) loss weights of the timesteps, divided out before the check.
        command: The command that trains, for messages.
        other: What the second loss is called.
    """

    def __init__(self, weights: Tensor, *, command: str = "train-ddpm", other: str = "mask loss") -> None:
        self._weights, self._command, self._other = weights.detach().float().cpu(), command, other
        self._recent: deque[float] = deque(maxlen=WATCHED_STEPS)

    def check(self, reading: LossReading) -> None:
        """Check a reading.

        Raises:
            CytosegError: If a loss is not finite (names the crop), or the mean loss shows divergence.
        """
        if reading.masks is not None and not bool(reading.masks.isfinite().all()):
            first = int((~reading.masks.isfinite()).nonzero()[0])
            found, number = float(reading.masks[first]), int(reading.numbers[first])
            raise self._divergence(f"the {self._other} is {found} at crop {number}")
        broken = (~reading.losses.isfinite()).nonzero().flatten()
        if len(broken):
            first = int(broken[0])
            raise self._divergence(
                f"the loss is {float(reading.losses[first])} at crop {int(reading.numbers[first])}, "
                f"t = {int(reading.t[first])}"
            )
        self._recent.append(float((reading.losses / self._weights[reading.t]).mean()))
        mean = math.fsum(self._recent) / len(self._recent)
        if len(self._recent) == WATCHED_STEPS and mean > EXPLODED:
            raise self._divergence(
                f"the loss diverged: {mean:.1f} on average up to crop {int(reading.numbers[-1])}, "
                "where an untrained network has about 1"
            )

    def _divergence(self, what: str) -> CytosegError:
        return CytosegError(
            f"{self._command}: {what}. Lower {RATES[self._command]} or set training.precision=no, then --resume from "
            "the last checkpoint."
        )
