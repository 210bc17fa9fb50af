"""Object sizes in labels, and advice if a network was trained on objects of another size."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cytoseg.checkpoints import find_checkpoints, is_checkpoint, load_state
from cytoseg.features.fitting_scale import KnownSizes, best_scale, fits, known_sizes, middle_px
from cytoseg.recipe import Recipe

_MIN_OBJECT_PX = 9
"""Smaller components are not measured."""


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


def size_advice(recipe: Recipe, label_maps: Iterable[NDArray[np.uint8]], backbone: Path) -> str:
    """Advise another scale if the nuclei of the train crops are far from the sizes that a network was trained on.

    Args:
        recipe: The recipe; without its nucleus class nothing is compared.
        label_maps: Those of the train crops, (H, W) each.
        backbone: Checkpoint folder of the network, or one checkpoint.

    Returns:
        A sentence for the user; empty if the sizes fit or are unknown.
    """
    nucleus, names = recipe.objects.nucleus, recipe.class_list().names
    trained = _trained_sizes(backbone)
    if trained is None or nucleus not in names:
        return ""
    diameter = median_diameter_px(ids == names.index(nucleus) for ids in label_maps)
    if diameter is None:
        return ""
    smallest, largest = trained
    kind = recipe.student.teacher if recipe.interpreter.kind == "student" else recipe.interpreter.kind
    scale = recipe.features.scale if kind == "mlps" else 1
    if fits(diameter * scale, trained):
        return ""
    middle, best = middle_px(trained), best_scale(diameter, trained)
    said = (
        f"Objects of the class {nucleus} are about {diameter:.0f} px wide in the train crops; the diffusion model was "
        f"trained on objects of {smallest:.0f} to {largest:.0f} px and finds others less well."
    )
    if kind == "mlps" and best != scale:
        return f"{said} Try features.scale={best}, which makes them {diameter * best:.0f} px wide for it."
    return f"{said} Crops cut at {diameter / middle:.1f} times the slides.mpp would fit it."


def _trained_sizes(backbone: Path) -> KnownSizes | None:
    checkpoints = [backbone] if is_checkpoint(backbone) else find_checkpoints(backbone)
    return known_sizes(load_state(checkpoints[0])) if checkpoints else None
