"""Checkpoints: named tensors (safetensors, no pickle) and a JSON state, written atomically."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from cytoseg.errors import CheckpointError, DamagedError, FileContentError
from cytoseg.interrupts import errors_as_interrupt
from cytoseg.json_text import load_json, read_regular
from cytoseg.limits import limit
from cytoseg.quoting import printable, short_repr
from cytoseg.writing import replaced, restore_after_kill

FORMAT = 1
STATE = "state.json"
OLDER = "Use an older checkpoint: move this one away."
"""What to do about a damaged checkpoint."""

_TRIES = 3
_OF_ADAM = {"step", "exp_avg", "exp_avg_sq"}
_SIZE = "CYTOSEG_MAX_WEIGHTS_MB"
_GROUP = re.compile(r"\w[\w.-]{0,99}")  # a path of more than some 200 characters, or with a NUL, is an OSError

MISFIT = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)
"""Exceptions raised by a state or tensors with the right hash but foreign content."""


@dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint.

    Attributes:
        tensors: Group name (``model``, ``ema``, ``optimiser``, ...) to named tensors, on the CPU.
        state: The JSON part.
    """

    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save_checkpoint(
    folder: Path,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    *,
    add: Callable[[Path], None] = lambda _new: None,
) -> None:
    """Write a checkpoint folder: one safetensors file per group and ``state.json`` with a hash of each.

    It is written to a temporary folder and then renamed, so a kill never leaves a partial checkpoint.

    Args:
        folder: The checkpoint; replaced if it exists.
        tensors: Group name to named tensors.
        state: JSON-serialisable values.
        add: Called with the written folder before it takes its place, to add files to it.

    Raises:
        CheckpointError: If it cannot be written, for example because the disk is full; no partial file is left.
    """
    with replaced(folder, error=CheckpointError, ours=(STATE, "*.safetensors")) as new:
        _write_folder(new, tensors, state)
        add(new)


