"""Finding the regions of highest disagreement on a predicted slide, once per prediction."""

import contextlib
import hashlib
import heapq
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import IGNORE
from cytoseg.errors import PredictionError
from cytoseg.geometry import Region, Size
from cytoseg.maps.map_file import MapFile
from cytoseg.predict.candidate_regions import (
    Candidate,
    appearance_of,
    highest_tenth,
    most_uncertain_classes,
    without_ignored,
)
from cytoseg.predict.finished_maps import map_versions, open_maps
from cytoseg.predict.summary import SUMMARY_NAME
from cytoseg.records import RecordFile
from cytoseg.slides.contrast import near_empty
from cytoseg.slides.fingerprint import slide_stamp
from cytoseg.slides.open import open_slide, read_at
from cytoseg.slides.resolution import downsample_to
from cytoseg.slides.settings import SlidesSection
from cytoseg.slides.slide import Slide
from cytoseg.writing import write_atomically

MAX_CANDIDATES = 300
"""Most candidates per slide: more are never annotated before the next training."""
BLOCK_PX = 2048
"""Side of a block read from the maps at once: 21 MB."""
COARSE_PX = 64
"""Side of the image for the appearance: enough to show stain and content."""
STEP_NATS = 0.001
"""Resolution of a slide's usual score."""
MAX_NATS = 6.0
"""Upper limit of the disagreement: the logarithm of 255 classes is 5.5."""
SCAN_FORMAT = 2
"""Format of a cache file."""


@dataclass(frozen=True)
class Predicted:
    """A predicted slide.

    Attributes:
        name: Its id, also the name of its folder.
        folder: Folder of its maps.
        slide: The slide's file.
    """

    name: str
    folder: Path
    slide: Path


@dataclass(frozen=True)
class Frame:
    """Size of a region.

    Attributes:
        size_px: Side of a crop.
        slides: Determines the resolution.
    """

    size_px: int
    slides: SlidesSection

    def side(self, slide: Slide) -> int:
        """Return the side of a region in level-0 pixels.

        Raises:
            SlideError: If the slide does not state its mpp and one is required.
        """
        assumed = self.slides.assumed_mpp(slide.path)
        return max(1, round(self.size_px * downsample_to(self.slides.mpp, slide, assume_mpp=assumed)))


@dataclass(frozen=True)
class _Scan:
    """The candidates of a slide, and everything that determined them."""

    key: list[Any]
    candidates: tuple[Candidate, ...]


_FILE = RecordFile(_Scan, PredictionError, "Delete it.")


def map_scale(slide: Slide, size: Size) -> float:
    """Compute how many level-0 pixels a pixel of a map of this size spans."""
    return slide.levels[0].size.width / size.width


