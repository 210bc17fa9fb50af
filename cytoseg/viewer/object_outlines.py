"""Outlines of the objects in a part of a predicted slide, read from objects.geojson."""

import mmap
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.geometry import Region
from cytoseg.json_text import parse_json
from cytoseg.slides.parser_errors import is_of_content

MAX_OBJECTS = 3000
"""Most objects returned at once: the largest of those in view."""
MIN_PX = 6.0
"""An object whose reach is fewer screen pixels is returned as a dot; a disc then has a radius of 2."""
_MAX_BYTES = 8_000_000  # of one object
_PIECE = 2**24
_MAX_UNPACKED = 50  # times the bytes of the zip file; outlines take five to seven times


@dataclass(frozen=True, eq=False)
class ObjectPlaces:
    """Where the objects of a slide are, in the order of cells.csv; lengths in level-0 pixels.

    Attributes:
        ids: (N,) int64.
        names: (N,) class names.
        x: (N,) float64, centroids.
        y: The same.
        reach: (N,) float64; no part of the object is further from its centroid.
    """

    ids: NDArray[np.int64]
    names: Sequence[str]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    reach: NDArray[np.float64]


def outlines_in(path: Path, places: ObjectPlaces, region: Region, *, pixel: float) -> dict[str, Any]:
    """Return the objects in a region.

    Args:
        path: objects.geojson, zipped or not, as written by ``ObjectFile``: one object per line, in the order of
            ``places``.
        places: All objects of the slide.
        region: What is in view, in level-0 pixels.
        pixel: Level-0 pixels per screen pixel; outlines are thinned to about this.

    Returns:
        ``objects``: id, class and rings, flat lists of x and y, of each object; ``dots``: id, class, x and y of objects
        too small for an outline; ``total``: number of objects in view, of which at most `MAX_OBJECTS` are returned.

    Raises:
        SlideError: If the file is damaged or belongs to another table.
    """
    ends = _line_ends(path, path.stat().st_mtime_ns)
    if len(ends) != len(places.ids) + 2:
        raise _not_of_this_table(path)
    seen = np.flatnonzero(_in_view(places, region))
    total = len(seen)
    if total > MAX_OBJECTS:
        seen = np.sort(seen[np.argsort(-places.reach[seen], kind="stable")[:MAX_OBJECTS]])
    small = places.reach[seen] < MIN_PX * pixel
    dots = [_dot(places, int(row)) for row in seen[small]]
    return {"objects": _objects(path, ends, places, seen[~small], pixel), "dots": dots, "total": total}


def _in_view(places: ObjectPlaces, region: Region) -> NDArray[np.bool_]:
    across = np.abs(places.x - (region.x + region.width / 2)) <= places.reach + region.width / 2
    down = np.abs(places.y - (region.y + region.height / 2)) <= places.reach + region.height / 2
    return np.asarray(across & down, np.bool_)


def _dot(places: ObjectPlaces, row: int) -> dict[str, Any]:
    x, y = float(places.x[row]), float(places.y[row])
    return {"id": int(places.ids[row]), "class": places.names[row], "x": round(x, 1), "y": round(y, 1)}


def _objects(
    path: Path, ends: NDArray[np.int64], places: ObjectPlaces, rows: NDArray[np.int64], pixel: float
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if not len(rows):
        return found
    with _plain(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for row in rows.tolist():
            start, end = int(ends[row]) + 1, int(ends[row + 1])
            if end - start > _MAX_BYTES:
                raise SlideError(f"{path.name}: object {places.ids[row]} is larger than {_MAX_BYTES} bytes.")
            rings = _rings(path, content[start:end].rstrip(b","), number=int(places.ids[row]))
            thinned = [ring for ring in (_thinned(ring, pixel) for ring in rings) if len(ring) > 2]
            flat = [ring.round(2).ravel().tolist() for ring in thinned]
            found.append({"id": int(places.ids[row]), "class": places.names[row], "rings": flat})
    return found


def _rings(path: Path, line: bytes, *, number: int) -> list[NDArray[np.float64]]:
    """Read the rings of one feature, each (n, 2)."""
    try:
        feature = parse_json(line, name=path.name)
        name, geometry = feature["properties"]["name"], feature["geometry"]
        parts = geometry["coordinates"]
        polygons = {"Polygon": [parts], "MultiPolygon": parts}[geometry["type"]]
        rings = [np.array(ring, np.float64) for polygon in polygons for ring in polygon]
    except (LookupError, TypeError, ValueError) as error:
        raise SlideError(f"{path.name}: object {number} is damaged. Predict the slide again.") from error
    if name != str(number):
        raise _not_of_this_table(path)
    if not all(ring.ndim == 2 and ring.shape[1] == 2 and np.isfinite(ring).all() for ring in rings):
        raise SlideError(f"{path.name}: object {number} is damaged. Predict the slide again.")
    return rings


def _thinned(ring: NDArray[np.float64], pixel: float) -> NDArray[np.float64]:
    """Drop the corners that fall on the same screen pixel as the one before."""
    if pixel <= 1:
        return ring
    on_screen = np.floor(ring / pixel)
    moved = np.any(np.diff(on_screen, axis=0) != 0, axis=1)
    kept: NDArray[np.float64] = ring[np.concatenate([[True], moved])]
    return kept


def _not_of_this_table(path: Path) -> SlideError:
    return SlideError(f"{path.name}: does not hold the objects of cells.csv. Predict the slide again.")


@lru_cache(maxsize=4)
def _line_ends(path: Path, written_ns: int) -> NDArray[np.int64]:
    """Find the newlines of a file, (L,) int64 offsets."""
    ends, before = [np.zeros(0, np.int64)], 0
    with _plain(path) as file:
        while piece := file.read(_PIECE):
            ends.append(np.flatnonzero(np.frombuffer(piece, np.uint8) == ord("\n")) + before)
            before += len(piece)
    return np.concatenate(ends)


def _plain(path: Path) -> IO[bytes]:
    """Open the text at its start; a zipped one is unpacked once.

    Raises:
        SlideError: If the zip file is damaged.
    """
    if path.suffix != ".zip":
        return path.open("rb")
    unpacked = _unpacked(path, path.stat().st_mtime_ns)  # when released, it removes its file
    return Path(unpacked.name).open("rb")


@lru_cache(maxsize=2)
def _unpacked(path: Path, written_ns: int) -> IO[bytes]:
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115 - stays open while it is cached
    try:
        with zipfile.ZipFile(path) as archive:
            (member,) = archive.infolist()
            if member.file_size > _MAX_UNPACKED * path.stat().st_size:
                raise ValueError("it would take too much space")
            with archive.open(member) as stream:
                shutil.copyfileobj(stream, file, _PIECE)
        file.flush()
    except Exception as error:
        if not is_of_content(error):
            raise
        raise SlideError(f"{path.name}: is damaged ({error}). Predict the slide again.") from error
    return file
