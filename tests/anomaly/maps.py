"""Maps of a slide with scores, and thresholds for them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoseg.anomaly.scores import RESIDUAL, SHAPE, TEXTURE
from cytoseg.anomaly.thresholds import NormalSlide, Thresholds
from cytoseg.geometry import Size
from cytoseg.maps.map_spool import MapBand, MapSpool

SCORES = (TEXTURE, SHAPE, RESIDUAL)


def thresholds() -> Thresholds:
    """Of the classes background and cell."""
    limits = {TEXTURE: (0.5, 2.0), SHAPE: (1.0, 4.0)}
    return Thresholds(("background", "cell"), limits, (NormalSlide("normal.tif", 100),), {"backbone": "abc"})


def spool_of(
    folder: Path, ids: NDArray[np.uint8], texture: NDArray[np.float32], shape: NDArray[np.float32]
) -> MapSpool:
    """A spool in which what is not ignored was computed."""
    spool = MapSpool(folder, size=Size(ids.shape[1], ids.shape[0]), scores=SCORES)
    confidence = np.where(ids == 255, 0, 200).astype(np.uint8)
    scores = {TEXTURE: texture, SHAPE: shape, RESIDUAL: np.zeros_like(shape)}
    spool.write(MapBand(ids, np.zeros_like(texture), confidence, scores), x=0, y=0)
    spool.finish(len(ids))
    return spool
