from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from cytoseg.metrics.counts import confusion_counts
from cytoseg.metrics.results import Score
from cytoseg.metrics.segmentation import (
    bootstrap_interval,
    dice,
    iou,
    iou_kept,
    mean_iou,
    or_none,
    pooled_scores,
    precision,
    recall,
    reference_miou,
    slide_scores,
)

# Class 0: 3 of 4 found and never wrongly claimed. Class 1: all 4 found, 1 too many.
COUNTS = np.array([[3, 1], [0, 4]])
RIGHT, WRONG = np.array([[4, 0], [0, 4]]), np.array([[0, 4], [4, 0]])


def test_scores_of_two_classes() -> None:
    assert or_none(iou(COUNTS)) == [3 / 4, 4 / 5]
    assert or_none(dice(COUNTS)) == [6 / 7, 8 / 9]
    assert or_none(precision(COUNTS)) == [1, 4 / 5]
    assert or_none(recall(COUNTS)) == [3 / 4, 1]
    assert or_none(mean_iou(COUNTS)) == [pytest.approx(0.775)]


def test_reference_counts_ignored_pixels_as_false_positives_and_an_absent_class_as_zero() -> None:
    counts = np.array([[3, 0, 1], [0, 0, 0], [0, 0, 4]])
    assert reference_miou(counts, np.array([4, 0, 0])) == pytest.approx((3 / 8 + 0 + 4 / 5) / 3)


def test_class_absent_from_truth_and_prediction_does_not_apply() -> None:
    counts = np.array([[3, 0, 1], [0, 0, 0], [0, 0, 4]])
    assert or_none(iou(counts)) == [3 / 4, None, 4 / 5]
    assert or_none(dice(counts)) == [6 / 7, None, 8 / 9]
    assert or_none(mean_iou(counts)) == [pytest.approx(0.775)]


def test_class_predicted_but_never_true_scores_zero_without_recall() -> None:
    counts = np.array([[3, 1], [0, 0]])
    assert or_none(iou(counts)) == [3 / 4, 0]
    assert or_none(precision(counts)) == [1, 0]
    assert or_none(recall(counts)) == [3 / 4, None]


def test_class_true_but_never_predicted_scores_zero_without_precision() -> None:
    counts = np.array([[3, 0], [1, 0]])
    assert or_none(iou(counts)) == [3 / 4, 0]
    assert or_none(precision(counts)) == [3 / 4, None]
    assert or_none(recall(counts)) == [1, 0]


def test_nothing_counted_gives_no_mean() -> None:
    assert or_none(mean_iou(np.zeros((2, 2), np.int64))) == [None]


def test_equals_scikit_learn() -> None:
    truth, prediction = np.random.default_rng(1).integers(0, 4, (2, 20, 20), dtype=np.uint8)
    counts = confusion_counts(truth, prediction, 4)
    pair = truth.ravel(), prediction.ravel()
    np.testing.assert_allclose(iou(counts), jaccard_score(*pair, average=None))
    np.testing.assert_allclose(mean_iou(counts), jaccard_score(*pair, average="macro"))
    np.testing.assert_allclose(dice(counts), f1_score(*pair, average=None))
    np.testing.assert_allclose(precision(counts), precision_score(*pair, average=None))
    np.testing.assert_allclose(recall(counts), recall_score(*pair, average=None))


def test_interval_of_equal_slides_has_no_width() -> None:
    intervals = bootstrap_interval(np.stack([COUNTS] * 3), seed=0)
    assert intervals.iou == ((3 / 4, 3 / 4), (4 / 5, 4 / 5))
    assert intervals.miou == (pytest.approx(0.775), pytest.approx(0.775))


def test_interval_of_a_right_and_a_wrong_slide_reaches_from_one_to_the_other() -> None:
    # A quarter of the draws holds the right slide twice, another quarter the wrong one twice.
    intervals = bootstrap_interval(np.stack([RIGHT, WRONG]), seed=0)
    assert intervals.iou == ((0, 1), (0, 1))
    assert intervals.miou == (0, 1)


def test_interval_equals_that_of_all_possible_draws() -> None:
    slides = np.random.default_rng(2).integers(0, 30, (4, 2, 2)) + 40 * np.eye(2, dtype=np.int64)
    draws = [iou(slides[list(chosen)].sum(axis=0)) for chosen in product(range(4), repeat=4)]
    expected = np.percentile(draws, [2.5, 97.5], axis=0).T
    np.testing.assert_allclose(np.array(bootstrap_interval(slides, seed=0).iou), expected, atol=0.01)


def test_interval_depends_on_the_seed_alone() -> None:
    slides = np.random.default_rng(3).integers(1, 50, (9, 3, 3))
    assert bootstrap_interval(slides, seed=4) == bootstrap_interval(slides, seed=4)
    assert bootstrap_interval(slides, seed=4).miou == pytest.approx((0.168639, 0.250108), abs=1e-6)
    assert bootstrap_interval(slides, seed=5).miou == pytest.approx((0.168261, 0.253008), abs=1e-6)


def test_one_slide_has_no_interval() -> None:
    intervals = bootstrap_interval(COUNTS[None], seed=0)
    assert intervals.iou == (None, None)
    assert intervals.miou is None


def test_no_slide_has_no_interval() -> None:
    intervals = bootstrap_interval(np.zeros((0, 2, 2), np.int64), seed=0)
    assert (intervals.iou, intervals.miou) == ((None, None), None)


