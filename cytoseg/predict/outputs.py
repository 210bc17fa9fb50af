"""Output files of a predicted slide: maps, preview and summary."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import SlideError
from cytoseg.maps import map_spool
from cytoseg.maps.map_spool import MapSpool
from cytoseg.maps.metadata import about_classes, about_uncertainty
from cytoseg.objects.cell_table import Scale, columns_of
from cytoseg.objects.find_objects import INSTANCES, LARGEST_PX, write_objects
from cytoseg.objects.object_writer import CELLS, OUTLINES, ZIPPED_OUTLINES, SlideMaps
from cytoseg.objects.parquet import PARQUET, write_parquet
from cytoseg.objects.settings import ObjectSettings
from cytoseg.predict.finished_maps import CLASS_MAP, UNCERTAINTY, are_whole
from cytoseg.predict.preview import draw_preview
from cytoseg.predict.summary import SUMMARY_NAME, summary_of
from cytoseg.runs import versions
from cytoseg.slides.fingerprint import slide_sha256, slide_stamp
from cytoseg.slides.pyramid import About, Pixels, write_pyramid
from cytoseg.slides.slide import Slide
from cytoseg.slides.tiling import TileGrid
from cytoseg.writing import write_atomically

PREVIEW = "preview.png"

FORMAT = 1
_GREY_BITS, _WHITE = 8, 255


@dataclass(frozen=True)
class Destination:
    """Destination of a prediction.

    Attributes:
        folder: Output folder, replaced atomically at the end.
        classes: Names and colours of the ids.
        provenance: Everything that determines the result (bundle, slide, settings), as JSON; see ``is_done``.
        objects: Object settings; None for no objects.
        origin: Origin of the bundle, for the summary.
        uncertainty_bits: 8 for grey levels with a scale, 32 for float nats.
    """

    folder: Path
    classes: ClassList
    provenance: Mapping[str, Any]
    objects: ObjectSettings | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    uncertainty_bits: int = 32


@dataclass(frozen=True)
class Totals:
    """Sums over a whole slide.

    Attributes:
        pixels: (256,) int64, number of pixels per id.
        computed: Number of pixels that are not skipped glass.
        uncertainty: Sum over all pixels, in nats.
    """

    pixels: NDArray[np.int64]
    computed: int
    uncertainty: float


@dataclass(frozen=True)
class SlideFacts:
    """Facts about a predicted slide.

    Attributes:
        slide: The open slide.
        grid: Its tiles.
        mpp: Micrometres per pixel of the maps, or None if unknown.
        note: Which image of the file was read, what is missing, and whether it was not resampled to the bundle's mpp.
        glass_tiles: Number of skipped tiles.
        computing_s: Seconds in the predictor in this run.
        begin: ``time.perf_counter()`` at the start of this run.
    """

    slide: Slide
    grid: TileGrid
    mpp: float | None
    note: str
    glass_tiles: int
    computing_s: float
    begin: float


def is_done(folder: Path, provenance: Mapping[str, Any]) -> bool:
    """Return whether a folder holds a complete prediction with this provenance, with undamaged summary and maps."""
    found = summary_of(folder)
    return (
        bool(found.files)
        and found.provenance == json.loads(json.dumps(dict(provenance)))
        and all(os.path.isfile(folder / name) for name in found.files)
        and are_whole(folder, found)
    )


def other_slide(folder: Path, path: Path) -> Path | None:
    """Return the other slide whose results a folder contains; None if they are of this slide or it no longer exists.

    A copy of the slide with the same size and modification time counts as the same slide.
    """
    named = summary_of(folder).slide_path
    if not named:
        return None
    try:
        other = Path(named)
        same = other.samefile(path) or slide_stamp(other) == slide_stamp(path)
    except (OSError, ValueError):
        return None
    return None if same else other


def left_out_of(folder: Path, *, least_px: int) -> str:
    """Describe how many components did not become objects; empty if all did or if unknown.

    Args:
        folder: Folder of the prediction.
        least_px: Components of fewer pixels were dropped.
    """
    by_class = summary_of(folder).objects.values()
    sheets, dropped = sum(found.sheets for found in by_class), sum(found.dropped for found in by_class)
    parts = ((sheets, f"in rectangles of more than {LARGEST_PX} px"), (dropped, f"of fewer than {least_px} px"))
    return ", ".join(f"{count} area{'s' * (count > 1)} {which}" for count, which in parts if count)


def is_whole(folder: Path) -> bool:
    """Return whether all outputs of a slide have been written; the summary is the last of them."""
    return (folder / SUMMARY_NAME).exists()


def write_outputs(
    folder: Path,
    destination: Destination,
    *,
    facts: SlideFacts,
    spool: MapSpool,
    on_row: Callable[[int, int], None],
) -> None:
    """Write the finished maps as pyramids, the objects, the preview and the summary.

    Args:
        folder: Output folder.
        destination: Classes and provenance.
        facts: Facts about the prediction.
        spool: The maps.
        on_row: Called with the rows of the object search done, and their total.

    Raises:
        OSError: If the disk is full.
        SlideError: If the slide is damaged.
    """
    remove_hidden(folder)
    _write_classes(folder / CLASS_MAP, spool, destination=destination, facts=facts)
    _write_uncertainty(folder / UNCERTAINTY, spool, destination=destination, facts=facts)
    maps, classes = (folder / CLASS_MAP, folder / UNCERTAINTY), destination.classes
    preview = draw_preview(facts.slide, facts.grid, class_map=maps[0], uncertainty=maps[1], classes=classes)
    preview.save(folder / PREVIEW)
    summary = _summary(destination, facts, add_up(spool))
    if destination.objects is not None:
        grid = facts.grid
        found = SlideMaps(spool, facts.slide, grid.size, grid.downsample, facts.mpp, destination.classes)
        totals = write_objects(folder, found, settings=destination.objects, on_row=on_row)
        summary["objects"] = totals.record()
        if destination.objects.parquet:
            write_parquet(folder / CELLS, folder / PARQUET, columns=columns_of(Scale(grid.downsample, facts.mpp)))
    write_atomically(folder / SUMMARY_NAME, json.dumps(summary, indent=1, allow_nan=False))


def remove_hidden(folder: Path) -> None:
    """Remove the temporary files that a killed process left in an output folder."""
    for leftover in folder.glob(".*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def add_up(spool: MapSpool) -> Totals:
    """Sum the maps of a slide."""
    pixels, computed, uncertainty = np.zeros(256, np.int64), 0, 0.0
    for ids in spool.strips(map_spool.IDS):
        pixels += np.bincount(ids.ravel(), minlength=256)
    for confidence in spool.strips(map_spool.CONFIDENCE):
        computed += int(np.count_nonzero(confidence))
    for nats in spool.strips(map_spool.UNCERTAINTY):
        uncertainty += float(nats.sum(dtype=np.float64))
    return Totals(pixels, computed, uncertainty)


def _files(objects: ObjectSettings | None) -> list[str]:
    """Return the files written beside the summary."""
    files = [CLASS_MAP, UNCERTAINTY, PREVIEW]
    if objects is not None:
        outlines = ZIPPED_OUTLINES if objects.zip_outlines else OUTLINES
        files += [CELLS, outlines, INSTANCES, *([PARQUET] if objects.parquet else [])]
    return files


def _write_classes(path: Path, spool: MapSpool, *, destination: Destination, facts: SlideFacts) -> None:
    about = about_classes(facts.slide.path.name, destination.classes, destination.provenance, file=path.name)
    write_map(path, spool.strips(map_spool.IDS), about, facts=facts, categorical=True)


def _write_uncertainty(path: Path, spool: MapSpool, *, destination: Destination, facts: SlideFacts) -> None:
    strips, scale = spool.strips(map_spool.UNCERTAINTY), None
    if destination.uncertainty_bits == _GREY_BITS:
        largest = max(float(strip.max()) for strip in spool.strips(map_spool.UNCERTAINTY))
        scale = (largest or 1.0) / _WHITE
        strips = _greys(strips, scale)
    about = about_uncertainty(facts.slide.path.name, scale, destination.provenance, file=path.name)
    write_map(path, strips, about, facts=facts, categorical=False)


def _greys(strips: Iterator[NDArray[Any]], scale: float) -> Iterator[NDArray[np.uint8]]:
    """Convert nats to rounded grey levels."""
    for strip in strips:
        yield np.rint(strip * np.float32(1 / scale)).clip(0, _WHITE).astype(np.uint8)
        # Drop the reference to the old strip before the next one is made.
        del strip


def write_map(path: Path, strips: Iterable[Pixels], about: About, *, facts: SlideFacts, categorical: bool) -> None:
    """Write a map of a slide as a pyramid.

    Raises:
        OSError: If it cannot be written.
    """
    try:
        write_pyramid(path, strips, size=facts.grid.size, mpp=facts.mpp, categorical=categorical, about=about)
    except SlideError as error:
        # The rows come from our own file: only writing can fail.
        raise OSError(getattr(error.__cause__, "strerror", None) or str(error)) from error


def _sha256(path: Path) -> str:
    try:
        return slide_sha256(path)
    except OSError as error:
        # An OSError would be mistaken for one of the output disk.
        raise SlideError(f"{path.name}: can no longer be read ({error}). Check its disk.") from error


def _summary(destination: Destination, facts: SlideFacts, totals: Totals) -> dict[str, Any]:
    size, mpp = facts.grid.size, facts.mpp
    per_class = {}
    for class_id, name in enumerate(destination.classes.names):
        pixels = int(totals.pixels[class_id])
        area_um2 = None if mpp is None else round(pixels * mpp**2, 3)
        per_class[name] = {
            "pixels": pixels,
            "share": round(pixels / (size.width * size.height), 6),
            "area_um2": area_um2,
        }
    return {
        "format": FORMAT,
        "files": _files(destination.objects),
        "slide": facts.slide.path.name,
        "slide_path": str(facts.slide.path.resolve()),
        "slide_sha256": _sha256(facts.slide.path),
        "note": facts.note,
        "size": [size.width, size.height],
        "mpp": mpp,
        "classes": per_class,
        "ignored": int(totals.pixels[IGNORE]),
        "tiles": len(facts.grid),
        "glass_tiles": facts.glass_tiles,
        "mean_disagreement": totals.uncertainty / totals.computed if totals.computed else None,
        "seconds": round(time.perf_counter() - facts.begin, 2),
        "computing_seconds": round(facts.computing_s, 2),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "bundle": dict(destination.origin),
        "provenance": dict(destination.provenance),
    }
