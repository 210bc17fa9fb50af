"""File cache of a predicted slide's candidate regions."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytoseg.active_learning.candidates import Frame, Predicted, find_candidates
from cytoseg.errors import PredictionError
from cytoseg.predict.candidate_regions import Candidate
from cytoseg.predict.summary import SUMMARY
from cytoseg.records import RecordFile
from cytoseg.writing import write_atomically

FORMAT = 2


@dataclass(frozen=True)
class _Scan:
    """The candidates of a slide, and all that decided them."""

    key: list[Any]
    candidates: tuple[Candidate, ...]


_FILE = RecordFile(_Scan, PredictionError, "Delete it.")


def scanned(
    source: Predicted, frame: Frame, *, classes: int, folder: Path, on_part: Callable[[int, int], None]
) -> list[Candidate]:
    """Return the candidates of a slide, cached per prediction.

    Args:
        source: The slide and its maps.
        frame: Size of a region.
        classes: Number of predicted classes.
        folder: Cache folder, one file per slide, if writable; a damaged or outdated file is rewritten.
        on_part: See ``find_candidates``.

    Raises:
        PredictionError: See ``find_candidates``.
        SlideError: See ``find_candidates``.
    """
    path = folder / f"{source.name}.json"
    summary = hashlib.sha256((source.folder / SUMMARY).read_bytes()).hexdigest()
    key = [FORMAT, summary, frame.size_px, frame.slides.mpp, frame.slides.assumed_mpp(source.slide), classes]
    known = _FILE.read_or_none(path)
    if known is not None and known.key == key:
        return list(known.candidates)
    found = find_candidates(source, frame, classes=classes, on_part=on_part)
    # Without write access, as in another user's run, they are recomputed next time.
    with contextlib.suppress(OSError):
        write_atomically(path, json.dumps(_FILE.content_of(_Scan(key, tuple(found)))))
    return found
