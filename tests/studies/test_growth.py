import math
from pathlib import Path

import numpy as np
import pytest

from cytoseg.studies.growth import Curve, growth, read_curves, worth
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


@pytest.mark.parametrize("cut", [TABLE[:-40], TABLE.replace("0.95", "much"), TABLE + "mlps\n", "", TABLE[:60] + "\n"])
def test_a_damaged_table_gives_no_curve(tmp_path: Path, cut: str) -> None:
    (tmp_path / "label_efficiency.csv").write_text(cut)
    assert read_curves(tmp_path, ("glass", "cell")) == {}


def _curve(*by_count: list[float]) -> Curve:
    return Curve("Ours", (2, 8, 16, 32), np.array(by_count)[:, :, None])


def test_the_next_crops_are_worth_what_the_growth_with_the_logarithm_says() -> None:
    # From 8 crops on .05 for each doubling in the first draw, .03 in the second; what 2 crops gave does not count.
    gain = worth(_curve([0.0, 0.0], [0.50, 0.50], [0.55, 0.53], [0.60, 0.56]), 0)
    doublings = math.log2(42 / 32)
    assert gain == pytest.approx((0.04 * doublings, 0.03 * doublings, 0.05 * doublings))
    (sentence,) = sentences({"ours": _curve([0.0, 0.0], [0.5, 0.5], [0.55, 0.53], [0.6, 0.56])}, ("nucleus",))
    assert sentence == (
        "Ours, nucleus: 32 crops reach IoU 0.580; the next 10 are worth about +0.016 (+0.012 to +0.020 over the draws)."
    )


@pytest.mark.parametrize(
    "curve",
    [
        Curve("Ours", (4,), np.full((1, 2, 1), 0.5)),
        Curve("Ours", (2, 4), np.array([[[0.5]], [[np.nan]]])),
        Curve("Ours", (1, 30), np.full((2, 2, 1), 0.5)),
    ],
    ids=["one count", "a class that does not apply", "too far apart"],
)
def test_where_there_is_too_little_to_say_nothing_is_said(curve: Curve) -> None:
    assert worth(curve, 0) is None
    assert not any("worth about" in sentence for sentence in sentences({"ours": curve}, ("nucleus",)))
    assert growth(curve, 0, 10, 20) is None


def test_it_says_which_counts_it_takes() -> None:
    far_apart = Curve("Ours", (1, 30), np.full((2, 2, 1), 0.5))
    said = sentences({"ours": far_apart}, ("nucleus",))
    assert said == ["What the next 10 are worth takes two of --counts at 8 or more, of 30 crops."]
    assert sentences({"ours": Curve("Ours", (2, 4), np.array([[[0.5]], [[np.nan]]]))}, ("nucleus",)) == []


def test_growth_is_counted_in_doublings() -> None:
    curve = _curve([0.0, 0.0], [0.50, 0.50], [0.55, 0.53], [0.60, 0.56])
    found = growth(curve, 0, 8, 32)
    assert found is not None
    np.testing.assert_allclose(found, [0.10, 0.06])
