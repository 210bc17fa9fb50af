"""Images of anomalous regions: the region, its classes, both scores and the change by redrawing."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoseg.active_learning.queue_picture import RegionPicture, draw_queue
from cytoseg.anomaly.regions import AnomalousRegion, read_ratios
from cytoseg.anomaly.scores import RESIDUAL
from cytoseg.anomaly.thresholds import Thresholds
from cytoseg.classes import ClassList
from cytoseg.drawing.overlay import enlarge, enlarge_smoothly, overlay, paint_disagreement, stretched
from cytoseg.geometry import Size
from cytoseg.maps.map_spool import MapSpool
from cytoseg.slides.open import read_at
from cytoseg.slides.slide import Slide

PANEL_PX = 192
"""Smaller regions are enlarged by an integer factor up to this side."""
_FAINTEST = 2.0
"""Colours reach at least to twice the threshold, so that what lies below it stays dark."""


def region_picture(
    slide: Slide,
    found: AnomalousRegion,
    spool: MapSpool,
    thresholds: Thresholds,
    classes: ClassList,
    *,
    downsample: float,
) -> Image.Image:
    """Draw a region in panels, with its scores and a legend.

    Args:
        slide: The open slide.
        found: The region.
        spool: The maps of the slide.
        thresholds: Of each class.
        classes: Colours; the fill class is transparent.
        downsample: Level-0 pixels that a pixel of the maps spans.
    """
    part = found.region.at(downsample)
    part = replace(
        part, width=min(part.width, spool.size.width - part.x), height=min(part.height, spool.size.height - part.y)
    )
    ids, texture, shape = read_ratios(spool, thresholds, part)
    residual = spool.window(RESIDUAL, x=part.x, y=part.y, width=part.width, height=part.height)
    picture = read_at(slide, found.region, Size(part.width, part.height))
    factor = max(1, PANEL_PX // max(part.width, part.height))
    large = enlarge_smoothly(picture, factor)
    panels = [("region", large), ("classes", overlay(large, enlarge(ids, factor), classes))]
    panels += [_painted(large, texture, "texture"), _painted(large, shape, "shape")]
    grey, brightest = stretched(residual)
    panels.append((f"changed by redrawing, 0 to {brightest:.0%}", _veiled(large, grey)))
    where = f"{slide.path.name}, x {found.region.x}, y {found.region.y}"
    reason = f"{found.kind} {found.score:.1f} times the threshold, mostly {found.label}"
    return draw_queue([RegionPicture(where, reason, tuple(panels))], classes)


def _painted(large: NDArray[np.uint8], ratio: NDArray[np.float32], name: str) -> tuple[str, NDArray[np.uint8]]:
    grey, brightest = stretched(ratio, faintest_nats=_FAINTEST)
    return f"{name}, 0 to {brightest:.1f} thresholds", _veiled(large, grey)


def _veiled(large: NDArray[np.uint8], grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return paint_disagreement(large, enlarge(grey, len(large) // len(grey)), opacity=1)
