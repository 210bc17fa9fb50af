"""cells.csv: the table of objects with nucleus-to-cytoplasm ratios."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from io import BufferedWriter
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cytoseg.csv_table import Numeral, write_csv
from cytoseg.objects.measurements import Content, Shape

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
"""Columns of every object. ``area_px`` counts pixels of the maps."""

WITHOUT_MPP = tuple(
    column.removesuffix("_um") + "_px" if column in ("equivalent_diameter_um", "perimeter_um") else column
    for column in MEASURED
    if column not in ("centroid_x_um", "centroid_y_um", "area_um2")
)
"""The same if the pixel size is unknown: lengths in pixels of the maps, without the columns in micrometres."""

RATIO = "nucleus_to_cytoplasm_ratio"
NO_RATIO = "no_ratio_because"
SHARE, SHARED = "cytoplasm_px", "cytoplasm_is"
WHOLE, NEAREST = "whole", "nearest to this nucleus"
_LAST = ("cytoplasm_id", "nuclei", SHARE, SHARED, RATIO, NO_RATIO)
"""``cytoplasm_id`` is the cytoplasm with which a nucleus shares the longest border, ``nuclei`` the number of nuclei so
assigned to a cytoplasm. The ratio is the area of a nucleus divided by that of its cytoplasm, the same for both if there
is one of each. In a cytoplasm of several overlapping cells, each nucleus gets the pixels nearest to it (see
``cytoplasm_is``) and the cytoplasm has no ratio. The last column explains a missing ratio."""

_PIECE_ROWS = 4096


@dataclass(frozen=True)
class Scale:
    """Scale from pixels of the maps to level-0 pixels and micrometres (None if unknown)."""

    downsample: float
    mpp: float | None


@dataclass(frozen=True, eq=False)
class Partners:
    """Assignment of nuclei to cytoplasms.

    Attributes:
        cytoplasm: (N + 1,) int64 by instance id: the cytoplasm of a nucleus, 0 for none.
        is_cytoplasm: (N + 1,) bool.
        is_nucleus: (N + 1,) bool.
        pixels: (N + 1,) int64, area of each object.
        between: (N + 1,) bool: nuclei that border on several cytoplasms.
    """

    cytoplasm: NDArray[np.int64]
    is_cytoplasm: NDArray[np.bool_]
    is_nucleus: NDArray[np.bool_]
    pixels: NDArray[np.int64]
    between: NDArray[np.bool_]

    @cached_property
    def nuclei(self) -> NDArray[np.int64]:
        """(N + 1,) int64, number of nuclei per cytoplasm."""
        return np.bincount(self.cytoplasm, minlength=len(self.pixels))

    @cached_property
    def nuclei_px(self) -> NDArray[np.int64]:
        """(N + 1,) int64, total nuclear area per cytoplasm in pixels."""
        found = np.zeros(len(self.pixels), np.int64)
        np.add.at(found, self.cytoplasm, self.pixels)
        return found

    @cached_property
    def _shared(self) -> NDArray[np.bool_]:
        """(N + 1,) bool: cytoplasms with a nucleus that also borders on another cytoplasm."""
        shared = np.zeros(len(self.pixels), np.bool_)
        shared[self.cytoplasm[self.between]] = True
        return shared

    def no_ratio(self, number: int, *, share_px: int) -> str:
        """Return why an object has no ratio; empty if it has one or is neither nucleus nor cytoplasm.

        Args:
            number: Its instance id.
            share_px: Pixels of a nucleus's share of a cytoplasm with several nuclei.
        """
        own = number if self.is_cytoplasm[number] else int(self.cytoplasm[number])
        if not own:
            return "no cytoplasm around this nucleus" if self.is_nucleus[number] else ""
        if not self.nuclei[own]:
            return "no nucleus in this cytoplasm"
        if self.between[number]:
            return "several cytoplasms around this nucleus"
        if self.nuclei[own] > 1:
            return "" if share_px else f"{self.nuclei[own]} nuclei in one cytoplasm"
        return "several cytoplasms around its nucleus" if self._shared[own] else ""


def measured_columns(scale: Scale) -> tuple[str, ...]:
    """Return the names of the measurements: in micrometres if the pixel size is known, otherwise in pixels."""
    return WITHOUT_MPP if scale.mpp is None else MEASURED


def columns_of(scale: Scale) -> tuple[str, ...]:
    """Return the column names of the table."""
    return ("id", "class", *measured_columns(scale), *_LAST)


def measured_values(shape: Shape, content: Content, *, x: int, y: int, scale: Scale) -> list[float]:
    """Return the measurements of one object in the order of ``measured_columns``.

    Args:
        shape: Shape of the object.
        content: Content of the object.
        x: Left edge of its mask in the maps.
        y: Upper edge of its mask in the maps.
        scale: Scale of the maps.

    Returns:
        One number per column.
    """
    place = (x + shape.x, y + shape.y)
    um = 1.0 if scale.mpp is None else scale.mpp
    size = [shape.pixels] if scale.mpp is None else [*(v * um for v in place), shape.pixels, shape.pixels * um**2]
    return [
        *(v * scale.downsample for v in place),
        *size,
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
    """Buffers the measurements of objects 1, 2, ... and writes them as CSV once nuclei are assigned to cytoplasms.

    Args:
        waiting: Buffer file; removed by ``write``.
        scale: Scale of the maps.
    """

    def __init__(self, waiting: Path, scale: Scale) -> None:
        self._waiting, self._columns = waiting, columns_of(scale)
        self._width = 1 + len(measured_columns(scale))
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
        """Buffer the next object.

        Args:
            class_id: Class id.
            values: From ``measured_values``.

        Raises:
            OSError: If the disk is full.
        """
        assert self._file is not None
        self._file.write(np.array([class_id, *values], np.float64).tobytes())

    def write(self, path: Path, *, names: tuple[str, ...], partners: Partners, shares: NDArray[np.int64]) -> None:
        """Write the table, one row per object; undefined values are empty.

        Args:
            path: Output file.
            names: Class names.
            partners: Assignment of nuclei to cytoplasms.
            shares: (N + 1,) from ``territories``.

        Raises:
            OSError: If the disk is full.
        """
        write_csv(path, self._lines(names, partners, shares))
        self._waiting.unlink()

    def _lines(self, names: tuple[str, ...], partners: Partners, shares: NDArray[np.int64]) -> Iterator[list[object]]:
        yield list(self._columns)
        for number, (class_id, *values) in enumerate(self._rows(), start=1):
            own = number if partners.is_cytoplasm[number] else int(partners.cytoplasm[number])
            pair = ("", partners.nuclei[number]) if own == number else (own or "", "")
            last = _cell(number, own, partners, int(shares[number]))
            yield [number, names[int(class_id)], *map(_text, values), *pair, *last]

    def _rows(self) -> Iterator[list[float]]:
        with self._waiting.open("rb") as file:
            while len(values := np.fromfile(file, np.float64, _PIECE_ROWS * self._width)):
                yield from values.reshape(-1, self._width).tolist()


def _cell(number: int, own: int, partners: Partners, share_px: int) -> list[object]:
    """Return the cells for an object's cytoplasm, what that is, the ratio, and why it is missing.

    Args:
        number: Instance id of the object.
        own: Instance id of its cytoplasm (itself for a cytoplasm), 0 for none.
        partners: Assignment of nuclei to cytoplasms.
        share_px: See ``Partners.no_ratio``.
    """
    why_not = partners.no_ratio(number, share_px=share_px)
    if not own or why_not:
        return ["", "", "", why_not]
    whole_px = int(partners.pixels[own])
    if share_px:
        return [share_px, NEAREST, _text(partners.pixels[number] / share_px), ""]
    return [whole_px, WHOLE, _text(partners.nuclei_px[own] / whole_px), ""]


def _text(value: float) -> str:
    """Format a number with at most nine digits, which is precise to 1e-4 px on the largest slide."""
    return "" if math.isnan(value) else Numeral(f"{value:.9g}")
