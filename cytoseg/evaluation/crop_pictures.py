"""Images of an evaluated crop: image, truth, prediction, disagreement."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoseg.classes import IGNORE, ClassList
from cytoseg.drawing.overlay import enlarge, enlarge_smoothly, paint_classes, paint_disagreement, ramp_swatch, stretched
from cytoseg.drawing.sheet import PAPER, SWATCH_PX, Spacing, Swatch, legend, put_titled

PANEL_PX = 384
"""Crops smaller than this are enlarged in the overlay, so that nuclei are visible."""

GAP_PX, LINE_PX, HATCH = 8, 22, (150, 150, 150)
_SPACING = Spacing(GAP_PX, LINE_PX)
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
        "image": picture,
        "ground truth": _painted(truth, classes),
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
    strip = legend(_entries(classes), max(600, len(panels) * step + GAP_PX), _SPACING)
    top = LINE_PX + height * factor + GAP_PX
    sheet = Image.new("RGB", (strip.width, top + strip.height), PAPER)
    for i, (title, panel) in enumerate(panels.items()):
        large = enlarge_smoothly(panel, factor) if title == "image" else enlarge(panel, factor)
        put_titled(sheet, large, title, (GAP_PX + i * step, 0), _SPACING)
    sheet.paste(strip, (0, top))
    return sheet


def _entries(classes: ClassList) -> list[tuple[str, Swatch]]:
    """Return a legend entry for each class, for ignore and for the ramp."""
    ignored = _painted(np.full((SWATCH_PX, SWATCH_PX), IGNORE, np.uint8), classes)
    ramp = ("disagreement, lowest to highest in this crop", ramp_swatch(SWATCH_PX))
    return [*zip(classes.names, classes.colours, strict=True), ("ignore", ignored), ramp]
