from pathlib import Path

import numpy as np

from cytoseg.anomaly.scores import EDGES, SHAPE, TEXTURE, add_counts, count_scores
from tests.anomaly.maps import spool_of


def test_computed_pixels_are_counted_by_class_and_bin(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 1], [1, 255, 0]], np.uint8)
    low, high = EDGES[10] * 1.001, EDGES[700] * 1.001
    texture = np.array([[low, high, high], [0.0, high, 1e9]], np.float32)
    counts = count_scores(spool_of(tmp_path, ids, texture, np.full((2, 3), low, np.float32)), classes=2)
    found = {(k, int(i)): int(n[i]) for k, n in enumerate(counts[TEXTURE]) for i in np.flatnonzero(n)}
    assert found == {(0, 10): 1, (0, len(EDGES) - 2): 1, (1, 0): 1, (1, 700): 2}
    assert counts[SHAPE][:, 10].tolist() == [2, 3]


def test_counts_of_slides_are_added(tmp_path: Path) -> None:
    score = np.ones((2, 3), np.float32)
    counts = count_scores(spool_of(tmp_path, np.ones((2, 3), np.uint8), score, score), classes=2)
    both = add_counts([counts, counts])
    assert both[TEXTURE].sum(axis=1).tolist() == [0, 12]