def cached_candidates(
    source: Predicted, frame: Frame, *, classes: int, folder: Path, on_part: Callable[[int, int], None]
) -> list[Candidate]:
    """Return the candidates of a slide, cached per prediction, version of its maps and slide.

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
    summary = hashlib.sha256((source.folder / SUMMARY_NAME).read_bytes()).hexdigest()
    files = [*map_versions(source.folder), list(slide_stamp(source.slide))]
    at = [frame.size_px, frame.slides.mpp, frame.slides.assumed_mpp(source.slide)]
    key = [SCAN_FORMAT, summary, *files, *at, classes]
    known = _FILE.read_or_none(path)
    if known is not None and known.key == key:
        return list(known.candidates)
    found = find_candidates(source, frame, classes=classes, on_part=on_part)
    # Without write access, as in another user's run, they are recomputed next time.
    with contextlib.suppress(OSError):
        write_atomically(path, json.dumps(_FILE.content_of(_Scan(key, tuple(found)))))
    return found


def find_candidates(
    source: Predicted,
    frame: Frame,
    *,
    classes: int,
    on_part: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Candidate]:
    """Score the regions of a grid and return those with the highest disagreement, without near-empty glass.

    The grid starts at the upper left corner; its last row and column are shifted inside the slide.

    Args:
        source: The slide and its maps.
        frame: Size of a region.
        classes: Number of predicted classes.
        on_part: Called with the number of map blocks done and the total.

    Returns:
        At most ``MAX_CANDIDATES``, highest disagreement first; empty without any disagreement.

    Raises:
        PredictionError: If a map is missing or damaged, or the maps differ in size.
        SlideError: If the slide is missing, damaged, or does not state its mpp.
    """
    versions = map_versions(source.folder)
    with open_slide(source.slide) as slide, open_maps(source.folder, versions) as (ids, nats):
        side, scale = frame.side(slide), map_scale(slide, ids.size)
        maps = _Maps(ids, nats, max(1, round(side / scale)))
        places, usual = _highest_disagreement(maps, on_part)
        found = []
        for score, x, y in places:
            region = Region(round(x * scale), round(y * scale), side, side)
            picture = read_at(slide, region, Size(COARSE_PX, COARSE_PX))
            class_map, disagreement = maps.at(x, y)
            class_shares = most_uncertain_classes(disagreement, class_map, classes=classes)
            appearance = appearance_of(picture, class_map, classes=classes)
            if not near_empty(appearance[:3], appearance[3:6]):
                found.append(Candidate(source.name, region, score, usual, class_shares, appearance))
    return found


@dataclass(frozen=True)
class _Maps:
    """Both maps of a slide, and the side of a region in map pixels."""

    ids: MapFile
    nats: MapFile
    side: int

    def blocks(self) -> list[tuple[list[int], list[int]]]:
        """Group neighbouring regions into blocks to read: upper edges of rows, and left edges of columns."""
        rows, columns = (_starts(length, self.side) for length in (self.ids.size.height, self.ids.size.width))
        together = max(1, BLOCK_PX // self.side)
        return [
            (rows[i : i + together], columns[j : j + together])
            for i in range(0, len(rows), together)
            for j in range(0, len(columns), together)
        ]

    def scores(self, rows: Sequence[int], columns: Sequence[int]) -> Iterator[tuple[float, int, int]]:
        """Return score, x and y of the regions of a block with any disagreement."""
        left, top, side = columns[0], rows[0], self.side
        ids, nats = self._read(left, top, width=columns[-1] + side - left, height=rows[-1] + side - top)
        disagreement = without_ignored(nats, ids)
        for y in rows:
            for x in columns:
                part = disagreement[y - top : y - top + side, x - left : x - left + side]
                if part.any():
                    yield round(highest_tenth(part), 6), x, y

    def at(self, x: int, y: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return the class map, (side, side) uint8, and the disagreement of a region, (side, side) float32 in nats."""
        ids, nats = self._read(x, y, width=self.side, height=self.side)
        return ids, without_ignored(nats, ids)

    def _read(self, x: int, y: int, *, width: int, height: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        ids = self.ids.read(x, y, width=width, height=height, outside=IGNORE)
        return ids, self.nats.read(x, y, width=width, height=height)


def _starts(length: int, side: int) -> list[int]:
    last = max(0, length - side)
    return [*range(0, last, side), last]


def _highest_disagreement(
    maps: _Maps, on_part: Callable[[int, int], None]
) -> tuple[list[tuple[float, int, int]], float]:
    """Return score, x and y of the regions of highest disagreement, in reading order, and the median score."""
    best: list[tuple[float, int, int]] = []
    counts = np.zeros(round(MAX_NATS / STEP_NATS), np.int64)
    blocks = maps.blocks()
    for done, block in enumerate(blocks, start=1):
        for score, x, y in maps.scores(*block):
            counts[min(round(score / STEP_NATS), len(counts) - 1)] += 1
            place = (score, -y, -x)
            if len(best) < MAX_CANDIDATES:
                heapq.heappush(best, place)
            else:
                heapq.heappushpop(best, place)
        on_part(done, len(blocks))
    half = np.searchsorted(np.cumsum(counts), counts.sum() / 2) if best else 0
    return [(score, -x, -y) for score, y, x in sorted(best, reverse=True)], round(float(half) * STEP_NATS, 6)
