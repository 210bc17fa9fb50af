"""The layout and style of sheets of images: titles, captions and legends."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cytoseg.classes import ClassList

PAPER, INK = (255, 255, 255), (40, 40, 40)
SWATCH_PX = 16
_FONT_PX = 15
_MAX_CHARACTERS = 200

Picture = NDArray[np.uint8]
Swatch = tuple[int, int, int] | Picture | None
"""A colour, an image of 16 px height, or nothing for a heading."""


@dataclass(frozen=True)
class Spacing:
    """Distances on a sheet.

    Attributes:
        gap_px: Between images.
        line_px: Height of a line of text.
    """

    gap_px: int
    line_px: int


def legend(entries: Sequence[tuple[str, Swatch]], width_px: int, spacing: Spacing) -> Image.Image:
    """Draw a legend from left to right with line breaks.

    Args:
        entries: Text and swatch of each; one or more.
        width_px: Width of the sheet; only a longer entry extends beyond it.
        spacing: Of the sheet.

    Returns:
        An RGB image of this width, as high as its lines.
    """
    places, x, y = [], spacing.gap_px, 0
    for text, swatch in entries:
        length = _indent_px(swatch, spacing) + math.ceil(text_width_px(text)) + 2 * spacing.gap_px
        if x > spacing.gap_px and x + length > width_px:
            x, y = spacing.gap_px, y + spacing.line_px
        places.append((x, y))
        x += length
    strip = Image.new("RGB", (width_px, y + spacing.line_px), PAPER)
    for (text, swatch), (left, top) in zip(entries, places, strict=True):
        if swatch is not None:
            _draw_swatch(strip, swatch, left, top + 1)
        put_text(strip, (left + (0 if swatch is None else _indent_px(swatch, spacing)), top), text)
    return strip


def class_entries(classes: ClassList, *, fill_note: str) -> list[tuple[str, Swatch]]:
    """Return a legend entry for each class, with a note behind the fill class."""
    names = (f"{name} {fill_note}" if name == classes.fill else name for name in classes.names)
    return list(zip(names, classes.colours, strict=True))


def put_titled(sheet: Image.Image, picture: Picture, title: str, place: tuple[int, int], spacing: Spacing) -> None:
    """Paste an image (H, W, 3) uint8 with its title above it; ``place`` is the corner (x, y) of the title."""
    put_text(sheet, place, title)
    sheet.paste(Image.fromarray(picture), (place[0], place[1] + spacing.line_px))


def put_text(sheet: Image.Image, place: tuple[int, int], text: str) -> None:
    """Write a line of text at the corner (x, y)."""
    ImageDraw.Draw(sheet).text(place, text, fill=INK, font=_font())


def text_width_px(text: str) -> float:
    """Measure a line of text."""
    return float(_font().getlength(text))


def fitted(text: str, width_px: int) -> str:
    """Shorten a text in the middle until it fits a width in pixels."""
    if len(text) > _MAX_CHARACTERS:  # measuring a name of thousands of characters repeatedly would take minutes
        text = text[: _MAX_CHARACTERS // 2] + text[-(_MAX_CHARACTERS // 2) :]
    if text_width_px(text) <= width_px:
        return text
    keep = len(text)
    while keep > 2 and text_width_px(text[: keep // 2] + "…" + text[-(keep // 2) :]) > width_px:
        keep -= 1
    return text[: keep // 2] + "…" + text[-(keep // 2) :]


def wrapped(text: str, width_px: int) -> list[str]:
    """Break a text into lines that fit a width in pixels; only a longer word extends beyond it."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width_px(longer) > width_px:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _indent_px(swatch: Swatch, spacing: Spacing) -> int:
    wider = swatch.shape[1] - SWATCH_PX if isinstance(swatch, np.ndarray) else 0
    return spacing.line_px + wider


def _draw_swatch(strip: Image.Image, swatch: Swatch, left: int, top: int) -> None:
    width = SWATCH_PX
    if isinstance(swatch, np.ndarray):
        strip.paste(Image.fromarray(swatch), (left, top))
        width, swatch = swatch.shape[1], None
    ImageDraw.Draw(strip).rectangle((left, top, left + width - 1, top + SWATCH_PX - 1), fill=swatch, outline=INK)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=_FONT_PX)
