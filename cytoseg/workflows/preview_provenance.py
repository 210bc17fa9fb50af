"""Recording the weights from which previews and checks were made."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cytoseg.checkpoints import find_checkpoints, load_state
from cytoseg.errors import CheckpointError
from cytoseg.json_text import load_json
from cytoseg.writing import write_atomically

SHOWN = "shown.json"


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


def is_shown(folder: Path, what: str, weights: Mapping[str, Any]) -> bool:
    """Return whether something was completed for these weights.

    Args:
        folder: The run's ``ddpm`` folder.
        what: ``pictures`` or ``check``.
        weights: From ``weights_of``.
    """
    return bool(weights) and _read(folder).get(what) == dict(weights)


def note_shown(folder: Path, what: str, weights: Mapping[str, Any]) -> None:
    """Record that something was completed for these weights; parameters as in ``is_shown``."""
    write_atomically(folder / SHOWN, json.dumps({**_read(folder), what: dict(weights)}, indent=1) + "\n")


def _read(folder: Path) -> dict[str, Any]:
    try:
        found = load_json(folder / SHOWN)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
