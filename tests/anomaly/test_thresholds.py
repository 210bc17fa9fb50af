import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cytoseg.anomaly.scores import EDGES, SHAPE, TEXTURE, no_counts
from cytoseg.anomaly.thresholds import (
    COUNTS,
    COUNTS_FILE,
    THRESHOLDS,
    THRESHOLDS_FILE,
    Thresholds,
    pack_counts,
    read_counts,
    read_thresholds,
    share_above,
    thresholds_of,
)
from cytoseg.errors import PredictionError
from tests.anomaly.maps import thresholds


def test_the_threshold_of_a_class_is_its_percentile() -> None:
    counts = no_counts(2)
    counts[TEXTURE][0, :1000] = 100  # 97.5 % of the pixels lie in the first 975 bins
    counts[TEXTURE][1, 5] = 39_000
    counts[TEXTURE][1, 50] = 1001  # a little more than 2.5 %
    found = thresholds_of(counts)
    assert found[TEXTURE] == (EDGES[975], EDGES[51])
    assert share_above(counts, found)[TEXTURE] == pytest.approx(2500 / 140_001)


def test_a_class_with_few_pixels_takes_the_threshold_of_all() -> None:
    counts = no_counts(2)
    counts[SHAPE][0, :100] = 100
    counts[SHAPE][1, 500] = 10
    assert thresholds_of(counts)[SHAPE] == (EDGES[98], EDGES[98])


def test_scores_are_divided_by_the_threshold_of_the_class() -> None:
    found = thresholds().ratio(np.array([[1.0, 1.0, 9.0]], np.float32), np.array([[0, 1, 255]]), TEXTURE)
    np.testing.assert_array_equal(found, np.array([[2.0, 0.5, 0.0]], np.float32))


def test_counts_are_read_as_they_were_saved(tmp_path: Path) -> None:
    counts = no_counts(2)
    counts[TEXTURE][1, [3, 900]] = (5, 7)
    (tmp_path / COUNTS).write_text(json.dumps(COUNTS_FILE.content_of(pack_counts(counts))))
    found = read_counts(tmp_path, classes=2)
    np.testing.assert_array_equal(found[TEXTURE], counts[TEXTURE])
    assert not found[SHAPE].any()
    with pytest.raises(PredictionError, match="is damaged"):
        read_counts(tmp_path, classes=3)
    with pytest.raises(PredictionError, match=r"counts\.json is missing\. Name normal slides again"):
        read_counts(tmp_path / "other", classes=2)


@pytest.mark.parametrize("pair", [[-1, 2], [99_999, 2], [0, -2]])
def test_counts_that_cannot_be_are_refused(tmp_path: Path, pair: list[int]) -> None:
    (tmp_path / COUNTS).write_text(json.dumps({"format": 1, "counts": {TEXTURE: [[pair], []], SHAPE: [[], []]}}))
    with pytest.raises(PredictionError, match="is damaged"):
        read_counts(tmp_path, classes=2)


def test_thresholds_are_read_as_they_were_saved(tmp_path: Path) -> None:
    assert read_thresholds(tmp_path) is None
    (tmp_path / THRESHOLDS).write_text(json.dumps(THRESHOLDS_FILE.content_of(thresholds())))
    assert read_thresholds(tmp_path) == thresholds()


@pytest.mark.parametrize(
    "limits",
    [
        {TEXTURE: (1.0, 2.0)},
        {SHAPE: (1.0,)},
        *({TEXTURE: (1.0, wrong), SHAPE: (1.0, 1.0)} for wrong in (0.0, -1.0, 1e-300, 1e300)),
    ],
)
def test_thresholds_of_no_use_are_refused(tmp_path: Path, limits: dict[str, Any]) -> None:
    values = asdict(thresholds()) | {"thresholds": limits}
    with pytest.raises(ValueError, match="not one positive number for each class"):
        Thresholds(**values)
    (tmp_path / THRESHOLDS).write_text(json.dumps({"format": 1, **values}))
    with pytest.raises(PredictionError, match=r"thresholds\.json: .*Name normal slides again"):
        read_thresholds(tmp_path)
