"""Predictors, settings and readers shared by the tests of slide prediction."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from cytoseg.objects.settings import ObjectSettings
from cytoseg.predict.outputs import Destination
from cytoseg.predict.settings import SlideSettings
from cytoseg.predict.slide import Predictor
from cytoseg.slides.slide import Slide

MakeSlide = Callable[..., Slide]


SETTINGS = SlideSettings(tile_px=8, overlap_px=2, batch=1, mpp=None, assume_mpp=None)


def unwatched(_what: str, _done: int, _total: int) -> None:
    """Nobody wants to know how far it is."""


def results(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32], dict[str, Any]]:
    class_map = tifffile.imread(folder / "class_map.ome.tif")
    uncertainty = tifffile.imread(folder / "uncertainty.ome.tif")
    return class_map, uncertainty, json.loads((folder / "summary.json").read_text())


def cells(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).choice(np.array([0, 40, 180, 255], np.uint8), (height, width))


def constant(probability: float) -> Predictor:
    def predict(tiles: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        shape = tiles.shape[:3]
        cell = np.full(shape, probability, np.float32)
        return {
            "probabilities": np.stack([1 - cell, cell], axis=1),
            "disagreement": np.full(shape, 0.25, np.float32),
        }

    return predict


def wavy(tiles: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
    """What it says of a pixel depends on the pixel's place in the tile, so that seams show and blending is needed."""
    grey = tiles[..., 0] / np.float32(255)
    y, x = np.indices(grey.shape[1:])
    cell = np.clip(grey + np.float32(0.1) * np.sin(y + 2 * x).astype(np.float32), 0, 1)
    return {"probabilities": np.stack([1 - cell, cell], axis=1), "disagreement": cell * (1 - cell)}


def everything(folder: Path) -> dict[str, Any]:
    """All files as they are, but for the times in the summary, which no two runs share."""
    content: dict[str, Any] = {path.name: path.read_bytes() for path in folder.iterdir()}
    summary = json.loads(content["summary.json"])
    return content | {
        "summary.json": {k: summary[k] for k in summary.keys() - {"made", "seconds", "computing_seconds"}}
    }


def with_objects(destination: Destination) -> Destination:
    return replace(destination, objects=ObjectSettings(("cell",), ("cell",), 4, "nucleus", "cytoplasm"))
