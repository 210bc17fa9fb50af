"""Files of a slide that was scored for anomalies, or as a normal reference."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.anomaly.pictures import region_picture
from cytoseg.anomaly.regions import (
    REGIONS_CSV,
    REGIONS_FILE,
    REGIONS_JSON,
    AnomalousRegion,
    RegionList,
    find_regions,
    read_ratios,
    write_regions_csv,
)
from cytoseg.anomaly.scores import RANGES, RESIDUAL, SHAPE, TEXTURE, count_scores
from cytoseg.anomaly.thresholds import COUNTS, COUNTS_FILE, Thresholds, pack_counts, share_above
from cytoseg.classes import ClassList
from cytoseg.errors import PredictionError
from cytoseg.geometry import Region
from cytoseg.maps.map_spool import IDS, MapSpool, strip_rows
from cytoseg.maps.metadata import VALUES, about_classes, identity
from cytoseg.maps.raster import VALUE_SCALE
from cytoseg.predict.finished_maps import CLASS_MAP
from cytoseg.predict.outputs import PREVIEW, SlideFacts, remove_hidden, write_map
from cytoseg.predict.preview import draw_preview
from cytoseg.predict.summary import SUMMARY_NAME
from cytoseg.runs import versions
from cytoseg.slides.pyramid import About
from cytoseg.writing import write_atomically

ANOMALY = "anomaly.ome.tif"
PICTURES = "regions"
"""Folder of the images of the highest regions."""
MAX_PICTURES = 12
GREYS_PER_THRESHOLD = 32
"""Grey levels of a map from 0 to the threshold; it ends at 8 thresholds."""
_WHITE = 255


@dataclass(frozen=True)
class AnomalyDestination:
    """Everything that the results of a slide need.

    Attributes:
        classes: The class list.
        thresholds: Of each class.
        side_px: Side of a region in the maps' pixels.
        provenance: Everything that determines the result, as JSON.
    """

    classes: ClassList
    thresholds: Thresholds
    side_px: int
    provenance: Mapping[str, Any]


def write_counts(
    folder: Path, classes: ClassList, provenance: Mapping[str, Any], *, facts: SlideFacts, spool: MapSpool
) -> None:
    """Write the counts of a normal slide's scores.

    Raises:
        PredictionError: If the slide has no tissue.
        OSError: If the disk is full.
    """
    counts = count_scores(spool, classes=len(classes))
    if not counts[TEXTURE].any():
        raise PredictionError(
            f"{facts.slide.path.name}: no tissue was found on this normal slide. Name another slide, or change "
            "slides.background."
        )
    write_atomically(folder / COUNTS, json.dumps(COUNTS_FILE.content_of(pack_counts(counts))))
    _write_summary(folder, [COUNTS], provenance, facts)


def write_anomalies(folder: Path, destination: AnomalyDestination, *, facts: SlideFacts, spool: MapSpool) -> None:
    """Write maps, list, images, preview and summary of a slide.

    Args:
        folder: Output folder.
        destination: Classes, thresholds and provenance.
        facts: Facts about the slide.
        spool: Its maps: classes, both scores and the residual.

    Raises:
        OSError: If the disk is full.
        SlideError: If the slide is damaged.
    """
    remove_hidden(folder)
    thresholds = destination.thresholds
    files = _write_maps(folder, destination, facts=facts, spool=spool)
    scale = facts.grid.downsample
    regions = find_regions(spool, thresholds, side_px=destination.side_px, downsample=scale)
    regions = _with_pictures(folder, regions, destination, facts=facts, spool=spool)
    files += [f"{PICTURES}/{region.picture}" for region in regions if region.picture]
    write_regions_csv(folder / REGIONS_CSV, regions)
    counts = count_scores(spool, classes=len(destination.classes))
    areas = {name: round(share, 6) for name, share in share_above(counts, thresholds.thresholds).items()}
    tissue = bool(counts[TEXTURE].any())
    found = RegionList(str(facts.slide.path.resolve()), tuple(regions), areas, facts.mpp, tissue)
    write_atomically(folder / REGIONS_JSON, json.dumps(REGIONS_FILE.content_of(found), indent=1))
    drawn = draw_preview(
        facts.slide,
        facts.grid,
        class_map=folder / CLASS_MAP,
        uncertainty=folder / ANOMALY,
        classes=destination.classes,
        measure=("anomaly", "thresholds"),
    )
    drawn.save(folder / PREVIEW)
    _write_summary(folder, [*files, REGIONS_CSV, REGIONS_JSON, PREVIEW], destination.provenance, facts)


def _write_maps(folder: Path, destination: AnomalyDestination, *, facts: SlideFacts, spool: MapSpool) -> list[str]:
    """Write the classes, both scores and the larger of them in thresholds, and the residual."""
    name, provenance, thresholds = facts.slide.path.name, destination.provenance, destination.thresholds
    about = about_classes(name, destination.classes, provenance, file=CLASS_MAP)
    write_map(folder / CLASS_MAP, spool.strips(IDS), about, facts=facts, categorical=True)
    scores = {"anomaly": (TEXTURE, SHAPE), TEXTURE: (TEXTURE,), SHAPE: (SHAPE,)}
    files = [CLASS_MAP]
    for what, chosen in scores.items():
        file = f"{what}.ome.tif"
        about = _about(name, what, provenance, file=file, scale=1 / GREYS_PER_THRESHOLD)
        greys = _ratio_greys(spool, thresholds, chosen)
        write_map(folder / file, greys, about, facts=facts, categorical=False)
        files.append(file)
    file = f"{RESIDUAL}.ome.tif"
    about = _about(name, RESIDUAL, provenance, file=file, scale=1 / _WHITE)
    greys = (_greys(strip * _WHITE) for strip in spool.strips(RESIDUAL))
    write_map(folder / file, greys, about, facts=facts, categorical=False)
    return [*files, file]


def _about(slide: str, what: str, provenance: Mapping[str, Any], *, file: str, scale: float) -> About:
    notes = {VALUES: {VALUE_SCALE: repr(scale), "unit": "threshold" if what != RESIDUAL else "fraction of the range"}}
    return About(identity(file, provenance), f"{slide}: {what}", what, notes)


def _ratio_greys(spool: MapSpool, thresholds: Thresholds, names: Sequence[str]) -> Iterator[NDArray[np.uint8]]:
    width, height = spool.size.width, spool.size.height
    rows = strip_rows(width)
    for top in range(0, height, rows):
        _, *ratios = read_ratios(spool, thresholds, Region(0, top, width, min(rows, height - top)))
        by_name = dict(zip(RANGES, ratios, strict=True))
        yield _greys(np.max([by_name[name] for name in names], axis=0) * GREYS_PER_THRESHOLD)


def _greys(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(values).clip(0, _WHITE).astype(np.uint8)


def _with_pictures(
    folder: Path,
    regions: Sequence[AnomalousRegion],
    destination: AnomalyDestination,
    *,
    facts: SlideFacts,
    spool: MapSpool,
) -> list[AnomalousRegion]:
    """Draw the highest regions, and note the names of their images."""
    (folder / PICTURES).mkdir(exist_ok=True)
    named = []
    for rank, region in enumerate(regions, start=1):
        if rank <= MAX_PICTURES:
            region = replace(region, picture=f"{rank:02d}.png")
            thresholds, classes = destination.thresholds, destination.classes
            picture = region_picture(facts.slide, region, spool, thresholds, classes, downsample=facts.grid.downsample)
            picture.save(folder / PICTURES / region.picture)
        named.append(region)
    return named


def _write_summary(folder: Path, files: Sequence[str], provenance: Mapping[str, Any], facts: SlideFacts) -> None:
    size = facts.grid.size
    summary = {
        "format": 1,
        "files": list(files),
        "slide": facts.slide.path.name,
        "slide_path": str(facts.slide.path.resolve()),
        "note": facts.note,
        "size": [size.width, size.height],
        "mpp": facts.mpp,
        "versions": versions(),
        "provenance": dict(provenance),
    }
    write_atomically(folder / SUMMARY_NAME, json.dumps(summary, indent=1, allow_nan=False))
