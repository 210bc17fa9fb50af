"""Images of queued regions: image, prediction, disagreement, reason."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.drawing.overlay import enlarge, enlarge_smoothly, overlay, paint_disagreement, stretched
from cytoseg.drawing.sheet import PAPER, Spacing, class_entries, legend, put_text, put_titled, wrapped

PANEL_PX = 256
"""Smaller regions are enlarged by an integer factor up to this side."""
TEXT_PX, GAP_PX, LINE_PX = 420, 12, 22
_SPACING = Spacing(GAP_PX, LINE_PX)

Picture = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class RegionPicture:
    """One region as displayed.

    Attributes:
        title: Slide and position.
        reason: Reason for its selection.
        panels: (title, image) pairs of one size.
    """

    title: str
    reason: str
    panels: tuple[tuple[str, Picture], ...]


def panels_of(
    picture: Picture, class_map: NDArray[np.uint8], nats: NDArray[np.float32], classes: ClassList
) -> tuple[tuple[str, Picture], ...]:
    """Draw a region with overlays of prediction and disagreement.

    Args:
        picture: (H, W, 3) uint8 RGB.
        class_map: (H, W) uint8 ids, 255 for ignore.
        nats: (H, W) float32 disagreement.
        classes: Colours; the fill class is transparent.

    Returns:
        Titles and (h, w, 3) uint8 images: the region, its prediction with outlines, and its disagreement with its
        colour range in the title.
    """
    grey, brightest = stretched(nats)
    factor = max(1, PANEL_PX // max(picture.shape[:2]))
    # Enlarge before outlining, so that outlines stay thin.
    large = enlarge_smoothly(picture, factor)
    outlined = overlay(large, enlarge(class_map, factor), classes)
    disputed = paint_disagreement(large, enlarge(grey, factor), opacity=1)
    return (
        ("region", large),
        ("prediction", outlined),
        (f"disagreement, 0 to {brightest:.2f} nats", disputed),
    )


def draw_queue(shown: Sequence[RegionPicture], classes: ClassList) -> Image.Image:
    """Draw regions below each other with panels and reasons, and a legend on top.

    Args:
        shown: One or more.
        classes: Names and colours.

    Returns:
        An RGB image.
    """
    sides = [max(PANEL_PX, part.shape[1]) for part in (picture for _, picture in shown[0].panels)]
    heights = [_row_height(entry) for entry in shown]
    width = GAP_PX + sum(side + GAP_PX for side in sides) + TEXT_PX + GAP_PX
    strip = legend(class_entries(classes, fill_note="(left clear)"), width, _SPACING)
    y = GAP_PX + strip.height + GAP_PX
    sheet = Image.new("RGB", (width, y + sum(heights)), PAPER)
    sheet.paste(strip, (0, GAP_PX - 1))
    for entry, height in zip(shown, heights, strict=True):
        _draw_row(sheet, entry, y, sides)
        y += height
    return sheet


def _draw_row(sheet: Image.Image, entry: RegionPicture, y: int, sides: Sequence[int]) -> None:
    x = GAP_PX
    for (title, picture), side in zip(entry.panels, sides, strict=True):
        put_titled(sheet, picture, title, (x, y), _SPACING)
        x += side + GAP_PX
    for number, line in enumerate(_lines(entry)):
        put_text(sheet, (x, y + number * LINE_PX), line)


def _row_height(entry: RegionPicture) -> int:
    pictures = LINE_PX + max(len(picture) for _, picture in entry.panels)
    return max(pictures, len(_lines(entry)) * LINE_PX) + 2 * GAP_PX


def _lines(entry: RegionPicture) -> list[str]:
    return [*wrapped(entry.title, TEXT_PX), "", *wrapped(entry.reason, TEXT_PX)]
