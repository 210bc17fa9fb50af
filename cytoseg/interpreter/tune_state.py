"""What the tuning of a decoder consists of at one moment, and its way to disk and back."""

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from ema_pytorch import EMA
from torch import Tensor

from cytoseg.checkpoints import load_checkpoint, load_optimiser, optimiser_tensors, save_checkpoint
from cytoseg.errors import CheckpointError
from cytoseg.interpreter.decoder import Decoder


@dataclass
class Best:
    """The weights with the lowest loss so far."""

    loss: float = math.inf
    step: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, step: int, loss: float, decoder: Decoder) -> None:
        """Take the weights if their loss is lower."""
        if loss < self.loss:
            self.loss, self.step = loss, step
            self.weights = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}


@dataclass
class TuneState:
    """A tuning at one moment.

    Attributes:
        decoder: The network.
        average: Its averaged copy.
        optimiser: AdamW.
        best: What held-out slides have liked best so far.
        step: Steps done.
    """

    decoder: Decoder
    average: EMA
    optimiser: torch.optim.Optimizer
    best: Best = field(default_factory=Best)
    step: int = 0

    @property
    def averaged(self) -> Decoder:
        """The averaged copy itself."""
        return cast(Decoder, self.average.ema_model)


@dataclass(frozen=True)
class Resume:
    """Where an interrupted tuning is kept.

    Attributes:
        folder: Written now and then, removed at the end.
        origin: What decides the tuning, for JSON; one of another origin is not gone on with.
    """

    folder: Path
    origin: Mapping[str, Any]

    def save(self, state: TuneState) -> None:
        """Write the state whole or not at all.

        Raises:
            CheckpointError: If it cannot be written.
        """
        tensors = {
            "model": state.decoder.state_dict(),
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

    def restore(self, state: TuneState) -> None:
        """Change the state to what was saved; it stays as it is where nothing whole of this origin is found."""
        try:
            found = load_checkpoint(self.folder)
        except CheckpointError:
            return
        if found.state.get("origin") != dict(self.origin):
            return
        state.decoder.load_state_dict(found.tensors["model"])
        state.averaged.load_state_dict(found.tensors["average"])
        state.average.step.fill_(found.state["average_step"])
        state.average.initted.fill_(True)
        load_optimiser(found.tensors["optimiser"], state.optimiser)
        loss, device = found.state["best_loss"], next(state.decoder.parameters()).device
        weights = {name: tensor.to(device) for name, tensor in found.tensors["best"].items()}
        state.best = Best(math.inf if loss is None else loss, found.state["best_step"], weights)
        state.step = found.state["step"]

    def forget(self) -> None:
        """Remove what was saved."""
        shutil.rmtree(self.folder, ignore_errors=True)
