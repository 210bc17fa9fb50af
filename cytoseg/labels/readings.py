"""Annotations of one crop by several people.

The marks beside a crop belong to the person who saved them first, and training uses them. Marks of other people are
kept in ``review/readings/FOLDER/CROP``, each beside a copy of the image. A third person's resolution replaces the
marks beside the crop, and those are kept as a reading too.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import ClassList
from cytoseg.errors import LabelError
from cytoseg.formats.json_files import load_json
from cytoseg.formats.sidecar import sidecar_path
from cytoseg.labels.corrections import FIX_FILE
from cytoseg.labels.drawn_marks import Drawn, drawn_of, read_marks, save_marks
from cytoseg.labels.reviewer_names import file_part, same_person
from cytoseg.locks import locked
from cytoseg.writing import write_atomically

WAIT_S = 30.0
"""Seconds to wait for another window that saves the same crop."""


@dataclass(frozen=True)
class Reading:
    """One person's marks of a crop: who saved them when, and the image that they lie beside."""

    drawn: Drawn
    picture: Path


def readings_folder(picture: Path) -> Path:
    """Return the folder of further readings of a crop of a run, which need not exist."""
    return picture.parents[1] / "review" / "readings" / picture.parent.name / picture.stem


def readings_of(picture: Path, problems: list[str] | None = None) -> list[Reading]:
    """List the people's own marks of a crop, without resolutions: the one beside the crop first, then by name.

    Args:
        picture: The crop's PNG file in a folder of the run.
        problems: A sentence is added for each unreadable file.
    """
    kept = sorted(path for path in readings_folder(picture).glob("[!.]*.png"))
    found = [(place, drawn_of(place)) for place in (picture, *kept)]
    if problems is not None:
        problems += [
            f"{place.stem}.json: the marks of '{picture.stem}' cannot be read. {FIX_FILE}"
            for place, drawn in found
            if drawn is None and place != picture
        ]
    readings = [Reading(drawn, place) for place, drawn in found if drawn is not None]
    return _one_each([one for one in readings if one.drawn.author and not one.drawn.resolves], picture)


def _one_each(readings: list[Reading], picture: Path) -> list[Reading]:
    """Keep one reading of each person: the one beside the crop, or the latest; a resolution cut short leaves two."""
    latest = sorted(readings, key=lambda one: (one.picture == picture, one.drawn.time), reverse=True)
    kept: list[Reading] = []
    for reading in latest:
        if not any(same_person(reading.drawn.author, one.drawn.author) for one in kept):
            kept.append(reading)
    return [reading for reading in readings if reading in kept]


def place_of(picture: Path, person: str) -> Path:
    """Return the image beside which a person's marks of a crop are saved.

    Args:
        picture: The crop's PNG file in a folder of the run.
        person: Name of the annotator; empty gives the crop itself.

    Returns:
        The crop, unless its marks are another person's; a copy, which need not exist, otherwise.
    """
    beside = drawn_of(picture)
    if beside is None or not person or not beside.author or same_person(beside.author, person):
        return picture
    for reading in readings_of(picture):
        if same_person(reading.drawn.author, person):
            return reading.picture
    return _kept(picture, person)


def save_reading(
    picture: Path, author: str, time: str, *, label_map: NDArray[np.uint8], classes: ClassList, known: Drawn | None
) -> Path:
    """Save a person's marks of a crop without touching those of others; safe for concurrent windows and servers.

    Args:
        picture: The crop's PNG file, with its sidecar.
        author: Name of the annotator.
        time: UTC in ISO 8601.
        label_map: (H, W) uint8 ids, 255 where unmarked.
        classes: Names of the ids.
        known: The marks of this person that the window knows; None if it knows none.

    Returns:
        The image that the marks lie beside, see ``place_of``.

    Raises:
        LabelError: If another window has saved marks of this person meanwhile, or they cannot be saved.
    """
    with crop_locked(picture):
        place = place_of(picture, author)
        now = drawn_of(place)
        if now is not None and now != known:
            raise LabelError(
                f"{picture.stem}: {now.author or 'another person'} has saved other marks since you opened it, and "
                "yours are not saved. Press Reload marks to see those."
            )
        if place != picture:
            _copy_picture(picture, place)
        resolves = now.resolves if now is not None and place == picture else ()
        save_marks(place, Drawn(author, time, resolves), label_map, classes)
    return place


def keep_marks(picture: Path) -> None:
    """Keep the marks beside a crop as a reading before a resolution replaces them; nothing if there are none.

    Raises:
        LabelError: If they cannot be read or written.
    """
    drawn, path = drawn_of(picture), picture.with_suffix(".json")
    if drawn is None:
        return
    place = _kept(picture, drawn.author)
    if drawn.resolves or drawn_of(place) not in (None, drawn):
        place = _kept(picture, f"{drawn.author} {drawn.time}")
    content: Any = load_json(path, name=path.name, advice=FIX_FILE)
    _copy_picture(picture, place)
    try:
        text = json.dumps({**content, "imagePath": place.name}, indent=1, ensure_ascii=False)
        write_atomically(place.with_suffix(".json"), text + "\n")
    except OSError as error:
        raise _unwritten(place, error) from error


def marks_at(reading: Reading, shape: tuple[int, int], classes: ClassList) -> NDArray[np.uint8]:
    """Read the label map of a reading, (H, W) uint8 ids, 255 where unmarked.

    Raises:
        LabelError: If the file is damaged or has another size.
    """
    return read_marks(reading.picture, shape, classes).ids


def map_sha256(label_map: NDArray[np.uint8]) -> str:
    """Hash size and ids of a label map, independent of its file; 64 hexadecimal digits."""
    height, width = label_map.shape
    return hashlib.sha256(f"{width}x{height}:".encode() + label_map.tobytes()).hexdigest()


@contextmanager
def crop_locked(picture: Path) -> Iterator[None]:
    """Hold the lock of a crop's marks during the block.

    Raises:
        LabelError: If another process holds it for too long, or its folder cannot be written.
    """
    try:
        with locked(picture, wait_s=WAIT_S, error=LabelError):
            yield
    except OSError as error:
        raise _unwritten(picture, error) from error


def _kept(picture: Path, name: str) -> Path:
    # People whose names differ only in what a file name cannot hold must not share a file.
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return readings_folder(picture) / f"{file_part(name)[:60]}_{digest}.png"


def _copy_picture(picture: Path, place: Path) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        for old, new in ((picture, place), (sidecar_path(picture), sidecar_path(place))):
            if not new.exists():
                write_atomically(new, old.read_bytes())
    except OSError as error:
        raise _unwritten(place, error) from error


def _unwritten(place: Path, error: OSError) -> LabelError:
    return LabelError(
        f"{place.name}: cannot be written ({error.strerror or error}); nothing was saved. Free some space, or make the "
        "run folder writable."
    )
