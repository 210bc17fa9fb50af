"""Crops that two people annotated differently, and their agreement."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import CytosegError
from cytoseg.labels.drawn_marks import origin_of
from cytoseg.labels.readings import Reading, map_sha256, marks_at, readings_folder, readings_of
from cytoseg.labels.reviewer_names import same_person
from cytoseg.metrics.agreement import Agreement, agreement
from cytoseg.metrics.counts import confusion_counts
from cytoseg.review.inter_rater import Pair, pairs_of
from cytoseg.slides.image import read_picture


@dataclass(frozen=True, eq=False)
class Side:
    """One person's marks: the name, when saved (UTC, ISO 8601), and (H, W) uint8 ids, 255 where unmarked."""

    person: str
    time: str
    ids: NDArray[np.uint8]

    @property
    def sha256(self) -> str:
        """Hash of the ids, 64 hexadecimal digits."""
        return map_sha256(self.ids)


@dataclass(frozen=True, eq=False)
class Conflict:
    """Two people who marked pixels of a crop with different classes.

    Attributes:
        crop: Id of the crop.
        picture: The crop's PNG file.
        slide: Id of its slide.
        sides: The two people's marks, by name.
        agreement: Their agreement on the pixels that both marked.
        readers: Everyone who has marked the crop.
    """

    crop: str
    picture: Path
    slide: str
    sides: tuple[Side, Side]
    agreement: Agreement
    readers: tuple[str, ...]

    @property
    def pair(self) -> frozenset[str]:
        """The hashes of both maps, by which a resolution knows what it resolves."""
        return frozenset(side.sha256 for side in self.sides)

    @property
    def disagreement(self) -> float:
        """Share of the pixels marked by both that they gave different classes, 0 to 1."""
        return 1 - (1.0 if self.agreement.same is None else self.agreement.same)


@dataclass(frozen=True, eq=False)
class Comparison:
    """What different people marked on the same crops.

    Attributes:
        conflicts: The open conflicts, the largest disagreement first.
        pairs: The agreement of each pair of people, pooled over all crops that both marked.
        problems: A sentence for each unreadable reading, which is left out.
    """

    conflicts: list[Conflict]
    pairs: list[Pair]
    problems: list[str]


def compare_people(
    pictures: Sequence[Path], classes: ClassList, resolved: Collection[tuple[str, frozenset[str]]]
) -> Comparison:
    """Compare each pair of people on each crop that both marked, reading all marks once.

    Args:
        pictures: PNG files of the crops.
        classes: Names of the ids.
        resolved: Crop and hashes of both maps of each resolved conflict.
    """
    found: list[Conflict] = []
    problems: list[str] = []

    def maps() -> Iterator[tuple[str, dict[str, NDArray[np.uint8]]]]:
        for picture in pictures:
            crop = picture.stem
            sides, slide, readers = _read(picture, classes, problems)
            conflicts = compared(sides, classes, crop=crop, slide=slide, picture=picture, readers=readers)
            found.extend(one for one in conflicts if (crop, one.pair) not in resolved)
            yield crop, {side.person: side.ids for side in sides}

    pairs = pairs_of(maps(), classes)
    return Comparison(worst_first(found), pairs, problems)


def worst_first(found: Iterable[Conflict]) -> list[Conflict]:
    """Order conflicts by disagreement, the largest first."""
    return sorted(found, key=lambda one: (-one.disagreement, -one.agreement.pixels, one.crop))


def compared(
    sides: Sequence[Side], classes: ClassList, *, crop: str, slide: str, picture: Path, readers: Sequence[str] = ()
) -> list[Conflict]:
    """Compare each pair of people's marks of a crop.

    Args:
        sides: The marks of each person.
        classes: Names of the ids.
        crop: Id of the crop.
        slide: Id of its slide.
        picture: Its PNG file.
        readers: Everyone who has marked the crop; by default, the people of the sides.

    Returns:
        A conflict for each pair that gave a pixel different classes.
    """
    everyone = tuple(readers) or tuple(side.person for side in sides)
    found = []
    for first, second in combinations(sides, 2):
        if same_person(first.person, second.person) or first.ids.shape != second.ids.shape:
            continue
        counts = confusion_counts(first.ids, second.ids, len(classes))
        if counts.sum() > np.trace(counts):
            found.append(Conflict(crop, picture, slide, (first, second), agreement(counts), everyone))
    return found


def differing(conflict: Conflict) -> NDArray[np.bool_]:
    """Mark the pixels that both people marked with different classes, (H, W) bool."""
    first, second = (side.ids for side in conflict.sides)
    differs: NDArray[np.bool_] = (first != second) & (first != IGNORE) & (second != IGNORE)
    return differs


def may_resolve(conflict: Conflict, person: str) -> bool:
    """Return whether a person is a third one, who has not marked the crop."""
    return bool(person) and not any(same_person(name, person) for name in conflict.readers)


def _read(picture: Path, classes: ClassList, problems: list[str]) -> tuple[list[Side], str, tuple[str, ...]]:
    """Return everyone's marks of a crop, its slide, and the names of those who marked it."""
    if not readings_folder(picture).is_dir():  # most crops: nothing has to be read
        return [], "", ()
    readings = readings_of(picture, problems)
    try:
        height, width = read_picture(picture, name=picture.name).shape[:2]
        slide = origin_of(picture).slide
    except CytosegError as error:
        problems.append(str(error))
        return [], "", ()
    readers = tuple(sorted({reading.drawn.author for reading in readings}))
    return _sides(readings, (height, width), classes, problems), slide, readers


def _sides(readings: Sequence[Reading], shape: tuple[int, int], classes: ClassList, problems: list[str]) -> list[Side]:
    found = []
    for reading in readings:
        try:
            ids = marks_at(reading, shape, classes)
        except CytosegError as error:
            problems.append(str(error))
            continue
        found.append(Side(reading.drawn.author, reading.drawn.time, ids))
    return sorted(found, key=lambda side: side.person)
