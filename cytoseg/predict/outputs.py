"""What is written of a predicted slide: class map, uncertainty map, preview and summary, all of them or nothing."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import SlideError
from cytoseg.predict.preview import draw_preview
from cytoseg.slides.pyramid import write_pyramid
from cytoseg.slides.slide import Slide
from cytoseg.slides.tiling import TileGrid

CLASS_MAP = "class_map.ome.tif"
UNCERTAINTY = "uncertainty.ome.tif"
PREVIEW = "preview.png"
SUMMARY = "summary.json"

FORMAT = 1
_DTYPES: dict[str, np.dtype[Any]] = {CLASS_MAP: np.dtype(np.uint8), UNCERTAINTY: np.dtype(np.float32)}
_SPOOL_ROWS = 256


@dataclass(frozen=True)
class Destination:
    """Where a prediction goes.

    Attributes:
        folder: Replaced as a whole at the end.
        classes: Names and colours of the ids.
        provenance: All that decides the result (bundle, slide, settings), as JSON can hold it; see ``is_done``.
    """

    folder: Path
    classes: ClassList
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class MapBand:
    """Some finished rows of the maps.

    Attributes:
        ids: (h, W) uint8 class ids, 255 for ignore.
        uncertainty: (h, W) float32 in nats, 0 where nothing was computed.
        computed: How many of the pixels were computed; the others are glass.
    """

    ids: NDArray[np.uint8]
    uncertainty: NDArray[np.float32]
    computed: int


@dataclass(frozen=True)
class Totals:
    """Sums over a whole slide.

    Attributes:
        pixels: (256,) int64, how often each id occurs.
        computed: Number of pixels that are not skipped glass.
        uncertainty: Sum over all pixels, in nats.
    """

    pixels: NDArray[np.int64]
    computed: int
    uncertainty: float


@dataclass(frozen=True)
class SlideFacts:
    """How a slide was predicted.

    Attributes:
        slide: The open slide.
        grid: Its tiles.
        mpp: Micrometres per pixel of the maps, or None if unknown.
        glass_tiles: How many tiles were skipped.
        begin: ``time.perf_counter()`` at the start.
    """

    slide: Slide
    grid: TileGrid
    mpp: float | None
    glass_tiles: int
    begin: float


def is_done(folder: Path, provenance: Mapping[str, Any]) -> bool:
    """Say whether a folder holds a whole prediction with exactly this provenance; a damaged summary counts as none."""
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    same = isinstance(summary, dict) and summary.get("provenance") == json.loads(json.dumps(dict(provenance)))
    return same and all((folder / name).is_file() for name in (CLASS_MAP, UNCERTAINTY, PREVIEW))


def spool_maps(folder: Path, bands: Iterable[MapBand]) -> Totals:
    """Write both maps as they come into raw files, so that each slide is computed in one pass.

    Args:
        folder: Where ``write_outputs`` will find them.
        bands: From top to bottom.

    Returns:
        Sums over all bands.
    """
    pixels, computed, uncertainty = np.zeros(256, np.int64), 0, 0.0
    with _spool(folder, CLASS_MAP).open("wb") as ids, _spool(folder, UNCERTAINTY).open("wb") as nats:
        for band in bands:
            # Not tofile(), which hides the reason of a failure.
            ids.write(band.ids.data)
            nats.write(band.uncertainty.data)
            pixels += np.bincount(band.ids.ravel(), minlength=256)
            computed += band.computed
            uncertainty += float(band.uncertainty.sum(dtype=np.float64))
    return Totals(pixels, computed, uncertainty)


def write_outputs(folder: Path, destination: Destination, *, facts: SlideFacts, totals: Totals) -> None:
    """Turn the raw files of ``spool_maps`` into pyramids, and write the preview and the summary.

    Args:
        folder: With the raw files, which are removed.
        destination: Classes and provenance.
        facts: How the slide was predicted.
        totals: From ``spool_maps``.

    Raises:
        OSError: If the disk is full.
        SlideError: If the slide is damaged.
    """
    size = facts.grid.size
    for name, dtype in _DTYPES.items():
        spool = _spool(folder, name)
        try:
            bands = _spooled(spool, width=size.width, dtype=dtype)
            write_pyramid(folder / name, bands, size=size, mpp=facts.mpp, categorical=name == CLASS_MAP)
        except SlideError as error:
            # The bands come from our own file: only the writing can have failed.
            raise OSError(getattr(error.__cause__, "strerror", None) or str(error)) from error
        spool.unlink()
    maps = {"class_map": folder / CLASS_MAP, "uncertainty": folder / UNCERTAINTY}
    draw_preview(facts.slide, facts.grid, **maps, classes=destination.classes).save(folder / PREVIEW)
    summary = _summary(destination, facts, totals)
    (folder / SUMMARY).write_text(json.dumps(summary, indent=1, allow_nan=False), encoding="utf-8")


def _spool(folder: Path, name: str) -> Path:
    return folder / f"{name}.raw"


def _spooled(spool: Path, *, width: int, dtype: "np.dtype[Any]") -> Iterator[NDArray[Any]]:
    with spool.open("rb") as source:
        while (values := np.fromfile(source, dtype, _SPOOL_ROWS * width)).size:
            yield values.reshape(-1, width)


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
        "slide": facts.slide.path.name,
        "size": [size.width, size.height],
        "mpp": mpp,
        "classes": per_class,
        "ignored": int(totals.pixels[IGNORE]),
        "tiles": len(facts.grid),
        "glass_tiles": facts.glass_tiles,
        "mean_disagreement": totals.uncertainty / totals.computed if totals.computed else None,
        "seconds": round(time.perf_counter() - facts.begin, 2),
        "provenance": dict(destination.provenance),
    }
