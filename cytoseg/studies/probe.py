"""Linear probe of features, cross-validated over slides."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from cytoseg.classes import IGNORE
from cytoseg.features.extract import NativeFeatures, check_finite, gather
from cytoseg.features.pixel_table import choose_pixels
from cytoseg.interpreter.train_mlps import check_two_classes
from cytoseg.labels.index import LabelledCrop
from cytoseg.metrics.segmentation import mean_iou
from cytoseg.seeds import seed_for

CROPS, PIXELS_PER_CROP, FOLDS = 16, 200, 5
"""Probe pixels: enough to separate 132,000 training crops from none on real smears in each of three draws."""
_STRENGTH = 0.1  # inverse regularisation; at 0.01 one draw found 200 training crops better than none, at 1 none did

Extract = Callable[[NDArray[np.uint8]], NativeFeatures]
"""From an image (H, W, 3) uint8 RGB to its features."""


@dataclass(frozen=True)
class ProbePixels:
    """Labelled pixels for probing feature sets.

    Attributes:
        crops: Their crops.
        places: Per crop (P_i, 2) int64 of (x, y).
        classes: (P,) int64 ids, crop after crop.
        weights: (P,) float64, number of labelled pixels of its crop and class that each represents.
        folds: (P,) int64, the fold in which it is held out.
        unit: Unit of a fold: ``slides``, ``crops`` or ``halves of the crop``.
    """

    crops: tuple[LabelledCrop, ...]
    places: tuple[NDArray[np.int64], ...]
    classes: NDArray[np.int64]
    weights: NDArray[np.float64]
    folds: NDArray[np.int64]
    unit: str


def draw_probe_pixels(crops: Sequence[LabelledCrop], *, seed: int) -> ProbePixels:
    """Draw class-balanced labelled pixels from crops of as many slides as possible.

    A fold holds out whole slides; with one slide whole crops, with one crop its left or right half.

    Args:
        crops: The train crops.
        seed: Random seed.

    Raises:
        LabelError: If fewer than two classes are labelled, or a file was changed after the import.
    """
    chosen = _spread_over_slides([crop for crop in crops if any(crop.pixels.values())])
    places, classes, weights = [], [], []
    for number, crop in enumerate(chosen):
        label_map = crop.label_map()
        pixels, ids = choose_pixels(
            label_map, PIXELS_PER_CROP, balance="classes", seed=seed_for(seed, number, what="probe")
        )
        there = np.bincount(label_map[label_map != IGNORE], minlength=IGNORE)
        drawn = np.bincount(ids, minlength=IGNORE)
        places.append(pixels)
        classes.append(ids)
        weights.append((there[ids] / drawn[ids]).astype(np.float64))
    check_two_classes(name for crop in chosen for name, pixels in crop.pixels.items() if pixels)
    groups, unit = _groups(chosen, places)
    return ProbePixels(
        tuple(chosen), tuple(places), np.concatenate(classes), np.concatenate(weights), _folds(groups), unit
    )


def read_probe_pixels(
    extract: Extract, pixels: ProbePixels, *, on_crop: Callable[[], None] = lambda: None
) -> NDArray[np.float32]:
    """Compute the features of the drawn pixels.

    Args:
        extract: Returns the features of an image.
        pixels: From ``draw_probe_pixels``.
        on_crop: Called after each crop.

    Returns:
        (P, D) float32.

    Raises:
        CheckpointError: If a feature is not finite.
        LabelError: If an image was changed after the import.
    """
    rows = []
    for crop, places in zip(pixels.crops, pixels.places, strict=True):
        found = gather(extract(crop.picture()), places).cpu()
        check_finite(found, crop=crop.crop)
        rows.append(found.numpy())
        on_crop()
    return np.concatenate(rows)


def probe(features: NDArray[np.float32], pixels: ProbePixels, *, classes: int) -> NDArray[np.float64]:
    """Cross-validate a logistic regression over the folds.

    Fit and score weight each pixel by the number of pixels it represents, so that the IoU refers to whole crops.

    Args:
        features: (P, D) float32.
        pixels: Their pixels.
        classes: K.

    Returns:
        (folds,) float64, the mean IoU over classes with a defined IoU.

    Source: Alain & Bengio, Understanding intermediate layers using linear classifier probes, 2016.
    """
    scores = []
    for fold in range(int(pixels.folds.max()) + 1):
        out = pixels.folds == fold
        scaler = StandardScaler().fit(features[~out])
        predicted = _fit_predict(
            scaler.transform(features[~out]),
            pixels.classes[~out],
            pixels.weights[~out],
            scaler.transform(features[out]),
        )
        cells = pixels.classes[out] * classes + predicted
        counts = np.bincount(cells, weights=pixels.weights[out], minlength=classes**2).reshape(classes, classes)
        scores.append(float(mean_iou(np.rint(counts).astype(np.int64))))
    return np.array(scores)


def _fit_predict(
    features: NDArray[np.float32], ids: NDArray[np.int64], weights: NDArray[np.float64], others: NDArray[np.float32]
) -> NDArray[np.int64]:
    if len(np.unique(ids)) == 1:  # the only class in this fold
        return np.full(len(others), ids[0])
    classifier = LogisticRegression(C=_STRENGTH, tol=1e-3, max_iter=200)
    with warnings.catch_warnings():
        # A probe of uninformative features may not converge; its score is low, as it should be.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(features, ids, sample_weight=weights / weights.mean())
    predicted: NDArray[np.int64] = classifier.predict(others)
    return predicted


def _spread_over_slides(crops: Sequence[LabelledCrop]) -> list[LabelledCrop]:
    """Order crops round-robin by slide."""
    by_slide: dict[str, int] = {}
    turns = []
    for crop in crops:
        by_slide[crop.slide] = turn = by_slide.get(crop.slide, -1) + 1
        turns.append(turn)
    order = sorted(range(len(crops)), key=lambda i: turns[i])
    return [crops[i] for i in order[:CROPS]]


def _groups(crops: Sequence[LabelledCrop], places: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], str]:
    """Return the group of each pixel that must not be split between folds."""
    sizes = [len(found) for found in places]
    slides = sorted({crop.slide for crop in crops})
    if len(slides) > 1:
        return np.repeat([slides.index(crop.slide) for crop in crops], sizes), "slides"
    if len(crops) > 1:
        return np.repeat(np.arange(len(crops)), sizes), "crops"
    from_the_left = places[0][:, 0].argsort(kind="stable").argsort(kind="stable")
    return (2 * from_the_left >= sizes[0]).astype(np.int64), "halves of the crop"


def _folds(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    folds = np.zeros(len(groups), np.int64)
    parted = GroupKFold(min(FOLDS, len(np.unique(groups)))).split(groups, groups=groups)
    for number, (_, out) in enumerate(parted):
        folds[out] = number
    return folds
