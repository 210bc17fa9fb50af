"""The most anomalous regions of a slide: a ranked list."""

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoseg.anomaly.scores import RANGES
from cytoseg.anomaly.thresholds import Thresholds
from cytoseg.classes import IGNORE
from cytoseg.csv_table import write_csv
from cytoseg.errors import PredictionError
from cytoseg.geometry import Region
from cytoseg.maps.map_spool import IDS, MapSpool
from cytoseg.predict.candidate_regions import highest_tenth
from cytoseg.quoting import short_repr
from cytoseg.records import RecordFile, RegionAsList

MAX_REGIONS = 50
"""Most regions in the list."""
FOLDER = "anomaly"
"""Folder of the scored slides in a run folder."""
REGIONS_JSON, REGIONS_CSV = "regions.json", "regions.csv"
_PICTURE = re.compile(r"(\d{2}\.png)?")


@dataclass(frozen=True)
class AnomalousRegion:
    """A region above the threshold.

    Attributes:
        region: Its position.
        texture: Mean of the highest tenth of its texture score, in thresholds.
        shape: The same for its shape score.
        label: Class of most of its pixels that are above the threshold.
        picture: Name of its image's file; empty for none.
    """

    region: RegionAsList
    texture: float
    shape: float
    label: str
    picture: str = ""

    def __post_init__(self) -> None:
        if not _PICTURE.fullmatch(self.picture):
            raise ValueError(f"{short_repr(self.picture)} is not an image of a region")

    @property
    def score(self) -> float:
        """The larger of both."""
        return max(self.texture, self.shape)

    @property
    def kind(self) -> str:
        """Name of the larger one."""
        return "texture" if self.texture >= self.shape else "shape"


@dataclass(frozen=True)
class RegionList:
    """The list of a slide.

    Attributes:
        slide_path: Path of the slide.
        regions: Highest score first.
        areas: Share of the computed pixels above the threshold, by score.
        mpp: Micrometres per pixel of the maps, or None.
        tissue: Whether any of the slide was computed.
    """

    slide_path: str
    regions: tuple[AnomalousRegion, ...]
    areas: dict[str, float]
    mpp: float | None = None
    tissue: bool = True


REGIONS_FILE = RecordFile(RegionList, PredictionError, "Run `cytoseg anomaly RECIPE SLIDE` on it again.")


def scored_slides(run: Path) -> list[Path]:
    """Return the folders of the slides of a run that were scored, by name."""
    return sorted(path.parent for path in (run / FOLDER).glob(f"*/{REGIONS_JSON}"))


def read_list(folder: Path) -> RegionList:
    """Read the list of a scored slide.

    Raises:
        PredictionError: If it is missing or damaged.
    """
    try:
        return REGIONS_FILE.read(folder / REGIONS_JSON, name=f"{folder.name}/{REGIONS_JSON}")
    except FileNotFoundError as error:
        raise PredictionError(
            f"{folder.name}/{REGIONS_JSON}: is missing. Run `cytoseg anomaly RECIPE SLIDE` on it again."
        ) from error


def find_regions(spool: MapSpool, thresholds: Thresholds, *, side_px: int, downsample: float) -> list[AnomalousRegion]:
    """Rank the squares of a grid by their scores; those below the threshold are left out.

    Args:
        spool: The maps of the slide.
        thresholds: Of each class.
        side_px: Side of a square in the maps' pixels; at the right and lower edges they are cut off.
        downsample: Level-0 pixels that a pixel of the maps spans.

    Returns:
        At most ``MAX_REGIONS``, highest score first, in reading order where equal.
    """
    found = _squares(spool, thresholds, side_px=side_px, downsample=downsample)
    return heapq.nlargest(MAX_REGIONS, (one for one in found if one.score > 1), key=lambda one: one.score)


def _squares(spool: MapSpool, thresholds: Thresholds, *, side_px: int, downsample: float) -> Iterator[AnomalousRegion]:
    width, height = spool.size.width, spool.size.height
    for y in range(0, height, side_px):
        rows = min(side_px, height - y)
        ids, *ratios = read_ratios(spool, thresholds, Region(0, y, width, rows))
        for x in range(0, width, side_px):
            columns = np.s_[:, x : x + side_px]
            parts = [ratio[columns] for ratio in ratios]
            texture, shape = (round(highest_tenth(part), 3) for part in parts)
            if max(texture, shape) > 1:
                label = _commonest(ids[columns][np.maximum(*parts) > 1], thresholds.classes)
                place = (round(value * downsample) for value in (x, y))
                size = (max(1, round(side * downsample)) for side in (parts[0].shape[1], rows))
                yield AnomalousRegion(Region(*place, *size), texture, shape, label)


def read_ratios(
    spool: MapSpool, thresholds: Thresholds, part: Region
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Read class ids, and texture and shape in thresholds, of a part of the maps, (height, width) each."""
    where = {"x": part.x, "y": part.y, "width": part.width, "height": part.height}
    ids = spool.window(IDS, **where)
    texture, shape = (thresholds.ratio(spool.window(name, **where), ids, name) for name in RANGES)
    return ids, texture, shape


def _commonest(ids: NDArray[np.uint8], names: tuple[str, ...]) -> str:
    counts = np.bincount(ids[ids != IGNORE], minlength=len(names))
    return names[int(counts.argmax())]


def write_regions_csv(path: Path, regions: list[AnomalousRegion]) -> None:
    """Write the list as a table.

    Raises:
        OSError: If the disk is full.
    """
    head = ("rank", "score", "kind", "texture", "shape", "class", "x", "y", "width", "height", "picture")
    rows = [
        (rank, r.score, r.kind, r.texture, r.shape, r.label, *r.region.as_json(), r.picture)
        for rank, r in enumerate(regions, start=1)
    ]
    write_csv(path, [head, *rows])
