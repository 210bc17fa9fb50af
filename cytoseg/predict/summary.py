"""The fields of summary.json that programs use."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cytoseg.errors import PredictionError
from cytoseg.objects.settings import ClassTotals
from cytoseg.records import RecordFile

SUMMARY_NAME = "summary.json"
_ADVICE = "Run `cytoseg predict RECIPE SLIDE` on it again."


@dataclass(frozen=True)
class ClassArea:
    """Area of one class on a slide; ``area_um2`` is in square micrometres, None without mpp."""

    pixels: int | None = None
    share: float | None = None
    area_um2: float | None = None


@dataclass(frozen=True)
class SlideSummary:
    """Summary of a predicted slide.

    Attributes:
        slide_path: Path of the slide.
        slide_sha256: SHA-256 of its file.
        note: Note on how it was read, see ``SlideFacts``.
        size: Width and height of the maps; None in summaries of earlier versions.
        mpp: Micrometres per pixel of the maps, or None if unknown.
        files: Names of the files beside the summary.
        classes: By name, in the order of their ids.
        objects: By class name.
        provenance: Everything that determined the result.
        made: When it was finished, UTC in ISO 8601.
        versions: Versions of the program and its libraries.
    """

    slide_path: str = ""
    slide_sha256: str = ""
    note: str | None = ""
    size: tuple[int, int] | None = None
    mpp: float | None = None
    files: tuple[str, ...] = ()
    classes: dict[str, ClassArea] = field(default_factory=dict)
    objects: dict[str, ClassTotals] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    made: str = ""
    versions: dict[str, str] = field(default_factory=dict)


SUMMARY_FILE = RecordFile(
    SlideSummary, PredictionError, _ADVICE, unnumbered=True, not_json="the file is not complete JSON"
)


def summary_of(folder: Path) -> SlideSummary:
    """Read the summary of a prediction; empty if it is missing or damaged."""
    return SUMMARY_FILE.read_or_none(folder / SUMMARY_NAME) or SlideSummary()


def finished_summary(folder: Path) -> SlideSummary:
    """Read the summary of a prediction that names its classes.

    Raises:
        PredictionError: If it is missing, damaged or without classes.
    """
    found = summary_of(folder)
    if not found.classes:
        raise PredictionError(f"{SUMMARY_NAME} is damaged or of an older version. {_ADVICE}")
    return found


def classes_of(folder: Path) -> list[str]:
    """Return the class names of a prediction in the order of their ids.

    Raises:
        PredictionError: If the summary is missing or damaged.
    """
    return list(finished_summary(folder).classes)
