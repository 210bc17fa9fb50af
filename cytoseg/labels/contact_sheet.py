"""Contact sheet of all imported crops with their labels."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cytoseg.classes import IGNORE, ClassList
from cytoseg.labels.index import LabelledCrop, total_pixels

SHEET_WIDTH_PX = 2400
TILE_PX = (96, 384)
"""Smallest and largest side of a crop on the sheet."""

GAP_PX, LINE_PX = 10, 22
_MOST_CHARACTERS = 200
PAPER, INK, HATCH = (255, 255, 255), (40, 40, 40), (90, 90, 90)
VEIL = 0.3
"""Opacity of a class's colour inside its outline."""


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
    entries = _legend_entries(crops, classes)
    width = max(columns * (side + GAP_PX) + GAP_PX, 480)
    places, legend_height = _legend_places([text for text, _ in entries], width)
    rows = math.ceil(len(crops) / columns)
    sheet = Image.new("RGB", (width, legend_height + rows * (side + LINE_PX + GAP_PX)), PAPER)
    _draw_legend(sheet, entries, places)
    for i, crop in enumerate(crops):
        x = GAP_PX + i % columns * (side + GAP_PX)
        y = legend_height + i // columns * (side + LINE_PX + GAP_PX)
        sheet.paste(_tile(crop, classes, side), (x, y))
        caption = f"{crop.crop}  ({crop.slide})" if crop.slide != crop.crop else crop.crop
        ImageDraw.Draw(sheet).text((x, y + side + 3), _fitted(caption, side), fill=INK, font=_font())
    return sheet


def overlay(picture: NDArray[np.uint8], label_map: NDArray[np.uint8], classes: ClassList) -> NDArray[np.uint8]:
    """Overlay a label map on an image.

    Args:
        picture: (H, W, 3) uint8 RGB.
        label_map: (H, W) uint8 ids, 255 for ignore.
        classes: Colours; the fill class is not tinted.

    Returns:
        (H, W, 3) uint8 RGB: classes tinted and outlined in their colour, ignore hatched in grey.
    """
    colours = classes.colour_table()[label_map].astype(np.float64)
    ignored = label_map == IGNORE
    veiled = (~ignored & (label_map != classes.fill_id))[..., None]
    out = np.where(veiled, (1 - VEIL) * picture + VEIL * colours, picture)
    row, column = np.indices(label_map.shape)
    out[ignored & ((row + column) % 8 < 2)] = HATCH
    edge = _edges(label_map) & veiled[..., 0]
    out[edge] = colours[edge]
    return np.rint(out).astype(np.uint8)


def _edges(label_map: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Mark the pixels with a different id beside, above or below them, (H, W) bool."""
    edges = np.zeros(label_map.shape, np.bool_)
    across, down = label_map[:, 1:] != label_map[:, :-1], label_map[1:] != label_map[:-1]
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges


def _tile(crop: LabelledCrop, classes: ClassList, side: int) -> Image.Image:
    scale = side / max(crop.width, crop.height)
    size = (max(1, round(crop.width * scale)), max(1, round(crop.height * scale)))
    # Enlarge before outlining, so that outlines stay thin.
    picture = Image.fromarray(crop.picture()).resize(size, Image.Resampling.BILINEAR)
    label_map = Image.fromarray(crop.label_map()).resize(size, Image.Resampling.NEAREST)
    return Image.fromarray(overlay(np.array(picture), np.array(label_map), classes))


def _legend_entries(crops: Sequence[LabelledCrop], classes: ClassList) -> list[tuple[str, tuple[int, int, int] | None]]:
    """Return text and colour of each entry; the heading has no colour."""
    slides = len({crop.slide for crop in crops})
    totals = total_pixels(crops)
    ignored = sum(crop.ignored for crop in crops)
    everything = max(1, sum(totals.values()) + ignored)
    headline = f"{_counted(len(crops), 'crop')} of {_counted(slides, 'slide')}"
    entries: list[tuple[str, tuple[int, int, int] | None]] = [(headline, None)]
    for name, colour in zip(classes.names, classes.colours, strict=True):
        filled = " (unmarked)" if name == classes.fill else ""
        entries.append((f"{name}{filled} {100 * totals.get(name, 0) / everything:.1f} %", colour))
    return [*entries, (f"ignore (hatched) {100 * ignored / everything:.1f} %", HATCH)]


def _legend_places(texts: Sequence[str], width: int) -> tuple[list[tuple[int, int]], int]:
    """Place the entries from left to right with line breaks; return their corners and the total height."""
    places, x, y = [], GAP_PX, GAP_PX
    for text in texts:
        length = LINE_PX + math.ceil(_font().getlength(text)) + 2 * GAP_PX
        if x > GAP_PX and x + length > width:
            x, y = GAP_PX, y + LINE_PX
        places.append((x, y))
        x += length
    return places, y + LINE_PX + GAP_PX


def _draw_legend(
    sheet: Image.Image,
    entries: Sequence[tuple[str, tuple[int, int, int] | None]],
    places: Sequence[tuple[int, int]],
) -> None:
    draw = ImageDraw.Draw(sheet)
    for (text, colour), (x, y) in zip(entries, places, strict=True):
        if colour is not None:
            draw.rectangle((x, y + 1, x + 15, y + 16), fill=colour, outline=INK)
        draw.text((x + (LINE_PX if colour is not None else 0), y), text, fill=INK, font=_font())


def _fitted(text: str, width: int) -> str:
    """Shorten a text in the middle until it fits a width in pixels."""
    if len(text) > _MOST_CHARACTERS:  # measuring a name of thousands of characters repeatedly would take minutes
        text = text[: _MOST_CHARACTERS // 2] + text[-(_MOST_CHARACTERS // 2) :]
    if _font().getlength(text) <= width:
        return text
    keep = len(text)
    while keep > 2 and _font().getlength(text[: keep // 2] + "…" + text[-(keep // 2) :]) > width:
        keep -= 1
    return text[: keep // 2] + "…" + text[-(keep // 2) :]


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=15)
