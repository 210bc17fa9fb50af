"""Preview image of a predicted slide."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoseg.classes import IGNORE, ClassList
from cytoseg.drawing.overlay import HATCH, overlay, paint_disagreement, stretched
from cytoseg.drawing.sheet import PAPER, Spacing, Swatch, class_entries, legend, put_titled
from cytoseg.geometry import Size
from cytoseg.maps.raster import Raster
from cytoseg.slides.open import read_at
from cytoseg.slides.slide import Slide
from cytoseg.slides.tiling import TileGrid

MAX_PX = 1600
"""Longest side of the preview in pixels."""

_GAP_PX, _LINE_PX = 12, 24
_SPACING = Spacing(_GAP_PX, _LINE_PX)
_NARROWEST_PX = 240  # minimum width for a title above a panel
_FAINTEST_NATS = 0.01  # a whole slide has less uncertainty than a region
_LEGEND_LINES = 2

_Panel = tuple[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class _Layout:
    panel: Size
    stacked: bool


def draw_preview(
    slide: Slide,
    grid: TileGrid,
    *,
    class_map: Path,
    uncertainty: Path,
    classes: ClassList,
    measure: tuple[str, str] = ("uncertainty", "nats"),
) -> Image.Image:
    """Draw the slide, its classes and its uncertainty, with a legend; stacked if the slide is wide, else side by side.

    The colour range of the uncertainty ends at the slide's 99.5 % quantile, given in the title.

    Args:
        slide: The open slide.
        grid: Tile grid of the maps.
        class_map: OME-TIFF pyramid of ids.
        uncertainty: OME-TIFF pyramid in nats.
        classes: Names and colours; the fill class is transparent.
        measure: What ``uncertainty`` holds, and its unit.

    Returns:
        An RGB image of at most 1600 pixels a side.
    """
    layout = _layout(grid.size)
    panel = layout.panel
    reading = Size(min(panel.width, grid.size.width), min(panel.height, grid.size.height))
    picture = _resized(read_at(slide, grid.area, reading), panel)
    ids = _resized(_read_level(class_map, panel), panel)
    nats = _resized(_read_level(uncertainty, panel), panel)
    grey, brightest = stretched(nats, faintest_nats=_FAINTEST_NATS)
    panels = [
        ("slide", picture),
        ("classes", overlay(picture, ids, classes)),
        (f"{measure[0]}, 0 to {brightest:.2f} {measure[1]}", paint_disagreement(picture, grey, opacity=1)),
    ]
    entries = class_entries(classes, fill_note="(left clear)")
    if (ids == IGNORE).any():
        entries.append(("not predicted (hatched)", HATCH))
    sheet = _sheet(panels, entries, layout)
    sheet.thumbnail((MAX_PX, MAX_PX))  # only an unusually long legend makes it larger
    return sheet


def _layout(size: Size) -> _Layout:
    """Choose the arrangement of the three panels that shows the slide larger."""
    outer, inner = MAX_PX - 2 * _GAP_PX, _LINE_PX * _LEGEND_LINES + _GAP_PX
    row = Size((outer - 2 * _GAP_PX) // 3, outer - inner - _LINE_PX)
    column = Size(outer, (outer - inner) // 3 - _LINE_PX - _GAP_PX)
    scales = [min(room.width / size.width, room.height / size.height) for room in (row, column)]
    # A small slide is enlarged by an integer factor to visible pixels, up to the width of a title.
    scale = max(scales)
    if scale >= 1:
        scale = min(math.floor(scale), max(1, 2 * _NARROWEST_PX // max(size.width, size.height)))
    panel = Size(max(1, round(size.width * scale)), max(1, round(size.height * scale)))
    return _Layout(panel, stacked=scales[1] > scales[0])


def _read_level(path: Path, panel: Size) -> NDArray[Any]:
    """Read the coarsest level that is at least as large as the panel, otherwise the finest."""
    with Raster(path) as raster:
        sizes = [level.size for level in raster.levels]
        fine_enough = [i for i, size in enumerate(sizes) if size.width >= panel.width and size.height >= panel.height]
        level = (fine_enough or [0])[-1]
        return raster.sample(np.arange(sizes[level].height), np.arange(sizes[level].width), level)


def _resized(pixels: NDArray[Any], size: Size) -> NDArray[Any]:
    return np.array(Image.fromarray(pixels).resize((size.width, size.height), Image.Resampling.NEAREST))


def _sheet(panels: Sequence[_Panel], entries: Sequence[tuple[str, Swatch]], layout: _Layout) -> Image.Image:
    across, down = max(_NARROWEST_PX, layout.panel.width) + _GAP_PX, layout.panel.height + _LINE_PX + _GAP_PX
    columns, rows = (1, len(panels)) if layout.stacked else (len(panels), 1)
    width, top = columns * across + _GAP_PX, _GAP_PX + rows * down
    strip = legend(entries, width, _SPACING)
    sheet = Image.new("RGB", (width, top + strip.height + _GAP_PX), PAPER)
    for i, (title, pixels) in enumerate(panels):
        place = (_GAP_PX + i % columns * across, _GAP_PX + i // columns * down)
        put_titled(sheet, pixels, title, place, _SPACING)
    sheet.paste(strip, (0, top - 1))
    return sheet
