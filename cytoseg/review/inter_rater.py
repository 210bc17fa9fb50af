"""Inter-rater agreement on corrected crops."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import ClassList
from cytoseg.errors import LabelError
from cytoseg.labels.corrections import latest_corrections, read_correction
from cytoseg.metrics.agreement import Agreement, agreement
from cytoseg.metrics.counts import confusion_counts
from cytoseg.metrics.segmentation import Counts


@dataclass(frozen=True)
class Pair:
    """Two reviewers, the crops that both corrected, and their agreement."""

    first: str
    second: str
    crops: tuple[str, ...]
    agreement: Agreement


def compare_corrections(folder: Path, classes: ClassList, *, crop: str | None = None) -> tuple[list[Pair], list[str]]:
    """Compare the latest corrections of each pair of reviewers, pooled over crops.

    Args:
        folder: From `corrections.corrections_folder`; need not exist.
        classes: Names of the ids.
        crop: Restrict to this crop; None takes all.

    Returns:
        The pairs by name, and a sentence for each unreadable correction, which is skipped.
    """
    problems: list[str] = []
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    crops = ((name, _latest_maps(folder, name, classes, problems)) for name in (names if crop is None else [crop]))
    return pairs_of(crops, classes), problems


def pairs_of(crops: Iterable[tuple[str, Mapping[str, NDArray[np.uint8]]]], classes: ClassList) -> list[Pair]:
    """Compare each pair of people who marked the same crops, pooled over crops.

    Args:
        crops: Id of each crop with the label maps of the people who marked it, (H, W) uint8 ids, by name.
        classes: Names of the ids.

    Returns:
        The pairs by name.
    """
    counts: defaultdict[tuple[str, str], dict[str, Counts]] = defaultdict(dict)
    for name, maps in crops:
        for first, second in combinations(sorted(maps), 2):
            if maps[first].shape == maps[second].shape:
                counts[first, second][name] = confusion_counts(maps[first], maps[second], len(classes))
    return [
        Pair(*people, tuple(found), agreement(np.sum([*found.values()], axis=0)))
        for people, found in sorted(counts.items())
    ]


def _latest_maps(folder: Path, crop: str, classes: ClassList, problems: list[str]) -> dict[str, NDArray[np.uint8]]:
    """Read the latest label map of each reviewer; nothing is read if there is only one."""
    latest, wrong = latest_corrections(folder, crop)
    problems += wrong
    maps: dict[str, NDArray[np.uint8]] = {}
    for author, saved in latest.items() if len(latest) > 1 else ():
        try:
            maps[author] = read_correction(saved.path, classes)
        except LabelError as error:
            problems.append(str(error))
    return maps
