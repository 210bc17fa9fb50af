"""What a training run consists of at one moment, and its way to disk and back."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from ema_pytorch import EMA
from torch import Tensor, nn

from cytoseg.checkpoints import Checkpoint, find_checkpoints, load_checkpoint, load_state, save_checkpoint
from cytoseg.diffusion.unet import Architecture, build_unet, check_same
from cytoseg.errors import CheckpointError
from cytoseg.runs import versions


@dataclass
class TrainState:
    """Network, averaged copy, optimiser and the number of crops seen."""

    architecture: Architecture
    unet: nn.Module
    ema: EMA
    optimiser: torch.optim.Optimizer
    crops_seen: int


def save(folder: Path, state: TrainState) -> int:
    """Write ``checkpoint-<crops seen>`` into the folder and keep the newest two.

    Returns:
        The number of crops seen.
    """
    tensors = {
        "model": state.unet.state_dict(),
        "ema": state.ema.ema_model.state_dict(),
        "optimiser": _flatten(state.optimiser),
    }
    details = {
        "crops_seen": state.crops_seen,
        "architecture": state.architecture.as_json(),
        "ema_step": int(state.ema.step),
        "versions": versions(),
    }
    save_checkpoint(folder / f"checkpoint-{state.crops_seen:09d}", tensors, details)
    prune(folder, keep=2)
    return state.crops_seen


def prune(folder: Path, *, keep: int) -> None:
    """Remove all but the newest checkpoints."""
    for old in find_checkpoints(folder)[keep:]:
        shutil.rmtree(old)


def resume(folder: Path, state: TrainState) -> Path | None:
    """Put the newest checkpoint of a folder into the state.

    Returns:
        The checkpoint, or None if there is none (the state is then unchanged).

    Raises:
        CheckpointError: If it is damaged or of another architecture.
    """
    found = find_checkpoints(folder)
    if not found:
        return None
    details = load_state(found[0])
    check_same(Architecture.from_json(details["architecture"]), state.architecture, where=str(found[0]))
    _restore(load_checkpoint(found[0]), state)
    return found[0]


def _restore(checkpoint: Checkpoint, state: TrainState) -> None:
    state.unet.load_state_dict(checkpoint.tensors["model"])
    state.ema.ema_model.load_state_dict(checkpoint.tensors["ema"])
    state.ema.step.fill_(checkpoint.state["ema_step"])
    state.ema.initted.fill_(True)
    _unflatten(checkpoint.tensors["optimiser"], state.optimiser)
    state.crops_seen = checkpoint.state["crops_seen"]


def _flatten(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    states = optimiser.state_dict()["state"]
    return {f"{index}.{key}": value for index, named in states.items() for key, value in named.items()}


def _unflatten(tensors: dict[str, Tensor], optimiser: torch.optim.Optimizer) -> None:
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        states.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})


def load_backbone(
    folder: Path, wanted: Architecture | None = None
) -> tuple[nn.Module, Architecture, dict[str, object]]:
    """Load the averaged weights of the newest checkpoint, ready for features or samples.

    Args:
        folder: The run's ``ddpm`` folder.
        wanted: The recipe's architecture, or None to take whatever is there.

    Returns:
        The network in evaluation mode on the CPU, its architecture, and where it came from (crops seen, hash).

    Raises:
        CheckpointError: If there is none, or it is damaged or of another architecture.
    """
    found = find_checkpoints(folder)
    if not found:
        raise CheckpointError(f"{folder}: no checkpoint yet. Run `cytoseg train-ddpm` with this recipe first.")
    checkpoint = load_checkpoint(found[0])
    architecture = Architecture.from_json(checkpoint.state["architecture"])
    if wanted is not None:
        check_same(architecture, wanted, where=str(found[0]))
    unet = build_unet(architecture)
    unet.load_state_dict(checkpoint.tensors["ema"])
    origin = {"crops_seen": checkpoint.state["crops_seen"], "sha256": checkpoint.state["sha256"]["ema"]}
    return unet.eval(), architecture, origin
