import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cytoseg.errors import LabelError
from cytoseg.features.pixel_table import PixelTable
from cytoseg.interpreter.train_mlps import train_ensemble
from cytoseg.studies.feature_selection.columns import ColumnStore
from cytoseg.studies.feature_selection.cross_validation import Bench, Measured, by_turns, fold_of_crops, gain
from cytoseg.studies.feature_selection.pixels import FeatureSet, choose_both
from cytoseg.studies.feature_selection.settings import Question
from tests.studies.conftest import MadeCrop

Ask = Callable[..., Question]
RED = FeatureSet(("block1.block1",), (5,))
BOTH = FeatureSet(("block1.block1",), (1, 5))
NONE = FeatureSet(("block0.block1",), (5,))


def _bench(question: Question, extractor_of: Any, folder: Path, *, seconds: float = 600, memory: int = 10**6) -> Bench:
    crops = by_turns(question.crops, seed=question.seed)
    e = question.effort
    pixels = choose_both([c.label_map() for c in crops], train_px=e.train_px, held_out_px=e.held_out_px, seed=0)
    base = FeatureSet(question.taps, question.timesteps)
    store = ColumnStore(crops, pixels, base, extractor_of=extractor_of, noise_seed=0, memory_bytes=memory)
    return Bench(question, store, crops, folder=folder, until=time.monotonic() + seconds)


def _measured(*tables: list[list[int]], features: FeatureSet = RED) -> Measured:
    return Measured(features, np.array(tables, np.int64), width=1, seconds=0.1)


def test_slides_take_turns_and_no_slide_is_in_two_folds(made_question: Ask) -> None:
    crops = by_turns(made_question().crops, seed=0)
    assert sorted(c.slide for c in crops[:3]) == ["a", "b", "c"]
    assert crops[3].crop == "a_1"
    assert sorted(fold_of_crops(crops, 3)[:3]) == [0, 1, 2]
    two = dict(zip((c.slide for c in crops), fold_of_crops(crops, 2), strict=True))
    assert sorted(two.values()) == [0, 0, 1]
    for crop, fold in zip(crops, fold_of_crops(crops, 2), strict=True):
        assert fold == two[crop.slide]
    assert set(fold_of_crops(crops[1:3], 3)) == {0, 1}  # fewer slides than folds


def test_crops_of_one_slide_are_refused(made_question: Ask) -> None:
    with pytest.raises(
        LabelError, match=r"all 2 train crops are from slide a, .* Annotate crops of other slides"
    ) as caught:
        by_turns(made_question().crops[:2], seed=0)
    assert "\n" not in str(caught.value)


@dataclass(frozen=True)
class _Glass(MadeCrop):
    def label_map(self) -> NDArray[np.uint8]:
        return np.zeros((16, 16), np.uint8)


def test_a_part_that_cannot_be_left_out_is_named(made_question: Ask, extractor_of: Any, tmp_path: Path) -> None:
    crops = [MadeCrop("a_0", "a"), _Glass("b_0", "b"), _Glass("c_0", "c")]
    with pytest.raises(
        LabelError, match=r"^select-features: one fold trains without a, but the other train crops show only 'glass'\."
    ):
        _bench(made_question(crops=crops), extractor_of, tmp_path)


def test_a_gain_is_pooled_and_its_spread_is_between_runs() -> None:
    old = _measured([[6, 2], [2, 0]], [[5, 0], [0, 5]])
    new = _measured([[8, 0], [1, 1]], [[5, 0], [0, 5]])
    # Pooled: 11/15 and 5/9 before; 13/14 and 6/7 after.
    more, spread = gain(new, old)
    assert old.score == pytest.approx((11 / 15 + 5 / 9) / 2)
    assert more == pytest.approx((13 / 14 + 6 / 7) / 2 - (11 / 15 + 5 / 9) / 2)
    # Run by run: from (6/10 + 0)/2 to (8/9 + 1/2)/2, and none.
    first = (8 / 9 + 1 / 2) / 2 - 0.3
    assert spread == pytest.approx(np.std([first, 0], ddof=1))