def _write_folder(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    hashes = {}
    for group, named in tensors.items():
        data = safetensors.torch.save({name: t.detach().cpu().contiguous() for name, t in named.items()})
        hashes[group] = hashlib.sha256(data).hexdigest()
        (folder / f"{group}.safetensors").write_bytes(data)
    (folder / STATE).write_text(json.dumps({"format": FORMAT, "sha256": hashes, **state}, indent=1), encoding="utf-8")


def load_state(folder: Path, *, instead: str = OLDER) -> dict[str, Any]:
    """Read only the JSON part of a checkpoint.

    Args:
        folder: The checkpoint.
        instead: What to do about one that is damaged, for messages.

    Raises:
        CheckpointError: If it is missing, damaged or written in a newer format.
    """
    path = folder / STATE
    restore_after_kill(folder)
    try:
        state = load_json(path)
    except FileNotFoundError:
        raise DamagedError(f"{folder}: there is no checkpoint here ({STATE} is missing). {instead}") from None
    except FileContentError as error:
        raise DamagedError(f"{path}: damaged ({error.why}). {instead}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = short_repr(state.get("format")) if isinstance(state, dict) else type(state).__name__
        raise CheckpointError(f"{path}: format {found}; this version reads format {FORMAT}. Update cytoseg.")
    if not isinstance(state.get("sha256"), dict):
        raise DamagedError(f"{path}: damaged (it lists no weights). {instead}")
    return state


@errors_as_interrupt()
def load_checkpoint(folder: Path, *, instead: str = OLDER) -> Checkpoint:
    """Read a checkpoint and verify the hash of each file.

    Args:
        folder: The checkpoint.
        instead: What to do about one that is damaged, for messages.

    Raises:
        DamagedError: If a file is missing or damaged.
        CheckpointError: If the format version is not supported, or other commands replace it each time.
    """
    state = load_state(folder, instead=instead)
    for _ in range(_TRIES):
        try:
            tensors = {group: _load_group(folder, group, sha, instead) for group, sha in state["sha256"].items()}
            return Checkpoint(tensors, state)
        except DamagedError:
            before, state = state, load_state(folder, instead=instead)
            if state == before:  # otherwise another process replaced the checkpoint between two of its files
                raise
    raise CheckpointError(f"{folder}: other commands are replacing it. Run this command again when they have ended.")


def network_with(build: Callable[[], nn.Module], tensors: Mapping[str, Tensor]) -> nn.Module:
    """Build a network from loaded tensors; memory is allocated only after all shapes have been checked.

    Args:
        build: Builds the network described by the state; all its tensors are weights or saved buffers.
        tensors: Weights by name.

    Returns:
        The network with these weights.

    Raises:
        ValueError: If they do not match the network, or one is NaN or infinite.
    """
    with torch.device("meta"):
        network = build()
    empty = network.state_dict()
    wanted, found = ({name: tensor.shape for name, tensor in named.items()} for named in (empty, tensors))
    differ = [name for name in wanted | found if wanted.get(name) != found.get(name)]
    # Whole numbers as weights are nonsense; averaging, however, makes floats of a batch norm's counter.
    differ += [name for name in empty if _is_whole(tensors.get(name)) and not _is_whole(empty[name])]
    if differ:
        raise ValueError(f"its weights {short_repr(differ[0])} are missing, unexpected or have the wrong shape or type")
    check_finite(tensors)
    # Copies: training the network must not change the tensors.
    own = {name: tensor.to(empty[name].dtype, copy=True) for name, tensor in tensors.items()}
    network.load_state_dict(own, assign=True)
    return network


def _is_whole(tensor: Tensor | None) -> bool:
    return tensor is not None and not tensor.is_floating_point()


def _load_group(folder: Path, group: str, sha256: str, instead: str) -> dict[str, Tensor]:
    path = folder / f"{group}.safetensors"
    # A foreign state must not point outside its folder, by name or by symlink.
    if not _GROUP.fullmatch(group) or path.resolve().parent != folder.resolve():
        raise DamagedError(
            f"{folder / STATE}: damaged (names weights outside its folder, {short_repr(group)}). {instead}"
        )
    try:
        data = read_regular(path, name=str(path), max_bytes=limit(_SIZE) * 1_000_000, variable=_SIZE)
    except FileNotFoundError:
        raise DamagedError(f"{path}: missing. {instead}") from None
    except FileContentError as error:
        raise CheckpointError(str(error)) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DamagedError(f"{path}: damaged (its content does not match its hash). {instead}")
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(data)
    except (SafetensorError, *MISFIT) as error:
        raise DamagedError(f"{path}: damaged ({printable(str(error))[:120]}). {instead}") from error
    return tensors


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's state as named tensors, such as ``12.exp_avg``."""
    states = optimiser.state_dict()["state"]
    return {f"{index}.{key}": value for index, named in states.items() for key, value in named.items()}


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights that are no numbers.

    Raises:
        ValueError: If one is NaN or infinite.
    """
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise ValueError("a weight is NaN or infinite")


def load_optimiser(tensors: Mapping[str, Tensor], optimiser: torch.optim.Optimizer) -> None:
    """Restore the state of Adam or AdamW from ``optimiser_tensors``; learning rates and groups are unchanged.

    Raises:
        LookupError, ValueError: If it does not fit the weights; the next step would fail.
    """
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        if tensor.shape != (torch.Size() if key == "step" else weights[int(index)].shape):
            raise ValueError(f"the optimiser's {short_repr(name)} has the wrong shape")
        states.setdefault(int(index), {})[key] = tensor
    if any(named.keys() != _OF_ADAM or not named["step"] >= 1 for named in states.values()):
        raise ValueError("the optimiser's state is not that of Adam")
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})


def is_checkpoint(folder: Path) -> bool:
    """Return whether a folder is a checkpoint, whole or damaged."""
    return (folder / STATE).exists()


def find_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints ``checkpoint-<crops seen>`` in a folder, newest (most crops) first."""
    return sorted(_numbered(folder), key=crops_seen_of, reverse=True)


def _numbered(folder: Path) -> Iterator[Path]:
    return (p for p in folder.glob("checkpoint-*") if p.is_dir() and re.fullmatch(r"checkpoint-\d+", p.name))


def crops_seen_of(path: Path) -> int:
    """Parse the count from the name ``checkpoint-<crops seen>``."""
    return int(path.name.split("-")[1])