def test_class_on_one_slide_has_no_interval() -> None:
    without = np.array([[4, 0, 0], [0, 4, 0], [0, 0, 0]])
    having = np.array([[4, 0, 0], [0, 4, 0], [0, 1, 3]])
    intervals = bootstrap_interval(np.stack([without, having, without]), seed=0)
    # Drawn three times, the one wrong pixel of 5 lowers the IoU of its class to 0.8, and the mean of 1, 0.8 and 0.75.
    assert intervals.iou == ((1, 1), (pytest.approx(0.8), 1), None)
    assert intervals.miou == (pytest.approx(0.85), 1)


def test_slides_without_a_counted_pixel_have_no_interval() -> None:
    slides = np.zeros((2, 2, 2), np.int64)
    assert bootstrap_interval(slides, seed=0).iou == (None, None)
    assert bootstrap_interval(slides, seed=0).miou is None


def test_pooling_adds_pixels_up_before_it_divides() -> None:
    # 2 of 2 pixels and 0 of 6: the mean of the slides would be one half.
    slides = np.array([[[2, 0], [0, 0]], [[0, 6], [0, 0]]])
    (first, second), miou = pooled_scores(slides, ("glass", "nucleus"), seed=0)
    assert (first.name, first.iou.value, first.recall, first.pixels) == ("glass", 1 / 4, 1 / 4, 8)
    assert (first.dice, first.precision) == (4 / 10, 1)
    assert second.iou == Score(0.0)
    assert (second.recall, second.pixels) == (None, 0)
    assert miou.value == 1 / 8


def test_pooled_scores_carry_their_intervals() -> None:
    scores, miou = pooled_scores(np.stack([RIGHT, WRONG]), ("glass", "nucleus"), seed=0)
    # Together [[4, 4], [4, 4]]: 4 of a union of 12.
    assert [entry.iou for entry in scores] == [Score(4 / 12, 0, 1)] * 2
    assert miou == Score(4 / 12, 0, 1)


def test_pooled_scores_draw_with_the_seed_they_are_given() -> None:
    slides = np.random.default_rng(3).integers(1, 50, (9, 2, 2))
    _, miou = pooled_scores(slides, ("glass", "nucleus"), seed=4)
    assert (miou.low, miou.high) == bootstrap_interval(slides, seed=4).miou


def test_each_slide_is_pooled_over_its_crops() -> None:
    slides: dict[str, list[NDArray[np.int64]]] = {"b": [RIGHT], "a": [COUNTS, WRONG]}
    first, second = slide_scores(slides)
    assert (first.slide, first.crops, first.iou) == ("a", 2, (3 / 12, 4 / 13))
    assert first.miou == pytest.approx((3 / 12 + 4 / 13) / 2)
    assert (second.slide, second.crops, second.miou, second.iou) == ("b", 1, 1, (1, 1))


def test_an_interval_is_that_of_a_thousand_draws_sorted_by_hand() -> None:
    """Twelve slides of which each found another share of 100 pixels of class 1; percentiles lie between two draws."""
    slides = np.array([[[0, 0], [100 - hit, hit]] for hit in range(20, 80, 5)])
    times = np.random.default_rng(7).multinomial(12, [1 / 12] * 12, size=1000)
    ious = sorted(float(sum(n * hit for n, hit in zip(draw, range(20, 80, 5), strict=True))) / 1200 for draw in times)
    low = ious[24] + 0.975 * (ious[25] - ious[24])  # 0.025 * 999 = 24.975
    high = ious[974] + 0.025 * (ious[975] - ious[974])
    assert bootstrap_interval(slides, seed=7).iou[1] == pytest.approx((low, high), abs=1e-12)


def test_the_share_kept_is_that_of_the_pooled_iou_and_may_exceed_one() -> None:
    clean = np.stack([np.array([[4, 0], [0, 4]]), np.array([[2, 2], [2, 2]])])
    changed = np.stack([np.array([[2, 2], [2, 2]]), np.array([[4, 0], [0, 4]])])
    same = iou_kept(clean, clean, seed=0)
    assert [(score.value, score.low, score.high) for score in same] == [(1, 1, 1)] * 2
    score = iou_kept(changed, clean, seed=0)[0]
    assert score.value == 1.0
    assert score.low == pytest.approx(1 / 3)  # the first slide twice: 1 / 3 of what was whole
    assert score.high == pytest.approx(3.0)


def test_the_share_kept_is_undefined_without_a_clean_iou_and_has_no_interval_on_one_slide() -> None:
    clean = np.array([[[4, 0, 0], [1, 3, 0], [0, 0, 0]]])
    changed = np.array([[[4, 0, 0], [4, 0, 0], [0, 0, 0]]])
    found = iou_kept(changed, clean, seed=0)
    assert [score.value for score in found] == [pytest.approx(0.5 / 0.8), 0.0, None]
    assert [score.low for score in found] == [None] * 3


def test_the_share_kept_has_no_interval_for_a_class_on_one_of_three_slides() -> None:
    clean = np.array([[[8, 2], [1, 9]], [[10, 0], [0, 0]], [[6, 0], [0, 0]]], np.int64)
    first, second = iou_kept(clean, clean, seed=0)
    assert (first.value, first.low, first.high) == (1.0, 1.0, 1.0)
    assert (second.value, second.low, second.high) == (1.0, None, None)
