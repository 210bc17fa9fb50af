"""State of an interpreter's training, saved and resumed."""

import copy
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, cast

import torch
from annotated_types import Ge
from ema_pytorch import EMA
from torch import Tensor, nn

from cytoseg.checkpoints import (
    MISFIT,
    Checkpoint,
    check_finite,
    load_checkpoint,
    load_optimiser,
    optimiser_tensors,
    save_checkpoint,
)
from cytoseg.errors import CheckpointError
from cytoseg.interrupts import errors_as_interrupt
from cytoseg.records import RecordFile


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
    """State of a training.

    Attributes:
        network: The decoder, SegDiff or student.
        average: Its averaged copy; None if none is kept.
        optimiser: AdamW.
        best: Weights with the lowest held-out loss so far.
        step: Steps done.
    """

    network: Network
    average: EMA | None
    optimiser: torch.optim.Optimizer
    best: Best = field(default_factory=Best)
    step: int = 0

    @property
    def averaged(self) -> Network:
        """The averaged copy itself; the network if none is kept."""
        return self.network if self.average is None else cast(Network, self.average.ema_model)


_Count = Annotated[int, Ge(0)]


@dataclass(frozen=True)
class _Saved:
    """What state.json of a saved state holds; ``best_loss`` is None before the first measurement."""

    origin: dict[str, Any]
    step: _Count
    average_step: _Count
    best_loss: float | None
    best_step: _Count


_FILE = RecordFile(_Saved, CheckpointError, "Run `cytoseg train-interpreter` again.")


@dataclass(frozen=True)
class Resume:
    """Where the state of an interrupted training is stored.

    Attributes:
        folder: Written periodically, removed at the end.
        origin: Everything that determines the training, as JSON; a state of another origin is not resumed.
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
        loss = None if math.isinf(state.best.loss) else state.best.loss
        averages = 0 if state.average is None else int(state.average.step)
        saved = _Saved(dict(self.origin), state.step, averages, loss, state.best.step)
        save_checkpoint(self.folder, tensors, asdict(saved))

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


@errors_as_interrupt()
def _take(state: TuneState[Network], found: Checkpoint) -> None:
    """Load a saved state; a mismatch raises one of ``MISFIT`` before step and best are changed."""
    saved = _FILE.record_of(found.state)
    loss = saved.best_loss
    own, device = state.network.state_dict(), next(state.network.parameters()).device
    best = {name: tensor.to(device) for name, tensor in found.tensors["best"].items()}
    if best and {name: t.shape for name, t in best.items()} != {name: t.shape for name, t in own.items()}:
        raise ValueError("the best weights")
    if (loss is None) != (not best):
        raise ValueError("a best loss without weights, or weights without a loss")
    for group in ("best", "model", "average"):
        check_finite(found.tensors[group])
    state.network.load_state_dict(found.tensors["model"])
    state.averaged.load_state_dict(found.tensors["average"])
    load_optimiser(found.tensors["optimiser"], state.optimiser)
    if state.average is not None:
        state.average.step.fill_(saved.average_step)
        state.average.initted.fill_(True)
    state.best = Best(math.inf if loss is None else loss, saved.best_step, best)
    state.step = saved.step
