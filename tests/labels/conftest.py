import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cytoseg.classes import ClassList

WriteLabelme = Callable[..., Path]


@pytest.fixture
def classes() -> ClassList:
    return ClassList(("background", "cell", "nucleus"), ((240, 240, 240), (0, 90, 200), (200, 0, 40)), "background")


@pytest.fixture
def square() -> dict[str, Any]:
    """A cell of 2x2 pixels, from column 1 and row 1."""
    return {"label": "cell", "shape_type": "polygon", "points": [[1, 1], [3, 1], [3, 3], [1, 3]]}


@pytest.fixture
def write_picture() -> Callable[..., Path]:
    """Write an image of one grey (with a width and height) and give its path."""

    def write(path: Path, *, width: int = 6, height: int = 4, grey: int = 100) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((height, width, 3), grey, np.uint8)).save(path)
        return path

    return write


@pytest.fixture
def write_labelme(write_picture: Callable[..., Path]) -> WriteLabelme:
    """Write ``folder/stem.json`` and, beside it, an image of 6x4 pixels; more keys replace these."""

    def write(folder: Path, stem: str, shapes: Sequence[Any] = (), grey: int = 100, **keys: Any) -> Path:
        write_picture(folder / f"{stem}.png", grey=grey)
        content = {
            "version": "5.5.0",
            "flags": {},
            "shapes": list(shapes),
            "imagePath": f"{stem}.png",
            "imageData": None,
            "imageHeight": 4,
            "imageWidth": 6,
        } | keys
        path = folder / f"{stem}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    return write


@pytest.fixture
def write_masks(write_picture: Callable[..., Path]) -> Callable[..., Path]:
    """Write ``images/stem.png`` and ``masks/stem.png`` below a folder."""

    def write(folder: Path, stem: str, ids: Any) -> Path:
        values = np.array(ids, np.uint8)
        write_picture(folder / "images" / f"{stem}.png", width=values.shape[1], height=values.shape[0])
        mask = folder / "masks" / f"{stem}.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(mask)
        return mask

    return write


@pytest.fixture
def write_geojson() -> Callable[..., Path]:
    """Write features as a FeatureCollection."""

    def write(path: Path, *features: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
        return path

    return write
