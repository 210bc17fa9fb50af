"""State of a training on labelled crops, saved and resumed."""

import copy
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import torch
from ema_pytorch import EMA
from torch import Tensor, nn

from cytoseg.checkpoints import (
    MISFIT,
    Checkpoint,
    load_checkpoint,
    load_optimiser,
    optimiser_tensors,
    save_checkpoint,
)
from cytoseg.errors import CheckpointError


@dataclass
class Best:
    """The weights with the lowest loss so far."""

    loss: float = math.inf
    step: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, step: int, loss: float, network: nn.Module) -> None:
        """Keep the weights if their loss is lower."""
        if loss < self.loss:
            self.loss, self.step = loss, step
            self.weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}


Network = TypeVar("Network", bound=nn.Module)


@dataclass
class TuneState(Generic[Network]):
    """State of a training on labelled crops.

    Attributes:
        network: The decoder or SegDiff.
        average: Its averaged copy.
        optimiser: AdamW.
        best: Weights with the lowest held-out loss so far.
        step: Steps done.
    """

    network: Network
    average: EMA
    optimiser: torch.optim.Optimizer
    best: Best = field(default_factory=Best)
    step: int = 0

    @property
    def averaged(self) -> Network:
        """The averaged copy itself."""
        return cast(Network, self.average.ema_model)


@dataclass(frozen=True)
class Resume:
    """Where the state of an interrupted tuning is stored.

    Attributes:
        folder: Written periodically, removed at the end.
        origin: Everything that determines the tuning, as JSON; a state of another origin is not resumed.
    """

    folder: Path
    origin: Mapping[str, Any]

    def save(self, state: TuneState[Network]) -> None:
        """Write the state atomically.

        Raises:
            CheckpointError: If it cannot be written.
        """
        tensors = {
            "model": state.network.state_dict(),
            "average": state.averaged.state_dict(),
            "optimiser": optimiser_tensors(state.optimiser),
            "best": state.best.weights,
        }
        details = {
            "origin": dict(self.origin),
            "step": state.step,
            "average_step": int(state.average.step),
            "best_loss": None if math.isinf(state.best.loss) else state.best.loss,
            "best_step": state.best.step,
        }
        save_checkpoint(self.folder, tensors, details)

    def restore(self, state: TuneState[Network]) -> None:
        """Restore the saved state; unchanged if there is no intact state of this origin."""
        try:
            found = load_checkpoint(self.folder)
        except CheckpointError:
            return
        if found.state.get("origin") != dict(self.origin):
            return
        parts: tuple[nn.Module | torch.optim.Optimizer, ...] = (state.network, state.averaged, state.optimiser)
        before = [copy.deepcopy(part.state_dict()) for part in parts]
        try:
            _take(state, found)
        except MISFIT:  # hashes match, but it is not of this tuning
            for part, kept in zip(parts, before, strict=True):
                part.load_state_dict(kept)

    def forget(self) -> None:
        """Remove the saved state."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _take(state: TuneState[Network], found: Checkpoint) -> None:
    """Load a saved state; a mismatch raises one of ``MISFIT`` before step and best are changed."""
    loss, best_step, average_step, step = (
        found.state[key] for key in ("best_loss", "best_step", "average_step", "step")
    )
    numbers_fit = all(type(count) is int and count >= 0 for count in (best_step, average_step, step))
    if not numbers_fit or not (loss is None or isinstance(loss, int | float)):
        raise ValueError("its numbers")
    own, device = state.network.state_dict(), next(state.network.parameters()).device
    best = {name: tensor.to(device) for name, tensor in found.tensors["best"].items()}
    if best and {name: t.shape for name, t in best.items()} != {name: t.shape for name, t in own.items()}:
        raise ValueError("the best weights")
    if (loss is None) != (not best):
        raise ValueError("a best loss without weights, or weights without a loss")
    state.network.load_state_dict(found.tensors["model"])
    state.averaged.load_state_dict(found.tensors["average"])
    load_optimiser(found.tensors["optimiser"], state.optimiser)
    state.average.step.fill_(average_step)
    state.average.initted.fill_(True)
    state.best = Best(math.inf if loss is None else loss, best_step, best)
    state.step = step
