"""queue.json: queued and skipped regions, and the scores at each round.

A queue folder holds crops with sidecars and proposals, and ``queue.json``, which records why each was chosen.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cytoseg.errors import LabelError
from cytoseg.labels.index import is_file_name
from cytoseg.locks import locked
from cytoseg.quoting import short_repr
from cytoseg.records import RecordFile, RegionAsList, file_key
from cytoseg.writing import write_atomically

QUEUE_NAME = "queue.json"
QUEUED, SKIPPED = "queued", "skipped"
BEGUN = "begun"
"""State of a region while its files are written; a region in it without a process was left by a kill."""
_WAIT_S = 20.0


@dataclass(frozen=True)
class QueueItem:
    """A region that was queued or skipped, or is being queued.

    Attributes:
        slide: Its slide's id.
        region: Its position.
        state: ``queued``, ``begun`` while its files are written, or ``skipped`` and never proposed again.
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
            ValueError: If it is none of them, or a begun region has no usable crop.
        """
        if self.state not in (QUEUED, BEGUN, SKIPPED):
            raise ValueError(f"state {short_repr(self.state)}, not {QUEUED} or {SKIPPED}")
        if self.state == BEGUN and not is_file_name(self.crop):
            raise ValueError(f"crop {short_repr(self.crop)}, not a file's name")


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
    path = folder / QUEUE_NAME
    return _FILE.read(path, name=f"{folder.name}/{QUEUE_NAME}") if path.exists() else Queue()


@dataclass
class OpenQueue:
    """A queue under its lock.

    Attributes:
        folder: The queue folder.
        content: What queue.json holds.
    """

    folder: Path
    content: Queue

    def write(self, content: Queue) -> None:
        """Replace the content of queue.json."""
        text = json.dumps(_FILE.content_of(content), indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(self.folder / QUEUE_NAME, text + "\n")
        self.content = content


@contextlib.contextmanager
def open_queue(folder: Path) -> Iterator[OpenQueue]:
    """Hold the lock of a queue while it is read and changed.

    Args:
        folder: The queue folder; created if missing.

    Raises:
        LabelError: If the existing queue.json is damaged, or another process keeps it locked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / QUEUE_NAME, wait_s=_WAIT_S, error=LabelError):
        yield OpenQueue(folder, read_queue(folder))


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
    with open_queue(folder) as queue:
        queue.write(change(queue.content))
    return queue.content
