"""Writing objects as GeoJSON for QuPath."""

import json
import uuid
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import ClassList
from cytoseg.labels.outlines import outline
from cytoseg.objects.simplify import Points, simplified, unsimplified

_NAMESPACE = uuid.UUID("5d1c3a52-6d0b-5b7e-9f0e-2f4c8d1b7a60")
"""UUID namespace of the ids, which must never change."""

_DIGITS = 4
"""Significant digits of a measurement; cells.csv has all of them."""

_DECIMALS = 2
"""Decimals of a coordinate in level-0 pixels if the downsample is not an integer."""


@dataclass(frozen=True, eq=False)
class Outlined:
    """One object to be written.

    Attributes:
        number: Its instance id.
        class_id: Class id.
        x: Left edge of ``mask`` in the maps.
        y: Upper edge of ``mask`` in the maps.
        mask: (h, w) bool.
        measurements: Name to number, shown by QuPath in this order.
    """

    number: int
    class_id: int
    x: int
    y: int
    mask: NDArray[np.bool_]
    measurements: Mapping[str, float]


class ObjectFile:
    """A FeatureCollection of detections in level-0 pixels, written incrementally; zipped if ``path`` ends in .zip.

    Each object is a Polygon or, if connected only at corners, a MultiPolygon. Its id is a UUID derived from the slide's
    name and the instance id, so that the same maps give the same file.

    Args:
        path: Output file.
        slide: Name of the slide.
        classes: Names and colours.
        downsample: Level-0 pixels that one pixel of the maps spans.
        exact: Write exact pixel outlines instead of ``simplified`` ones.

    Source: the properties are those that QuPath 0.4 and later writes (PathObjectTypeAdapters).
    """

    def __init__(self, path: Path, *, slide: str, classes: ClassList, downsample: float, exact: bool = True) -> None:
        self._exact = exact
        self._path, self._slide, self._classes, self._downsample = path, slide, classes, downsample
        self._file: TextIOWrapper | None = None
        self._open = ExitStack()
        self._separator = "\n"

    def __enter__(self) -> Self:
        """Open the file and write its header."""
        self._file = self._opened()
        self._file.write('{"type":"FeatureCollection","features":[')
        return self

    def __exit__(self, *exc: object) -> None:
        """Write the end and close."""
        assert self._file is not None
        with self._open:
            self._file.write("\n]}\n")

    def add(self, found: Outlined) -> None:
        """Write one object.

        Raises:
            OSError: If the disk is full.
        """
        assert self._file is not None
        text = json.dumps(self._feature(found), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        self._file.write(f"{self._separator}{text}")
        self._separator = ",\n"

    def _opened(self) -> TextIOWrapper:
        if self._path.suffix != ".zip":
            return self._open.enter_context(self._path.open("w", encoding="utf-8", newline="\n"))
        archive = self._open.enter_context(zipfile.ZipFile(self._path, "w", zipfile.ZIP_DEFLATED))
        member = zipfile.ZipInfo(self._path.stem)  # its fixed date gives the same bytes for the same maps
        member.compress_type = zipfile.ZIP_DEFLATED
        stream = archive.open(member, "w", force_zip64=True)
        return self._open.enter_context(TextIOWrapper(stream, encoding="utf-8", newline="\n"))

    def _feature(self, found: Outlined) -> dict[str, Any]:
        name = self._classes.names[found.class_id]
        return {
            "type": "Feature",
            "id": str(uuid.uuid5(_NAMESPACE, f"{self._slide}/{found.number}")),
            "geometry": self._geometry(found),
            "properties": {
                "objectType": "detection",
                "name": str(found.number),
                "classification": {"name": name, "color": list(self._classes.colours[found.class_id])},
                "measurements": {key: _short(value) for key, value in found.measurements.items()},
            },
        }

    def _geometry(self, found: Outlined) -> dict[str, Any]:
        polygons = outline(found.mask)
        rings = unsimplified(polygons) if self._exact else simplified(polygons)
        parts = [[self._closed(ring, found) for ring in polygon] for polygon in rings]
        if len(parts) == 1:
            return {"type": "Polygon", "coordinates": parts[0]}
        return {"type": "MultiPolygon", "coordinates": parts}

    def _closed(self, ring: Points, found: Outlined) -> list[list[float]]:
        corners = (np.concatenate([ring, ring[:1]]) + np.array([found.x, found.y])) * self._downsample
        return [[_whole(v) for v in corner] for corner in corners.round(_DECIMALS).tolist()]


def _short(value: float) -> float:
    return _whole(float(f"{value:.{_DIGITS}g}"))


def _whole(value: float) -> float:
    """Return an integral float as an int, written without a decimal point."""
    return int(value) if value.is_integer() else value
