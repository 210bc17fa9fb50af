"""queue.json: queued and skipped regions, and the scores at each round.

A queue folder holds crops with sidecars and proposals, and ``queue.json``, which records why each was chosen.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cytoseg.errors import LabelError
from cytoseg.formats.json_files import load_json
from cytoseg.geometry import Region
from cytoseg.locks import locked
from cytoseg.writing import write_atomically

QUEUE = "queue.json"
FORMAT = 1
QUEUED, SKIPPED = "queued", "skipped"
_WAIT_S = 20.0


@dataclass(frozen=True)
class QueueItem:
    """A region that was queued or skipped.

    Attributes:
        slide: Its slide's id.
        region: Its position.
        state: ``queued``, or ``skipped`` and never proposed again.
        crop: Stem of its files; empty if skipped.
        reason: Why it was chosen.
        score: In nats.
        appearance: Its appearance descriptor, used to choose dissimilar regions.
    """

    slide: str
    region: Region
    state: str
    crop: str
    reason: str
    score: float
    appearance: tuple[float, ...]


@dataclass(frozen=True)
class Scored:
    """Scores of the model when regions were queued.

    Attributes:
        created: Time of the evaluation, which identifies it.
        train_crops: Number of training crops.
        miou: Mean IoU, None if undefined.
        iou: IoU by class name, None if undefined.
    """

    created: str
    train_crops: int
    miou: float | None
    iou: dict[str, float | None]


@dataclass(frozen=True)
class Round:
    """Regions queued under one evaluation: time of the last one, their number, and the evaluation, if any."""

    when: str
    regions: int
    before: Scored | None


@dataclass(frozen=True)
class Queue:
    """Content of queue.json, oldest first."""

    items: tuple[QueueItem, ...] = ()
    rounds: tuple[Round, ...] = ()


def read_queue(folder: Path) -> Queue:
    """Read the queue of a folder.

    Args:
        folder: The queue folder; need not exist.

    Returns:
        The queue; empty if there is no queue.json.

    Raises:
        LabelError: If the file is damaged or of another format version.
    """
    path = folder / QUEUE
    if not path.exists():
        return Queue()
    name = f"{folder.name}/{QUEUE}"
    again = "Delete it: crops next to it still count as queued; skipped ones will be proposed again."
    content = load_json(path, name=name, again=again, numbers="finite")
    try:
        return _parsed(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LabelError(f"{name}: is damaged ({type(error).__name__}: {error}). {again}") from error


def update_queue(folder: Path, change: Callable[[Queue], Queue]) -> Queue:
    """Read, change and write the queue under its lock.

    Args:
        folder: The queue folder; created if missing.
        change: Returns the new queue.

    Returns:
        The new queue.

    Raises:
        LabelError: If the existing queue.json is damaged, or another process keeps it locked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / QUEUE, wait_s=_WAIT_S, error=LabelError):
        queue = change(read_queue(folder))
        items = [_entry(item) for item in queue.items]
        content = {"format": FORMAT, "items": items, "rounds": [asdict(found) for found in queue.rounds]}
        write_atomically(folder / QUEUE, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return queue


def _entry(item: QueueItem) -> dict[str, Any]:
    entry = asdict(item) | {"region": item.region.as_json()}
    entry["looks"] = entry.pop("appearance")  # the key of files since format 1
    return entry


def _parsed(content: Any) -> Queue:
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']}, this version reads {FORMAT}")
    items = [
        QueueItem(
            slide=str(entry["slide"]),
            region=Region.from_json(entry["region"]),
            state=_state(entry["state"]),
            crop=str(entry["crop"]),
            reason=str(entry["reason"]),
            score=float(entry["score"]),
            appearance=tuple(float(value) for value in entry["looks"]),
        )
        for entry in content["items"]
    ]
    rounds = [Round(str(r["when"]), int(r["regions"]), _scored(r["before"])) for r in content["rounds"]]
    return Queue(tuple(items), tuple(rounds))


def _state(text: Any) -> str:
    if text not in (QUEUED, SKIPPED):
        raise ValueError(f"state {text!r}, not {QUEUED} or {SKIPPED}")
    return str(text)


def _scored(entry: Any) -> Scored | None:
    if entry is None:
        return None
    iou = {str(name): _share(value) for name, value in entry["iou"].items()}
    return Scored(str(entry["created"]), int(entry["train_crops"]), _share(entry["miou"]), iou)


def _share(value: Any) -> float | None:
    return None if value is None else float(value)
