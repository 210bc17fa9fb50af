"""Pictures of an evaluated crop: image, truth, prediction, disagreement."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cytoseg.classes import IGNORE, ClassList
from cytoseg.drawing.pictures import RAMP, enlarge, enlarge_smoothly, paint_classes, paint_disagreement, stretched

PANEL_PX = 384
"""Crops smaller than this are enlarged in the overlay, so that nuclei are visible."""

GAP_PX, LINE_PX = 8, 22
PAPER, INK, HATCH = (255, 255, 255), (40, 40, 40), (150, 150, 150)
Map = NDArray[np.uint8]


@dataclass(frozen=True)
class CropMaps:
    """Maps of one crop.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        truth: (H, W) uint8 ids, 255 for ignore.
        prediction: (H, W) uint8 ids.
        disagreement: (H, W) float32 in nats, or None if the method has none.
    """

    picture: NDArray[np.uint8]
    truth: Map
    prediction: Map
    disagreement: NDArray[np.float32] | None


def write_crop_pictures(folder: Path, maps: CropMaps, classes: ClassList) -> None:
    """Write image.png, truth.png, prediction.png and disagreement.png, and overlay.png with all four side by side.

    Args:
        folder: Folder of the crop; created.
        maps: Maps of the crop.
        classes: Names and colours.

    Raises:
        OSError: If the disk is full.
    """
    picture, truth, prediction, disagreement = maps.picture, maps.truth, maps.prediction, maps.disagreement
    # Complete disagreement of two members is log 2; with three or more classes larger values saturate.
    shares = np.zeros(truth.shape) if disagreement is None else disagreement / math.log(2)
    grey = np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)
    folder.mkdir(parents=True)
    for name, array in (("image", picture), ("truth", truth), ("prediction", prediction), ("disagreement", grey)):
        Image.fromarray(array).save(folder / f"{name}.png")
    panels = {
        "picture": picture,
        "truth": _painted(truth, classes),
        "prediction": _painted(prediction, classes),
    }
    if disagreement is None:
        panels["disagreement: n/a"] = np.full_like(picture, HATCH)
    else:
        scaled, brightest = stretched(disagreement)
        panels[f"disagreement, 0 to {brightest:.2f} nats"] = paint_disagreement(picture, scaled, opacity=1)
    _overlay(panels, classes).save(folder / "overlay.png")


def _painted(ids: Map, classes: ClassList) -> NDArray[np.uint8]:
    """Colour a map, with ignore hatched in grey."""
    hatched = np.full((*ids.shape, 3), PAPER, np.uint8)
    row, column = np.indices(ids.shape)
    hatched[(ids == IGNORE) & ((row + column) % 6 < 3)] = HATCH
    return paint_classes(hatched, ids, colours=classes.colours, shown=range(len(classes)), opacity=1)


def _overlay(panels: Mapping[str, NDArray[np.uint8]], classes: ClassList) -> Image.Image:
    """Place the panels side by side with captions above and a legend below."""
    height, width = next(iter(panels.values())).shape[:2]
    factor = max(1, math.ceil(PANEL_PX / max(height, width)))
    step = width * factor + GAP_PX
    legend = _legend(classes, max(600, len(panels) * step + GAP_PX))
    size = (legend.width, LINE_PX + height * factor + GAP_PX + legend.height)
    sheet = Image.new("RGB", size, PAPER)
    for i, (caption, panel) in enumerate(panels.items()):
        large = enlarge_smoothly(panel, factor) if caption == "picture" else enlarge(panel, factor)
        sheet.paste(Image.fromarray(large), (GAP_PX + i * step, LINE_PX))
        ImageDraw.Draw(sheet).text((GAP_PX + i * step, 2), caption, fill=INK, font=ImageFont.load_default(size=14))
    sheet.paste(legend, (0, size[1] - legend.height))
    return sheet


def _legend(classes: ClassList, width: int) -> Image.Image:
    """Draw a swatch and name for each class, ignore and the colour ramp, on as many lines as needed."""
    font = ImageFont.load_default(size=14)
    plain = [np.full((14, 14, 3), colour, np.uint8) for colour in classes.colours]
    ramp = np.array(RAMP, np.uint8)[None].repeat(14, axis=0).repeat(14, axis=1)
    swatches = [
        *zip(classes.names, plain, strict=True),
        ("ignore", _painted(np.full((14, 14), IGNORE, np.uint8), classes)),
        ("disagreement, least to most of this crop", ramp),
    ]
    places, x, y = [], GAP_PX, 0
    for text, swatch in swatches:
        length = swatch.shape[1] + math.ceil(font.getlength(text)) + 4 * GAP_PX
        if x > GAP_PX and x + length > width:
            x, y = GAP_PX, y + LINE_PX
        places.append((x, y))
        x += length
    legend = Image.new("RGB", (width, y + LINE_PX), PAPER)
    draw = ImageDraw.Draw(legend)
    for (text, swatch), (left, top) in zip(swatches, places, strict=True):
        side = swatch.shape[1]
        legend.paste(Image.fromarray(swatch), (left, top))
        draw.rectangle((left, top, left + side - 1, top + 13), outline=INK)
        draw.text((left + side + 6, top - 2), text, fill=INK, font=font)
    return legend
