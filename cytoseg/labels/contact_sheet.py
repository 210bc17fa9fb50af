"""Contact sheet of all imported crops with their labels."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.drawing.overlay import HATCH, overlay
from cytoseg.drawing.sheet import PAPER, Spacing, Swatch, fitted, legend, put_text
from cytoseg.labels.index import LabelledCrop, total_pixels

SHEET_WIDTH_PX = 2400
TILE_PX = (96, 384)
"""Smallest and largest side of a crop on the sheet."""

GAP_PX, LINE_PX = 10, 22
_SPACING = Spacing(GAP_PX, LINE_PX)


def draw_sheet(crops: Sequence[LabelledCrop], classes: ClassList) -> Image.Image:
    """Draw all crops in rows with outlines and tints in the class colours, names and a legend.

    The fill class is only outlined; ignored pixels are hatched.

    Args:
        crops: One or more.
        classes: Names and colours.

    Returns:
        An RGB image, about 2400 pixels wide if there are more than a few crops.

    Raises:
        LabelError: If a crop or label map is missing or was modified.
    """
    columns = min(len(crops), math.ceil(math.sqrt(len(crops) * 1.5)))
    side = min(max(SHEET_WIDTH_PX // columns - GAP_PX, TILE_PX[0]), TILE_PX[1])
    width = max(columns * (side + GAP_PX) + GAP_PX, 480)
    strip = legend(_legend_entries(crops, classes), width, _SPACING)
    top, rows = GAP_PX + strip.height + GAP_PX, math.ceil(len(crops) / columns)
    sheet = Image.new("RGB", (width, top + rows * (side + LINE_PX + GAP_PX)), PAPER)
    sheet.paste(strip, (0, GAP_PX))
    for i, crop in enumerate(crops):
        x, y = GAP_PX + i % columns * (side + GAP_PX), top + i // columns * (side + LINE_PX + GAP_PX)
        sheet.paste(_tile(crop, classes, side), (x, y))
        caption = f"{crop.crop}  ({crop.slide})" if crop.slide != crop.crop else crop.crop
        put_text(sheet, (x, y + side + 3), fitted(caption, side))
    return sheet


def _tile(crop: LabelledCrop, classes: ClassList, side: int) -> Image.Image:
    scale = side / max(crop.width, crop.height)
    size = (max(1, round(crop.width * scale)), max(1, round(crop.height * scale)))
    # Enlarge before outlining, so that outlines stay thin.
    picture = Image.fromarray(crop.picture()).resize(size, Image.Resampling.BILINEAR)
    label_map = Image.fromarray(crop.label_map()).resize(size, Image.Resampling.NEAREST)
    return Image.fromarray(overlay(np.array(picture), np.array(label_map), classes))


def _legend_entries(crops: Sequence[LabelledCrop], classes: ClassList) -> list[tuple[str, Swatch]]:
    """Return text and colour of each entry; the heading has no colour."""
    slides = len({crop.slide for crop in crops})
    totals = total_pixels(crops)
    ignored = sum(crop.ignored for crop in crops)
    everything = max(1, sum(totals.values()) + ignored)
    headline = f"{_counted(len(crops), 'crop')} of {_counted(slides, 'slide')}"
    entries: list[tuple[str, Swatch]] = [(headline, None)]
    for name, colour in zip(classes.names, classes.colours, strict=True):
        filled = " (unmarked)" if name == classes.fill else ""
        entries.append((f"{name}{filled} {100 * totals.get(name, 0) / everything:.1f} %", colour))
    return [*entries, (f"ignore (hatched) {100 * ignored / everything:.1f} %", HATCH)]


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
