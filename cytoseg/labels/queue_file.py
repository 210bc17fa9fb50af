"""queue.json: queued and skipped regions, and the scores at each round.

A queue folder holds crops with sidecars and proposals, and ``queue.json``, which records why each was chosen.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cytoseg.errors import LabelError
from cytoseg.locks import locked
from cytoseg.quoting import shown
from cytoseg.records import RecordFile, RegionAsList, file_key
from cytoseg.writing import write_atomically

QUEUE = "queue.json"
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
        reason: Reason for its selection.
        score: In nats.
        appearance: Its appearance descriptor, used to choose dissimilar regions.
    """

    slide: str
    region: RegionAsList
    state: str
    crop: str
    reason: str
    score: float
    appearance: Annotated[tuple[float, ...], file_key("looks")]

    def __post_init__(self) -> None:
        """Refuse another state.

        Raises:
            ValueError: If it is neither.
        """
        if self.state not in (QUEUED, SKIPPED):
            raise ValueError(f"state {shown(self.state)}, not {QUEUED} or {SKIPPED}")


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


_FILE = RecordFile(
    Queue,
    LabelError,
    "Delete it: crops next to it still count as queued; skipped ones will be proposed again.",
    damaged="is damaged ({why})",
    other_format="is damaged (format {found}, this version reads {format})",
)


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
    return _FILE.read(path, name=f"{folder.name}/{QUEUE}") if path.exists() else Queue()


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
        text = json.dumps(_FILE.content_of(queue), indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(folder / QUEUE, text + "\n")
    return queue
