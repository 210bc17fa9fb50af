"""The table of all objects, cells.csv: measurements wait in a plain file until it is known which objects touch."""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cytoseg.predict.measure import Content, Shape

MEASURED = (
    "centroid_x_level0_px",
    "centroid_y_level0_px",
    "centroid_x_um",
    "centroid_y_um",
    "area_px",
    "area_um2",
    "equivalent_diameter_um",
    "perimeter_um",
    "circularity",
    "eccentricity",
    "red_mean_8bit",
    "green_mean_8bit",
    "blue_mean_8bit",
    "optical_density_mean",
    "red_sd_8bit",
    "green_sd_8bit",
    "blue_sd_8bit",
    "optical_density_sd",
    "confidence_mean",
    "uncertainty_mean_nats",
)
"""Columns that each object has by itself. ``area_px`` counts pixels of the maps."""

COLUMNS = ("id", "class", *MEASURED, "cytoplasm_id", "nuclei", "nucleus_to_cytoplasm_ratio")
"""``cytoplasm_id`` is the cytoplasm that a nucleus shares the longest border with, ``nuclei`` how many nuclei a
cytoplasm has in this way. The ratio is the area of all its nuclei over its own, the same number for the cytoplasm and
each of its nuclei: where cells overlap into one area of cytoplasm it is their mean."""

_PIECE_ROWS = 4096


@dataclass(frozen=True)
class Scale:
    """From pixels of the maps to level-0 pixels and micrometres (None where unknown)."""

    downsample: float
    mpp: float | None


@dataclass(frozen=True, eq=False)
class Partners:
    """Which objects make up a cell.

    Attributes:
        cytoplasm: (N + 1,) int64 by instance id: a nucleus's cytoplasm, 0 for none.
        is_cytoplasm: (N + 1,) bool.
        pixels: (N + 1,) int64, each object's area.
    """

    cytoplasm: NDArray[np.int64]
    is_cytoplasm: NDArray[np.bool_]
    pixels: NDArray[np.int64]


def measured_values(shape: Shape, content: Content, *, x: int, y: int, scale: Scale) -> list[float]:
    """Put the measurements of one object into the order of ``MEASURED``.

    Args:
        shape: Of the object.
        content: Of the object.
        x: Left edge of its mask in the maps.
        y: Upper edge of its mask in the maps.
        scale: Of the maps.

    Returns:
        One number for each column; NaN in micrometres where the scale is unknown.
    """
    um = math.nan if scale.mpp is None else scale.mpp
    place = (x + shape.x, y + shape.y)
    return [
        *(v * scale.downsample for v in place),
        *(v * um for v in place),
        shape.pixels,
        shape.pixels * um**2,
        2 * math.sqrt(shape.pixels / math.pi) * um,
        shape.perimeter * um,
        shape.circularity,
        shape.eccentricity,
        *content.means,
        *content.deviations,
        content.confidence,
        content.uncertainty,
    ]


class CellTable:
    """Takes the measurements of objects 1, 2, ... and writes them as CSV when their partners are known.

    Args:
        waiting: File for the measurements meanwhile; removed by ``write``.
    """

    def __init__(self, waiting: Path) -> None:
        self._waiting = waiting
        self._file: BufferedWriter | None = None

    def __enter__(self) -> Self:
        """Open the file."""
        self._file = self._waiting.open("wb")
        return self

    def __exit__(self, *exc: object) -> None:
        """Close it."""
        assert self._file is not None
        self._file.close()

    def add(self, class_id: int, values: list[float]) -> None:
        """Note the next object.

        Args:
            class_id: Of the class list.
            values: Of ``measured_values``.

        Raises:
            OSError: If the disk is full.
        """
        assert self._file is not None
        self._file.write(np.array([class_id, *values], np.float64).tobytes())

    def write(self, path: Path, *, names: tuple[str, ...], partners: Partners) -> None:
        """Write the table, one row per object; what does not apply is an empty cell.

        Args:
            path: Where to.
            names: Of the classes.
            partners: Of all objects.

        Raises:
            OSError: If the disk is full.
        """
        nuclei = np.bincount(partners.cytoplasm, minlength=len(partners.pixels))
        nuclei_px = np.zeros(len(partners.pixels), np.int64)
        np.add.at(nuclei_px, partners.cytoplasm, partners.pixels)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for number, (class_id, *values) in enumerate(self._rows(), start=1):
                own = number if partners.is_cytoplasm[number] else int(partners.cytoplasm[number])
                share = nuclei_px[own] / partners.pixels[own] if own and nuclei[own] else math.nan
                last = [own if own and own != number else "", nuclei[number] if own == number else "", _text(share)]
                writer.writerow([number, names[int(class_id)], *map(_text, values), *last])
        self._waiting.unlink()

    def _rows(self) -> Iterator[list[float]]:
        width = 1 + len(MEASURED)
        with self._waiting.open("rb") as file:
            while len(values := np.fromfile(file, np.float64, _PIECE_ROWS * width)):
                yield from values.reshape(-1, width).tolist()


def _text(value: float) -> str:
    """Write a number with nine digits at most: a tenth of a pixel's thousandth on the largest slide."""
    return "" if math.isnan(value) else f"{value:.9g}"
