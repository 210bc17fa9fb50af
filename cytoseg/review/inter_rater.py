"""Inter-rater agreement on corrected crops."""

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import ClassList
from cytoseg.errors import LabelError
from cytoseg.labels.corrections import find_corrections, read_correction
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


def compare_people(folder: Path, classes: ClassList, *, crop: str | None = None) -> tuple[list[Pair], list[str]]:
    """Compare the latest corrections of each pair of reviewers, pooled over crops.

    Args:
        folder: From `corrections.corrections_folder`; need not exist.
        classes: Names of the ids.
        crop: Restrict to this crop; None takes all.

    Returns:
        The pairs by name, and a sentence for each unreadable correction, which is skipped.
    """
    problems: list[str] = []
    counts: defaultdict[tuple[str, str], dict[str, Counts]] = defaultdict(dict)
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    for name in names if crop is None else [crop]:
        maps = _latest_maps(folder, name, classes, problems)
        for first, second in combinations(sorted(maps), 2):
            if maps[first].shape == maps[second].shape:
                counts[first, second][name] = confusion_counts(maps[first], maps[second], len(classes))
    pairs = [
        Pair(*people, tuple(found), agreement(np.sum([*found.values()], axis=0)))
        for people, found in sorted(counts.items())
    ]
    return pairs, problems


def _latest_maps(folder: Path, crop: str, classes: ClassList, problems: list[str]) -> dict[str, NDArray[np.uint8]]:
    """Read the latest label map of each reviewer; nothing is read if there is only one."""
    found, wrong = find_corrections(folder, crop)
    problems += wrong
    latest = {saved.correction.author: saved.path for saved in found}
    maps: dict[str, NDArray[np.uint8]] = {}
    for author, path in latest.items() if len(latest) > 1 else ():
        try:
            maps[author] = read_correction(path, classes)
        except LabelError as error:
            problems.append(str(error))
    return maps
