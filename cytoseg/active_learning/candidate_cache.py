"""The candidates of a predicted slide kept in a file: finding them reads whole maps, choosing among them does not."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cytoseg.active_learning.candidates import Frame, Predicted, find_candidates
from cytoseg.geometry import Region
from cytoseg.json_text import load_json
from cytoseg.predict.disagreement import Candidate
from cytoseg.predict.summary import SUMMARY
from cytoseg.writing import write_atomically

FORMAT = 2


def scanned(
    source: Predicted, frame: Frame, *, classes: int, folder: Path, on_part: Callable[[int, int], None]
) -> list[Candidate]:
    """Return the candidates of a slide, from the file if they were found before in the same prediction.

    Args:
        source: The slide and its maps.
        frame: How large a region is.
        classes: How many classes were predicted.
        folder: Takes a file for each slide, if it can be written; one that is damaged or of another prediction is
            written again.
        on_part: See ``find_candidates``.

    Raises:
        PredictionError: See ``find_candidates``.
        SlideError: Likewise.
    """
    path = folder / f"{source.name}.json"
    summary = hashlib.sha256((source.folder / SUMMARY).read_bytes()).hexdigest()
    key = [FORMAT, summary, frame.size_px, frame.mpp, frame.assumed_mpp(source.slide), classes]
    try:
        content = load_json(path)
        if content["key"] == key:
            return [_candidate(entry, source.name) for entry in content["candidates"]]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass  # written again
    found = find_candidates(source, frame, classes=classes, on_part=on_part)
    entries = [asdict(candidate) | {"region": candidate.region.as_json()} for candidate in found]
    # Where nothing can be written, as in somebody else's run, they are found again the next time.
    with contextlib.suppress(OSError):
        write_atomically(path, json.dumps({"key": key, "candidates": entries}))
    return found


def _candidate(entry: dict[str, Any], slide: str) -> Candidate:
    return Candidate(
        slide=slide,
        region=Region.from_json(entry["region"]),
        score=float(entry["score"]),
        usual=float(entry["usual"]),
        class_shares=tuple(map(float, entry["class_shares"])),
        appearance=tuple(map(float, entry["appearance"])),
    )
