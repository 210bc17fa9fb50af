"""A recipe and a predicted slide with hand-made maps, without training."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoseg.geometry import Size
from cytoseg.slides.fingerprint import slide_stamp
from cytoseg.slides.pyramid import write_pyramid

_RECIPE = """\
name: {name}
slides: {{folders: [{folder}]}}
crops: {{size_px: {size_px}}}
labels: {{crop_px: {size_px}}}
diffusion: {{dim: 8, dim_mults: [1, 2]}}
classes:
  - {{name: background, colour: "#f0f0f0"}}
  - {{name: cytoplasm, colour: "#56b4e9"}}
  - {{name: nucleus, colour: "#d55e00"}}
  - {{name: debris, colour: "#009e73"}}
fill: background
"""


def four_classes(name: str, folder: str, *, size_px: int) -> str:
    """Write a recipe of four classes with crops of ``size_px`` of the slides in a folder."""
    return _RECIPE.format(name=name, folder=folder, size_px=size_px)


def predicted(
    predictions: Path,
    slide: Path,
    *,
    picture: NDArray[np.uint8],
    ids: NDArray[np.uint8],
    nats: NDArray[np.float32],
    classes: Sequence[str],
) -> Path:
    """Write a slide (H, W, 3) and, in predictions/<slide>, its maps (h, w) and the parts of the summary in use."""
    slide.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(slide)
    folder = predictions / slide.stem
    for name, values in (("class_map", ids), ("uncertainty", nats)):
        size = Size(values.shape[1], values.shape[0])
        path = folder / f"{name}.ome.tif"
        write_pyramid(path, [values], size=size, mpp=None, categorical=name == "class_map")
    length, changed = slide_stamp(slide)
    summary = {
        "slide_path": str(slide.resolve()),
        "classes": {name: {} for name in classes},
        "provenance": {"slide_bytes": length, "slide_changed": changed},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder
