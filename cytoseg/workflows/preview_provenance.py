"""Recording the weights from which previews and checks were made."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from cytoseg.checkpoints import find_checkpoints, load_state
from cytoseg.errors import CheckpointError
from cytoseg.records import RecordFile
from cytoseg.writing import write_atomically

SHOWN = "shown.json"
Completed = Literal["pictures", "check"]


@dataclass(frozen=True)
class _Shown:
    """The weights, as ``weights_of`` gives them, for which each was completed."""

    pictures: dict[str, Any] = field(default_factory=dict)
    check: dict[str, Any] = field(default_factory=dict)


_FILE = RecordFile(_Shown, CheckpointError, "Continue its training with --resume.", unnumbered=True)


def weights_of(folder: Path) -> dict[str, Any]:
    """Identify the newest weights of a run's ``ddpm`` folder by crops seen and hash; empty if none are intact.

    Args:
        folder: The run's ``ddpm`` folder.
    """
    try:
        state = load_state(find_checkpoints(folder)[0])
        return {"crops_seen": state["crops_seen"], "sha256": state["sha256"]["ema"]}
    except (CheckpointError, IndexError, KeyError):
        return {}


def is_shown(folder: Path, what: Completed, weights: Mapping[str, Any]) -> bool:
    """Return whether something was completed for these weights.

    Args:
        folder: The run's ``ddpm`` folder.
        what: ``pictures`` or ``check``.
        weights: From ``weights_of``.
    """
    return bool(weights) and getattr(_read(folder), what) == dict(weights)


def note_shown(folder: Path, what: Completed, weights: Mapping[str, Any]) -> None:
    """Record that something was completed for these weights; parameters as in ``is_shown``."""
    shown = replace(_read(folder), **{what: dict(weights)})
    write_atomically(folder / SHOWN, json.dumps(_FILE.content_of(shown, without_defaults=True), indent=1) + "\n")


def _read(folder: Path) -> _Shown:
    return _FILE.read_or_none(folder / SHOWN) or _Shown()
