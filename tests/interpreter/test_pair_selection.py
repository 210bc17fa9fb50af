import numpy as np
import pytest

from cytoseg.interpreter.pair_selection import GeneratedPair, most_certain, picture_uncertainty


def _pairs(count: int, *, tissue: float = 0.5) -> list[GeneratedPair]:
    """Pairs of which the first is the least certain."""
    return [GeneratedPair(number, 1.0 - number / count, tissue) for number in range(count)]


def test_the_uncertainty_of_a_picture_is_that_of_its_least_certain_tenth() -> None:
    disagreement = np.zeros((10, 10), np.float16)
    disagreement[0, :5] = 0.5
    disagreement[9, 5:] = 0.25
    assert picture_uncertainty(disagreement) == pytest.approx(0.375)
    assert picture_uncertainty(np.full((2, 2), 0.5)) == 0.5  # less than ten pixels: one counts


@pytest.mark.parametrize(
    ("count", "drop", "kept"),
    [(1, 0.1, 1), (5, 0.1, 5), (299, 0.1, 270), (300, 0.1, 270), (100, 0.29, 71), (4, 0.0, 4)],
)
def test_the_share_to_drop_is_rounded_down_to_whole_pairs(count: int, drop: float, kept: int) -> None:
    assert len(most_certain(_pairs(count), drop)) == kept


def test_the_least_certain_are_dropped() -> None:
    assert [pair.number for pair in most_certain(_pairs(5), 0.4)] == [2, 3, 4]


def test_a_share_below_one_never_drops_all() -> None:
    assert [pair.number for pair in most_certain(_pairs(5), 0.999)] == [4]
    assert most_certain([], 0.5) == []


def test_bare_glass_loses_as_many_as_pictures_with_cells() -> None:
    glass = [GeneratedPair(i, 0.001 * i, 0.0) for i in range(50)]
    cells = [GeneratedPair(50 + i, 0.5 + 0.001 * i, 0.3) for i in range(50)]
    kept = {pair.number for pair in most_certain([*cells, *glass], 0.2)}
    assert set(range(50)) - kept == set(range(40, 50))
    # Cells of equal tissue are divided by number into two strata of 25, each of which loses its five least certain.
    assert set(range(50, 100)) - kept == {*range(70, 75), *range(95, 100)}


def test_pictures_are_compared_with_those_of_like_tissue() -> None:
    sparse = [GeneratedPair(i, 0.1 + 0.001 * i, 0.1) for i in range(20)]
    dense = [GeneratedPair(20 + i, 0.9 + 0.001 * i, 0.9) for i in range(20)]
    dropped = set(range(40)) - {pair.number for pair in most_certain([*sparse, *dense], 0.1)}
    assert dropped == {18, 19, 38, 39}


def test_the_remainder_goes_to_the_strata_that_lose_most_by_rounding() -> None:
    pairs = [GeneratedPair(i, float(i), 0.0) for i in range(9)] + [
        GeneratedPair(9 + i, float(i), 0.5) for i in range(6)
    ]
    kept = {pair.number for pair in most_certain(pairs, 0.1)}  # 1.5, so one: .9 of nine against .6 of six
    assert set(range(15)) - kept == {8}
