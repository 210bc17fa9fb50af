"""Preview image of a predicted slide."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cytoseg.classes import IGNORE, ClassList
from cytoseg.drawing.pictures import paint_disagreement, stretched
from cytoseg.geometry import Size
from cytoseg.labels.contact_sheet import HATCH, overlay
from cytoseg.maps.raster import Raster
from cytoseg.slides.open import read_at
from cytoseg.slides.slide import Slide
from cytoseg.slides.tiling import TileGrid

MOST_PX = 1600
"""Longest side of the preview in pixels."""

_GAP_PX, _LINE_PX, _SWATCH_PX = 12, 24, 15
_NARROWEST_PX = 240  # minimum width for a title above a panel
_INK, _PAPER = (30, 30, 30), (255, 255, 255)
_FAINTEST_NATS = 0.01  # the area needs less space for a whole slide
_LEGEND_LINES = 2

_Colour = tuple[int, int, int]
_Panel = tuple[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class _Layout:
    panel: Size
    stacked: bool


def draw_preview(
    slide: Slide, grid: TileGrid, *, class_map: Path, uncertainty: Path, classes: ClassList
) -> Image.Image:
    """Draw the slide, its classes and its uncertainty, with a legend; stacked if the slide is wide, else side by side.

    The colour range of the uncertainty ends at the slide's 99.5 % quantile, given in the title.

    Args:
        slide: The open slide.
        grid: Tile grid of the maps.
        class_map: OME-TIFF pyramid of ids.
        uncertainty: OME-TIFF pyramid in nats.
        classes: Names and colours; the fill class is transparent.

    Returns:
        An RGB picture of at most 1600 pixels a side.
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
        (f"uncertainty, 0 to {brightest:.2f} nats", paint_disagreement(picture, grey, opacity=1)),
    ]
    sheet = _sheet(panels, _legend(classes, ignored=bool((ids == IGNORE).any())), layout)
    sheet.thumbnail((MOST_PX, MOST_PX))  # only an unusually long legend makes it larger
    return sheet


def _layout(size: Size) -> _Layout:
    """Choose the arrangement of the three panels that shows the slide larger."""
    outer, inner = MOST_PX - 2 * _GAP_PX, _LINE_PX * _LEGEND_LINES + _GAP_PX
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


def _legend(classes: ClassList, *, ignored: bool) -> list[tuple[str, _Colour]]:
    names = [f"{name} (left clear)" if name == classes.fill else name for name in classes.names]
    entries = list(zip(names, classes.colours, strict=True))
    return [*entries, ("not predicted (hatched)", HATCH)] if ignored else entries


def _sheet(panels: Sequence[_Panel], legend: Sequence[tuple[str, _Colour]], layout: _Layout) -> Image.Image:
    across, down = max(_NARROWEST_PX, layout.panel.width) + _GAP_PX, layout.panel.height + _LINE_PX + _GAP_PX
    columns, rows = (1, len(panels)) if layout.stacked else (len(panels), 1)
    width, top = columns * across + _GAP_PX, _GAP_PX + rows * down
    places = _legend_places([text for text, _ in legend], width)
    sheet = Image.new("RGB", (width, top + places[-1][1] + _LINE_PX + _GAP_PX), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for i, (title, pixels) in enumerate(panels):
        x, y = _GAP_PX + i % columns * across, _GAP_PX + i // columns * down
        draw.text((x, y), title, fill=_INK, font=font)
        sheet.paste(Image.fromarray(pixels), (x, y + _LINE_PX))
    for (text, colour), (x, y) in zip(legend, places, strict=True):
        draw.rectangle((x, top + y, x + _SWATCH_PX, top + y + _SWATCH_PX), fill=colour, outline=_INK)
        draw.text((x + _LINE_PX, top + y - 1), text, fill=_INK, font=font)
    return sheet


def _legend_places(texts: Sequence[str], width: int) -> list[tuple[int, int]]:
    """Place the entries from left to right with line breaks."""
    font, places, x, y = ImageFont.load_default(size=15), [], _GAP_PX, 0
    for text in texts:
        length = _LINE_PX + math.ceil(font.getlength(text)) + 2 * _GAP_PX
        if x > _GAP_PX and x + length > width:
            x, y = _GAP_PX, y + _LINE_PX
        places.append((x, y))
        x += length
    return places
