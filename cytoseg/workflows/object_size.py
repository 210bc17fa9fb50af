"""Object sizes in labels, and advice if a network was trained on objects of another size."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cytoseg.checkpoints import find_checkpoints, is_checkpoint, load_state
from cytoseg.features.settings import SCALES
from cytoseg.labels.index import LabelledCrop
from cytoseg.recipe import Recipe

_MIN_OBJECT_PX = 9
"""Smaller components are not measured."""
_MARGIN = 1.25
"""With cytology-base, whose largest size is 18 px, nuclei of lbc enlarged to 17 px are found as well as before, and
enlarged to 25 px they lose .09 IoU (tests/benchmarks/results/object_size.md)."""


def median_diameter_px(masks: Iterable[NDArray[np.bool_]]) -> float | None:
    """Measure the objects of a class: the diameter of a disc of the median area.

    Args:
        masks: (H, W) bool each; 4-connected components are objects.

    Returns:
        The diameter in pixels; None without objects.
    """
    areas: list[int] = []
    for mask in masks:
        parts, _ = ndimage.label(mask)
        areas += [int(area) for area in np.bincount(parts.ravel())[1:] if area >= _MIN_OBJECT_PX]
    return 2.0 * math.sqrt(float(np.median(areas)) / math.pi) if areas else None


def size_advice(recipe: Recipe, train: Sequence[LabelledCrop], backbone: Path) -> str:
    """Advise another scale if the nuclei of the train crops are far from the sizes that a network was trained on.

    Args:
        recipe: The recipe; without its nucleus class nothing is compared.
        train: The train crops.
        backbone: Checkpoint folder of the network, or one checkpoint.

    Returns:
        A sentence for the user; empty if the sizes fit or are unknown.
    """
    nucleus, names = recipe.objects.nucleus, recipe.class_list().names
    trained = _trained_sizes(backbone)
    if trained is None or nucleus not in names:
        return ""
    diameter = median_diameter_px(crop.label_map() == names.index(nucleus) for crop in train)
    if diameter is None:
        return ""
    smallest, largest = trained
    kind = recipe.student.teacher if recipe.interpreter.kind == "student" else recipe.interpreter.kind
    scale = recipe.features.scale if kind == "mlps" else 1
    if smallest / _MARGIN <= diameter * scale <= largest * _MARGIN:
        return ""
    middle = math.sqrt(smallest * largest)
    best = min(SCALES, key=lambda factor: abs(math.log(diameter * factor / middle)))
    said = (
        f"Objects of the class {nucleus} are about {diameter:.0f} px wide in the train crops; the diffusion model was "
        f"trained on objects of {smallest:.0f} to {largest:.0f} px and finds others less well."
    )
    if kind == "mlps" and best != scale:
        return f"{said} Try features.scale={best}, which makes them {diameter * best:.0f} px wide for it."
    return f"{said} Crops cut at {diameter / middle:.1f} times the slides.mpp would fit it."


def _trained_sizes(backbone: Path) -> tuple[float, float] | None:
    """Return the smallest and largest size of objects in a network's labelled sources, in pixels; None if unknown."""
    checkpoints = [backbone] if is_checkpoint(backbone) else find_checkpoints(backbone)
    if not checkpoints:
        return None
    try:
        sources = load_state(checkpoints[0])["recipe"]["labels"]["sources"]
        sizes = [(float(s["object_px"]), float(s["spread"])) for s in sources if s["object_px"] is not None]
    except (KeyError, TypeError):
        return None  # of an older version
    if not sizes:
        return None
    return min(px / spread for px, spread in sizes), max(px * spread for px, spread in sizes)
