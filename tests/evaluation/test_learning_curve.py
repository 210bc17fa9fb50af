import math
from pathlib import Path

import numpy as np
import pytest

from cytoseg.evaluation.learning_curve import Curve, gain_between, read_curves, worth
from cytoseg.studies.label_efficiency import sentences

TABLE = """method,crops,draw,glass,cell
mlps,5,0,0.9,0.4
mlps,5,1,0.8,
mlps,30,0,0.95,0.6
mlps,30,1,0.85,0.7
forest,30,0,0.5,0.5
"""


def test_the_table_is_read_back(tmp_path: Path) -> None:
    assert read_curves(tmp_path, ("glass", "cell")) == {}
    path = tmp_path / "label_efficiency.csv"
    path.write_text(TABLE)
    found = read_curves(tmp_path, ("glass", "cell"))
    assert list(found) == ["mlps", "forest"]
    assert (found["mlps"].counts, found["forest"].counts) == ((5, 30), (30,))
    np.testing.assert_array_equal(found["mlps"].iou[:, :, 1], [[0.4, np.nan], [0.6, 0.7]])
    assert read_curves(tmp_path, ("glass", "nucleus")) == {}


def test_the_table_is_read_back_with_a_mark_and_a_class_that_begins_a_formula(tmp_path: Path) -> None:
    head, *rows = TABLE.replace("cell", "'=cell").splitlines(keepends=True)
    (tmp_path / "label_efficiency.csv").write_text("".join([head, *rows]), encoding="utf-8-sig")
    assert list(read_curves(tmp_path, ("glass", "=cell"))) == ["mlps", "forest"]


@pytest.mark.parametrize(
    "cut",
    [
        *(TABLE[:-40], TABLE.replace("0.95", "much"), TABLE + "mlps\n", "", TABLE[:60] + "\n"),
        *(TABLE.replace("0.95", wrong) for wrong in ("inf", "nan", "-0.1", "1.5", 200_000 * "9")),
        *(TABLE.replace("30,", wrong) for wrong in ("0,", "-30,", 5000 * "9" + ",", "30000000,")),
        *(TABLE.replace(",0.95,0.6", ",0.95"), TABLE.replace("0.95", '"0.95')),
    ],
)
def test_a_damaged_table_gives_no_curve(tmp_path: Path, cut: str) -> None:
    (tmp_path / "label_efficiency.csv").write_text(cut)
    assert read_curves(tmp_path, ("glass", "cell")) == {}


def _curve(*by_count: list[float]) -> Curve:
    return Curve("Ours", (2, 8, 16, 32), np.array(by_count)[:, :, None])


def _logistic(count: float, slope: float) -> float:
    """An IoU of .5 at 8 crops whose log odds grow by ``slope`` with every doubling."""
    return 1 / (1 + math.exp(-slope * math.log2(count / 8)))


def test_the_next_crops_are_worth_what_the_growth_with_the_logarithm_says() -> None:
    # What 2 crops gave does not count.
    curve = _curve([0.0, 0.0], *([_logistic(count, slope) for slope in (0.2, 0.1)] for count in (8, 16, 32)))
    gains = [_logistic(42, slope) - _logistic(32, slope) for slope in (0.2, 0.1)]
    assert worth(curve, 0) == pytest.approx((sum(gains) / 2, gains[1], gains[0]))
    assert sentences({"ours": curve}, ("nucleus",)) == [
        "Ours, nucleus: 32 crops reach IoU 0.574; the next 10 would add about +0.014 (+0.010 to +0.019 over the draws)."
    ]


@pytest.mark.parametrize(
    ("late", "sign"),
    [
        ((0.5, 0.8, 0.978), 1),
        ((0.978, 0.978, 0.978), 0),
        ((1.0, 1.0, 1.0), 0),
        ((0.0, 0.5, 0.999), 1),
        ((0.9, 0.7, 0.4), -1),
        ((0.2, 0.1, 0.0), -1),
    ],
)
def test_an_estimate_stays_between_nothing_and_everything(late: tuple[float, ...], sign: int) -> None:
    curve = _curve([0.0, 0.0], *([iou, iou] for iou in late))
    gain = worth(curve, 0)
    assert gain is not None
    assert late[-1] + gain[2] <= 1
    far = gain_between(curve, 0, 32, 10**9)
    assert far is not None
    assert np.all(np.abs(far) <= 1)
    assert np.sign(gain[0]) == sign


@pytest.mark.parametrize(
    "curve",
    [
        Curve("Ours", (4,), np.full((1, 2, 1), 0.5)),
        Curve("Ours", (2, 4), np.array([[[0.5]], [[np.nan]]])),
        Curve("Ours", (1, 30), np.full((2, 2, 1), 0.5)),
        Curve("Ours", (16, 30), np.full((2, 2, 1), 0.5)),
    ],
    ids=["one count", "a class that does not apply", "too far apart", "any line goes through two points"],
)
def test_where_there_is_too_little_to_say_nothing_is_said(curve: Curve) -> None:
    assert worth(curve, 0) is None
    assert not any("would add about" in sentence for sentence in sentences({"ours": curve}, ("nucleus",)))
    assert gain_between(curve, 0, 10, 20) is None


def test_it_says_which_counts_it_takes() -> None:
    far_apart = Curve("Ours", (1, 16, 30), np.full((3, 2, 1), 0.5))
    assert sentences({"ours": far_apart}, ("nucleus",)) == [
        "Ours, nucleus: 30 crops reach IoU 0.500; no estimate of the gain from the next 10: it needs 3 values "
        "of --counts "
        "from 8 on in which the class can be scored."
    ]
    assert sentences({"ours": Curve("Ours", (2, 4), np.array([[[0.5]], [[np.nan]]]))}, ("nucleus",)) == []


def test_the_same_reason_for_no_estimate_is_said_once() -> None:
    flat = Curve("Ours", (1, 4, 6), np.full((3, 1, 2), 0.5))
    reason = "estimate of the gain from the next 10: it needs 3 values of --counts from 2 on in which the class can be"
    assert sentences({"ours": flat, "other": flat}, ("cell", "nucleus")) == [f"No {reason} scored."]
    grown = Curve("Ours", (2, 4, 6), np.full((3, 1, 2), 0.5))
    grown.iou[0, 0] = np.nan, 0.5
    estimate = "the next 10 would add about +0.000 (+0.000 to +0.000 over the draws)."
    assert sentences({"ours": grown, "other": grown}, ("cell", "nucleus")) == [
        *[f"Ours, nucleus: 6 crops reach IoU 0.500; {estimate}"] * 2,
        f"For 2 of 4 curves there is no {reason} scored.",
    ]


def test_growth_is_counted_in_doublings() -> None:
    curve = _curve([0.0, 0.0], *([_logistic(count, slope) for slope in (0.2, 0.1)] for count in (8, 16, 32)))
    found = gain_between(curve, 0, 8, 32)
    assert found is not None
    np.testing.assert_allclose(found, [_logistic(32, 0.2) - 0.5, _logistic(32, 0.1) - 0.5])


def test_counts_from_exactly_a_quarter_of_all_crops_on_are_fitted() -> None:
    late = [[_logistic(count, 0.2)] for count in (10, 20, 40)]
    curves = [Curve("Ours", (9, 10, 20, 40), np.array([early, *late])[:, :, None]) for early in ([0.0], [0.9])]
    for curve in curves:  # what 9 crops gave does not count
        assert gain_between(curve, 0, 10, 40) == pytest.approx([_logistic(40, 0.2) - _logistic(10, 0.2)])