def test_a_gain_of_one_run_is_never_more_than_its_spread() -> None:
    assert gain(_measured([[1, 0], [0, 1]]), _measured([[0, 1], [1, 0]])) == (1, float("inf"))


def test_features_that_tell_classes_apart_score_higher(made_question: Ask, extractor_of: Any, tmp_path: Path) -> None:
    bench = _bench(made_question(), extractor_of, tmp_path)
    none, red, both = (bench.measure(features) for features in (NONE, RED, BOTH))
    assert none is not None
    assert red is not None
    assert both is not None
    assert none.score < red.score < both.score
    assert red.iou[0] > 0.97  # red is what tells glass from the rest
    assert both.score > 0.95
    assert both.counts.shape == (6, 3, 3)
    # Every held-out pixel is scored once by each seed.
    assert both.counts.sum() == 2 * 4 * 100
    assert (none.width, both.width) == (1, 2)


def test_interpreters_never_train_on_the_slides_they_are_scored_on(
    made_question: Ask, extractor_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[set[int]] = []

    def watched(table: PixelTable, *arguments: Any, **keywords: Any) -> Any:
        trained.append(set(table.crops.tolist()))
        assert sum(table.counts.values()) == 256 * len(trained[-1])
        assert table.classes.bincount().tolist() == [
            22 * len(trained[-1]),
            22 * len(trained[-1]),
            16 * len(trained[-1]),
        ]
        return train_ensemble(table, *arguments, **keywords)

    monkeypatch.setattr("cytoseg.studies.feature_selection.cross_validation.train_ensemble", watched)
    question = made_question()
    _bench(question, extractor_of, tmp_path).measure(RED, seeds=1)
    slides = [crop.slide for crop in by_turns(question.crops, seed=0)]
    assert sorted(sorted({slides[i] for i in crops}) for crops in trained) == [["a", "b"], ["a", "c"], ["b", "c"]]


@pytest.mark.slow
def test_flips_and_noises_average_to_the_same_where_they_say_the_same(
    made_question: Ask, extractor_of: Any, tmp_path: Path
) -> None:
    bench = _bench(made_question(), extractor_of, tmp_path)
    plain, flips, noises = (bench.measure(f) for f in (RED, replace(RED, flips=True), replace(RED, noises=3)))
    assert plain is not None
    assert flips is not None
    assert noises is not None
    np.testing.assert_array_equal(flips.counts, plain.counts)
    assert noises.score == pytest.approx(
        plain.score, abs=0.02
    )  # the mean of three is the middle one, standardised away


@pytest.mark.slow
def test_what_is_measured_is_not_measured_again_unless_something_changed(
    made_question: Ask, extractor_of: Any, calls: list[Any], tmp_path: Path
) -> None:
    first = _bench(made_question(), extractor_of, tmp_path).measure(RED)
    seen = len(calls)
    # No time at all is left, but this takes none.
    again = _bench(made_question(), extractor_of, tmp_path, seconds=-1).measure(RED)
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(again.counts, first.counts)
    assert again.seconds == first.seconds
    assert len(calls) == seen
    for changes in (
        {"details": {"labels": "34cd"}},
        {"rule": "hard"},
        {"effort": replace(made_question().effort, steps=41)},
        {"noise_seed": 1},
    ):
        assert _bench(made_question(**changes), extractor_of, tmp_path, seconds=-1).measure(RED) is None
    assert _bench(made_question(), extractor_of, tmp_path, seconds=-1).measure(RED, seeds=1) is None


@pytest.mark.slow
def test_what_does_not_fit_is_left_out_and_named(made_question: Ask, extractor_of: Any, tmp_path: Path) -> None:
    bench = _bench(made_question(), extractor_of, tmp_path, seconds=-1)
    assert bench.measure(RED) is None
    assert bench.left_out == [(RED, "more time")]
    assert bench.measure(RED, required=True) is not None
    bench = _bench(made_question(), extractor_of, tmp_path, memory=2 * 4 * (160 + 60))
    assert bench.measure(RED) is not None
    assert bench.measure(BOTH) is None
    assert bench.left_out == [(BOTH, "more memory")]
