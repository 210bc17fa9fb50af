"""Baseline: a random forest on generic image filters."""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from cytoseg.classes import IGNORE
from cytoseg.errors import LabelError
from cytoseg.features.filters import REACH_PX, filter_responses

TREES = 100
TOGETHER_PX = 2**20
"""Pixels classified at once: their responses take 300 MB, those of a crop of 4000 px would take 5 GB."""


@dataclass(frozen=True)
class Forest:
    """A fitted random forest.

    Attributes:
        trees: Classifier of the 72 filter responses of a pixel.
    """

    trees: RandomForestClassifier

    def predict(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Classify each pixel of a crop.

        Args:
            picture: (H, W, 3) uint8 RGB.

        Returns:
            (H, W) uint8 class map; only classes in the training pixels occur.
        """
        height, width = picture.shape[:2]
        rows = max(1, TOGETHER_PX // width)
        bands = [self._predict_rows(picture, top, min(top + rows, height)) for top in range(0, height, rows)]
        return np.concatenate(bands)

    def _predict_rows(self, picture: NDArray[np.uint8], top: int, below: int) -> NDArray[np.uint8]:
        """Classify some rows, with a margin as wide as the filters, so that they are those of the whole crop."""
        first = max(0, top - REACH_PX)
        responses = filter_responses(picture[first : below + REACH_PX])[top - first : below - first]
        with _no_thread_warnings():
            ids: NDArray[np.uint8] = self.trees.predict(responses.reshape(-1, responses.shape[2]))
        return ids.reshape(responses.shape[:2])


def fit_forest(
    pictures: Sequence[NDArray[np.uint8]],
    label_maps: Sequence[NDArray[np.uint8]],
    *,
    pixels_per_crop: int = 4000,
    seed: int,
    on_trees: Callable[[int], None] = lambda _: None,
) -> Forest:
    """Fit the forest to random labelled pixels at their natural class frequencies.

    Args:
        pictures: Crops, each (H, W, 3) uint8 RGB.
        label_maps: One per crop, (H, W) uint8 ids, 255 for ignore, which is never drawn.
        pixels_per_crop: Pixels drawn per crop without replacement; all if there are fewer.
        seed: Seed of the trees and, with i, of the pixels of crop i.
        on_trees: Called with the number of trees grown so far, of ``TREES``.

    Returns:
        The fitted forest, the same for the same seed.

    Raises:
        LabelError: If no pixel of any crop is labelled.
        ValueError: If the numbers of crops and label maps differ.
    """
    rows, ids = [], []
    for i, (picture, label_map) in enumerate(zip(pictures, label_maps, strict=True)):
        labelled = np.flatnonzero(label_map != IGNORE)
        drawn = np.random.default_rng((seed, i)).permutation(labelled)[:pixels_per_crop]
        if drawn.size:
            responses = filter_responses(picture)
            rows.append(responses.reshape(-1, responses.shape[2])[drawn])
            ids.append(label_map.ravel()[drawn])
    if not rows:
        raise _nothing_labelled(len(pictures))
    return Forest(_grow_trees(np.concatenate(rows), np.concatenate(ids), seed=seed, on_trees=on_trees))


def _grow_trees(
    rows: NDArray[np.float32], ids: NDArray[np.uint8], *, seed: int, on_trees: Callable[[int], None]
) -> RandomForestClassifier:
    """Grow the trees in portions with progress; equal to growing all at once."""
    trees = RandomForestClassifier(max_features="sqrt", n_jobs=-1, random_state=seed, warm_start=True)
    step = max(TREES // 10, os.cpu_count() or 1)
    for grown in (*range(step, TREES, step), TREES):
        with _no_thread_warnings():
            trees.set_params(n_estimators=grown).fit(rows, ids)
        on_trees(grown)
    return trees


@contextlib.contextmanager
def _no_thread_warnings() -> Iterator[None]:
    """Keep scikit-learn's threads from printing a warning for each tree.

    The threads clear each other's warning filters, then warn that there are none (version 1.9).
    """
    with warnings.catch_warnings(record=True):
        yield


def commonest_class(label_maps: Sequence[NDArray[np.uint8]]) -> int:
    """Find the class with the most labelled pixels, the trivial baseline.

    Args:
        label_maps: (H, W) uint8 ids each, 255 for ignore, which does not count.

    Returns:
        Its id; the smallest on a tie.

    Raises:
        LabelError: If no pixel is labelled.
    """
    counts = np.zeros(256, np.int64)
    for label_map in label_maps:
        counts += np.bincount(label_map.ravel(), minlength=256)
    counts[IGNORE] = 0
    if not counts.any():
        raise _nothing_labelled(len(label_maps))
    return int(counts.argmax())


def _nothing_labelled(crops: int) -> LabelError:
    return LabelError(f"no pixel of the {crops} training crops is labelled. Annotate some and import them again.")
