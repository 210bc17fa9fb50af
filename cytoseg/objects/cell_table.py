"""The table of all objects, cells.csv: measurements wait in a plain file until it is known which objects touch."""

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
"""Columns that each object has by itself. ``area_px`` counts pixels of the maps."""

WITHOUT_MPP = tuple(
    column.removesuffix("_um") + "_px" if column in ("equivalent_diameter_um", "perimeter_um") else column
    for column in MEASURED
    if column not in ("centroid_x_um", "centroid_y_um", "area_um2")
)
"""The same if unknown the size of a pixel: lengths in pixels of the maps, and no column that would be empty."""

RATIO = "nucleus_to_cytoplasm_ratio"
NO_RATIO = "no_ratio_because"
SHARE, SHARED = "cytoplasm_px", "cytoplasm_is"
WHOLE, NEAREST = "whole", "nearest to this nucleus"
_LAST = ("cytoplasm_id", "nuclei", SHARE, SHARED, RATIO, NO_RATIO)
"""``cytoplasm_id`` is the cytoplasm that a nucleus shares the longest border with, ``nuclei`` how many nuclei a
cytoplasm has in this way. The ratio is the area of a nucleus over that of its cytoplasm, the same number for both where
there is one of each. Where cells overlap into one area, each nucleus has the pixels that are nearest to it, which
``cytoplasm_is`` says, and the area itself has no ratio. The last column says why a ratio is missing."""

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
        is_nucleus: (N + 1,) bool.
        pixels: (N + 1,) int64, each object's area.
        between: (N + 1,) bool: a nucleus that borders on several cytoplasms.
    """

    cytoplasm: NDArray[np.int64]
    is_cytoplasm: NDArray[np.bool_]
    is_nucleus: NDArray[np.bool_]
    pixels: NDArray[np.int64]
    between: NDArray[np.bool_]

    @cached_property
    def nuclei(self) -> NDArray[np.int64]:
        """(N + 1,) int64, how many nuclei each cytoplasm has."""
        return np.bincount(self.cytoplasm, minlength=len(self.pixels))

    @cached_property
    def nuclei_px(self) -> NDArray[np.int64]:
        """(N + 1,) int64, how many pixels the nuclei of each cytoplasm have together."""
        found = np.zeros(len(self.pixels), np.int64)
        np.add.at(found, self.cytoplasm, self.pixels)
        return found

    @cached_property
    def _shared(self) -> NDArray[np.bool_]:
        """(N + 1,) bool: a cytoplasm of whose nuclei one borders on others, too."""
        shared = np.zeros(len(self.pixels), np.bool_)
        shared[self.cytoplasm[self.between]] = True
        return shared

    def no_ratio(self, number: int, *, share_px: int = 0) -> str:
        """Say why an object has no ratio; empty where it has one, and where it is neither nucleus nor cytoplasm.

        Args:
            number: Its instance id.
            share_px: What a nucleus has of a cytoplasm with several.
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
    """Name what is measured of each object: in micrometres too where their size is known, else in pixels."""
    return WITHOUT_MPP if scale.mpp is None else MEASURED


def columns_of(scale: Scale) -> tuple[str, ...]:
    """Name the columns of the table."""
    return ("id", "class", *measured_columns(scale), *_LAST)


def measured_values(shape: Shape, content: Content, *, x: int, y: int, scale: Scale) -> list[float]:
    """Put the measurements of one object into the order of ``measured_columns``.

    Args:
        shape: Of the object.
        content: Of the object.
        x: Left edge of its mask in the maps.
        y: Upper edge of its mask in the maps.
        scale: Of the maps.

    Returns:
        One number for each column.
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
    """Takes the measurements of objects 1, 2, ... and writes them as CSV when their partners are known.

    Args:
        waiting: File for the measurements meanwhile; removed by ``write``.
        scale: Of the maps.
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
        """Note the next object.

        Args:
            class_id: Of the class list.
            values: Of ``measured_values``.

        Raises:
            OSError: If the disk is full.
        """
        assert self._file is not None
        self._file.write(np.array([class_id, *values], np.float64).tobytes())

    def write(self, path: Path, *, names: tuple[str, ...], partners: Partners, shares: NDArray[np.int64]) -> None:
        """Write the table, one row per object; what does not apply is an empty cell.

        Args:
            path: Where to.
            names: Of the classes.
            partners: Of all objects.
            shares: (N + 1,) of ``territories``.

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
    """Give the cytoplasm of an object, what that is, its ratio, and why it has none.

    Args:
        number: Of the object.
        own: Number of its cytoplasm, itself where it is one, 0 for none.
        partners: Of all objects.
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
    """Write a number with nine digits at most: a tenth of a pixel's thousandth on the largest slide."""
    return "" if math.isnan(value) else Numeral(f"{value:.9g}")
