import numpy as np
import pytest
from numpy.typing import NDArray

from cytoseg.metrics.results import Risk
from cytoseg.metrics.risk import BINS, COVERAGES, risk, risk_counts, risk_curve

PREDICTED = np.array([[0, 0, 1, 1]] * 4).ravel()
UNCERTAINTY = np.arange(1, 17, dtype=np.float32) / 16
"""Of 4x4 pixels, each less certain than the one before."""


def _counts(uncertainty: NDArray[np.float32], wrong: list[int]) -> NDArray[np.int64]:
    truth = PREDICTED.copy()
    truth[wrong] = 1 - truth[wrong]
    return risk_counts(uncertainty, predicted=PREDICTED, truth=truth, classes=2)


def _by_hand(wrong: list[int]) -> float:
    errors = np.cumsum(np.isin(np.arange(16), wrong))
    return float(np.mean(errors / np.arange(1, 17)))


@pytest.mark.parametrize("wrong", [[], [0], [15], [3, 9], [14, 15], [0, 1, 2], list(range(16))])
def test_the_area_is_the_mean_of_the_risks_of_the_most_certain_pixels(wrong: list[int]) -> None:
    found = risk(_counts(UNCERTAINTY, wrong).sum(axis=0))
    assert found.pixels == 16
    assert found.error == len(wrong) / 16
    assert found.aurc == pytest.approx(_by_hand(wrong), abs=1e-12)
    assert found.aurc_best == pytest.approx(_by_hand(list(range(16 - len(wrong), 16))), abs=1e-12)


def test_a_bin_spans_less_than_a_hundredth_of_its_value() -> None:
    """1 is bin 0x3F80, the upper half of its bits as float32; the next bin begins at 1 + 1 / 128."""
    uncertainty = np.array([0, -0.0, 1, 1 + 1 / 129, 1 + 1 / 128], np.float32)
    zeros = np.zeros(5, np.int64)
    counts = risk_counts(uncertainty, predicted=zeros, truth=zeros, classes=1)
    assert counts.shape == (1, 32768, 2)
    assert {int(place): int(counts[0, place, 0]) for place in np.flatnonzero(counts[0, :, 0])} == {
        0: 2,
        0x3F80: 2,
        0x3F81: 1,
    }


def test_two_errors_of_16_pixels_written_out() -> None:
    """Errors in places 15 and 16 of 16: risks of 1/15 and 2/16. The best order there is."""
    found = risk(_counts(UNCERTAINTY, [14, 15]).sum(axis=0))
    assert found.aurc == pytest.approx((1 / 15 + 2 / 16) / 16)
    assert found.aurc_best == pytest.approx(found.aurc)
    # 5 % of 16 pixels are 0.8 of the last one, which holds one of the two errors.
    assert found.found == pytest.approx(0.8 / 2)


def test_only_the_order_counts() -> None:
    straight, bent = _counts(UNCERTAINTY, [3, 9]).sum(axis=0), _counts(UNCERTAINTY**9 / 50, [3, 9]).sum(axis=0)
    assert risk(bent) == risk(straight)
    assert risk_curve(bent) == risk_curve(straight)


def test_equally_certain_pixels_have_the_mean_over_all_orders() -> None:
    even = np.zeros(16, np.float32)
    found = risk(_counts(even, [0, 1, 2, 3]).sum(axis=0))
    assert (found.aurc, found.error) == (pytest.approx(1 / 4), 1 / 4)
    assert found.found == pytest.approx(0.05)
    # Two tied pixels, one of them wrong, behind 14 right ones: the wrong one is first or last.
    tied = np.repeat(np.array([0.1, 0.5], np.float32), [14, 2])
    assert risk(_counts(tied, [15]).sum(axis=0)).aurc == pytest.approx((_by_hand([14]) + _by_hand([15])) / 2)


def test_classes_are_those_predicted() -> None:
    counts = _counts(UNCERTAINTY, [1, 14, 15])
    assert counts.shape == (2, BINS, 2)
    zero, one = (risk(entry) for entry in counts)
    assert (zero.pixels, zero.error, one.pixels, one.error) == (8, 1 / 8, 8, 2 / 8)
    # Of the pixels called 1 the two least certain are wrong; of those called 0 the second most certain.
    assert one.aurc == pytest.approx((1 / 7 + 2 / 8) / 8)
    assert zero.aurc == pytest.approx(sum(1 / i for i in range(2, 9)) / 8)


def test_maps_of_bytes_and_of_doubles_count_alike() -> None:
    truth = PREDICTED.astype(np.uint8)
    truth[[3, 9]] = 1 - truth[[3, 9]]
    doubles, ids = UNCERTAINTY.astype(np.float64), PREDICTED.astype(np.uint8)
    found = risk_counts(doubles, predicted=ids, truth=truth, classes=2)
    np.testing.assert_array_equal(found, _counts(UNCERTAINTY, [3, 9]))


def test_the_curve_begins_with_the_most_certain_pixels_and_ends_with_all() -> None:
    curve = risk_curve(_counts(UNCERTAINTY, [8, 15]).sum(axis=0))
    assert len(curve) == len(COVERAGES)
    assert curve[9] == 0  # the first 8 of 16 pixels are right
    assert curve[14] == pytest.approx(1 / 12)
    assert curve[-1] == 2 / 16


def test_crops_add_up() -> None:
    rng = np.random.default_rng(0)
    uncertainty = rng.random(500).astype(np.float32)
    predicted, truth = rng.integers(0, 3, (2, 500))
    whole = risk_counts(uncertainty, predicted=predicted, truth=truth, classes=3)
    parts = [
        risk_counts(uncertainty[part], predicted=predicted[part], truth=truth[part], classes=3)
        for part in (slice(0, 123), slice(123, None))
    ]
    np.testing.assert_array_equal(parts[0] + parts[1], whole)


@pytest.mark.parametrize("scale", [1.0, 1e-5])
def test_intervals_change_little(scale: float) -> None:
    """The area by less than a thousandth of it, the share of the errors found by less than .002."""
    rng = np.random.default_rng(0)
    uncertainty = (scale * rng.random(20_000) ** 4).astype(np.float32)
    wrong = rng.random(20_000) < (uncertainty / scale) ** 0.5 / 3
    counts = risk_counts(uncertainty, predicted=np.zeros(20_000, int), truth=wrong.astype(int), classes=2)
    in_order = wrong[np.argsort(uncertainty, kind="stable")]
    exact = np.mean(np.cumsum(in_order) / np.arange(1, 20_001))
    found = risk(counts.sum(axis=0))
    assert found.aurc == pytest.approx(exact, rel=1e-3)
    assert found.found == pytest.approx(in_order[-1000:].sum() / wrong.sum(), abs=2e-3)


def test_no_sign_and_no_pixel() -> None:
    minus = np.array([-0.0, -1e-9, 0.0], np.float32)
    counts = risk_counts(minus, predicted=np.zeros(3, int), truth=np.zeros(3, int), classes=1)
    assert counts[0, 0].tolist() == [3, 0]
    assert risk(counts[0]) == Risk(3, 0.0, 0.0, 0.0, None)
    empty = np.zeros((BINS, 2), np.int64)
    assert risk(empty) == Risk(0, None, None, None, None)
    assert set(risk_curve(empty)) == {None}
