import numpy as np
import pytest
import torch
from monai.metrics.panoptic_quality import compute_panoptic_quality
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from cytoseg.metrics.objects import ObjectCounts, object_counts, object_scores

Row = list[int]


def counts_of(truth: Row, prediction: Row, ignored: Row | None = None) -> ObjectCounts:
    """Compare maps of one row."""
    hidden = np.array([ignored or [0] * len(truth)], np.bool_)
    return object_counts(np.array([truth], np.int32), np.array([prediction], np.int32), ignored=hidden)


def test_equal_objects_match_whatever_their_numbers() -> None:
    counts = counts_of([1, 1, 0, 2, 2, 2], [7, 7, 0, 3, 3, 3])
    assert counts == ObjectCounts(truth=2, predicted=2, matched=2, iou=2.0, shared_px=5, joined_px=5)
    scores = object_scores(counts)
    assert (scores.precision, scores.recall, scores.f1, scores.aji, scores.pq) == (1, 1, 1, 1, 1)


def test_an_example_by_hand() -> None:
    # 1: found with 3 of 4 pixels, IoU 3/4. 2: touched with 1 of 3 + 2, IoU 1/5. 3: missed. One more is predicted.
    truth = [1, 1, 1, 1, 0, 2, 2, 2, 0, 0, 0, 3, 3, 0, 0]
    found = [1, 1, 1, 0, 0, 0, 0, 5, 5, 5, 0, 0, 0, 6, 6]
    counts = counts_of(truth, found)
    assert counts == ObjectCounts(truth=3, predicted=3, matched=1, iou=0.75, shared_px=4, joined_px=4 + 5 + 2 + 2)
    scores = object_scores(counts)
    assert (scores.precision, scores.recall, scores.f1) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert scores.aji == pytest.approx(4 / 13)
    assert (scores.sq, scores.rq, scores.pq) == pytest.approx((0.75, 1 / 3, 0.25))


@pytest.mark.parametrize(("truth", "found"), [([1, 1, 1, 1], [1, 1, 2, 2]), ([1, 1, 2, 2], [1, 1, 1, 1])])
def test_of_two_exact_halves_one_matches(truth: Row, found: Row) -> None:
    counts = counts_of(truth, found)
    assert (counts.matched, counts.iou) == (1, 0.5)


def test_below_a_half_nothing_matches() -> None:
    assert counts_of([1, 1, 1, 1, 1], [1, 1, 0, 0, 0]).matched == 0


def test_a_predicted_object_may_be_the_nearest_of_several_true_ones() -> None:
    # As in the paper: the union is counted for each.
    counts = counts_of([1, 1, 2, 2], [3, 3, 3, 3])
    assert (counts.shared_px, counts.joined_px) == (4, 8)


def test_what_lies_mostly_on_ignore_does_not_count() -> None:
    ignored = [0, 0, 0, 0, 1, 1, 1, 1]
    # 1 lies half on ignore and counts with the rest; 2 lies on ignore by more than half.
    assert counts_of([1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1, 2, 2], ignored).predicted == 1
    assert counts_of([0, 0, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1, 2, 2], ignored) == ObjectCounts(1, 1, 1, 1.0, 2, 2)
    assert counts_of([0] * 8, [0, 0, 0, 1, 1, 1, 0, 0], ignored) == ObjectCounts()


def test_pixels_of_true_objects_on_ignore_do_not_count() -> None:
    # Of 1 only the first pixel counts, which is found; 2 lies on ignore alone.
    counts = counts_of([1, 1, 1, 0, 2, 2], [4, 0, 0, 0, 0, 0], [0, 1, 1, 0, 1, 1])
    assert counts == ObjectCounts(truth=1, predicted=1, matched=1, iou=1.0, shared_px=1, joined_px=1)


def test_ids_whose_pairs_exceed_32_bits_are_matched() -> None:
    # 70,000 * 70,001 + 69,999 is beyond 2**32.
    counts = counts_of([70_000, 70_000, 69_000, 0], [69_999, 69_999, 70_000, 0])
    assert counts == ObjectCounts(truth=2, predicted=2, matched=2, iou=2.0, shared_px=3, joined_px=3)


def test_without_objects_nothing_applies() -> None:
    scores = object_scores(counts_of([0, 0], [0, 0]))
    assert (scores.truth, scores.predicted, scores.matched) == (0, 0, 0)
    assert {scores.precision, scores.recall, scores.f1, scores.aji, scores.pq, scores.sq, scores.rq} == {None}


def test_without_true_objects_there_is_no_recall_but_an_f1() -> None:
    scores = object_scores(counts_of([0, 0], [1, 0]))
    assert (scores.precision, scores.recall, scores.f1, scores.aji, scores.pq, scores.sq) == (0, None, 0, 0, 0, None)


def test_counts_of_crops_add_up() -> None:
    first, second = counts_of([1, 1, 0], [1, 0, 0]), counts_of([1, 0, 2], [1, 0, 0])
    apart = counts_of([1, 1, 0, 0, 2, 0, 3], [1, 0, 0, 0, 2, 0, 0])
    assert first + second == apart


def test_maps_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shapes \(1, 2\), \(1, 3\) and \(1, 2\) must be equal"):
        counts_of([1, 1], [1, 1, 1])


def scattered(seed: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Squares of many sizes, and the same ones moved a little, some of them gone."""
    rng = np.random.default_rng(seed)
    truth, found = np.zeros((64, 64), np.int32), np.zeros((64, 64), np.int32)
    for number, (x, y, side) in enumerate(rng.integers((0, 0, 3), (58, 58, 12), (20, 3)), start=1):
        truth[y : y + side, x : x + side] = number
        dx, dy = rng.integers(0, 4, 2)
        if rng.random() < 0.8:
            found[y + dy : y + dy + side, x + dx : x + dx + side] = 21 - number
    return truth, found


@pytest.mark.parametrize("seed", [0, 1, 3, 5, 6])
def test_panoptic_quality_agrees_with_monai(seed: int) -> None:
    truth, found = scattered(seed)
    scores = object_scores(object_counts(truth, found, ignored=np.zeros((64, 64), np.bool_)))
    tensors = {"pred": torch.from_numpy(found), "gt": torch.from_numpy(truth)}
    for name, value in (("pq", scores.pq), ("sq", scores.sq), ("rq", scores.rq)):
        # Seeds without a pair of exactly .5: MONAI wants more, as the paper does.
        wanted = compute_panoptic_quality(**tensors, metric_name=name, match_iou_threshold=0.5)
        assert value == pytest.approx(float(wanted), abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_scores_agree_with_all_pairs_one_by_one(seed: int) -> None:
    truth, found = scattered(seed)
    counts = object_counts(truth, found, ignored=np.zeros((64, 64), np.bool_))
    true = [truth == number for number in np.unique(truth)[1:]]
    predicted = [found == number for number in np.unique(found)[1:]]
    iou = np.array([[(a & b).sum() / (a | b).sum() for b in predicted] for a in true])
    close = np.where(iou >= 0.5, iou, 0)
    assert counts.matched == np.count_nonzero(close[linear_sum_assignment(-close)])
    shared = joined = 0
    used = set()
    for a, row in zip(true, iou, strict=True):
        best = int(row.argmax())
        shared += (a & predicted[best]).sum() if row[best] else 0
        joined += (a | predicted[best]).sum() if row[best] else a.sum()
        used |= {best} if row[best] else set()
    joined += sum(b.sum() for number, b in enumerate(predicted) if number not in used)
    assert (counts.shared_px, counts.joined_px) == (shared, joined)
