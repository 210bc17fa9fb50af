"""Values of an evaluation, their text and order."""

import pytest

from cytoseg.metrics.results import (
    ClassScores,
    CropScores,
    Evaluation,
    MethodScores,
    ObjectScores,
    Score,
    column_shares,
    ensemble_of,
    row_shares,
    score_rows,
    share_text,
    worst_first,
)


def _method(key: str) -> MethodScores:
    scores = ClassScores("nucleus", Score(0.62, 0.55, 0.68), 0.77, 0.76, 0.78, 800)
    return MethodScores(key, key.title(), 1.0, 2.0, (scores,), Score(None), ((1,),), ())


def _evaluation(*keys: str) -> Evaluation:
    return Evaluation("", "r", ("nucleus",), ((0, 0, 0),), 1, 1, 1, tuple(_method(key) for key in keys), ())


def _crop(name: str, *, miou: float | None, nucleus: float | None) -> CropScores:
    return CropScores(name, "s", miou, (0.9, nucleus), 0.1, f"crops/{name}")


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (Score(0.62, 0.55, 0.68), "0.62 (0.55-0.68)"),
        (Score(1.0, 1.0, 1.0), "1.00 (1.00-1.00)"),
        (Score(0.624), "0.62"),
        (Score(None), "n/a"),
        (Score(0.0, None, 0.5), "0.00"),
    ],
)
def test_score_text(score: Score, text: str) -> None:
    assert score.text() == text


def test_share_text_tells_zero_from_not_applicable() -> None:
    assert (share_text(0.0), share_text(None)) == ("0.00", "n/a")


def test_shares_by_row_and_by_column() -> None:
    confusion = [[3, 1, 0], [2, 2, 0], [0, 0, 0]]
    assert row_shares(confusion) == [[0.75, 0.25, 0.0], [0.5, 0.5, 0.0], [None, None, None]]
    assert column_shares(confusion) == [[0.6, 1 / 3, None], [0.4, 2 / 3, None], [0.0, 0.0, None]]


def test_worst_first_puts_crops_without_a_value_last() -> None:
    crops = [_crop("a", miou=0.9, nucleus=None), _crop("b", miou=0.5, nucleus=0.7), _crop("c", miou=0.7, nucleus=0.0)]
    assert [crop.crop for crop in worst_first(crops)] == ["b", "c", "a"]
    assert [crop.crop for crop in worst_first(crops, 1)] == ["c", "b", "a"]


def test_worst_first_breaks_ties_by_the_name_of_the_crop() -> None:
    crops = [_crop("b", miou=0.5, nucleus=None), _crop("a", miou=0.5, nucleus=None)]
    assert [crop.crop for crop in worst_first(crops)] == ["a", "b"]


def test_the_ensemble_is_found_wherever_it_stands() -> None:
    found = ensemble_of(_evaluation("forest", "ensemble"))
    assert found is not None
    assert found.key == "ensemble"
    first = ensemble_of(_evaluation("forest"))
    assert first is not None
    assert first.key == "forest"
    assert ensemble_of(_evaluation()) is None


def test_score_rows_hold_title_mean_and_classes() -> None:
    assert score_rows(_evaluation("forest")) == [["Forest", "n/a", "0.62 (0.55-0.68)"]]


def test_objects_are_told_in_one_line() -> None:
    scores = ObjectScores("nucleus", 40, 42, 37, 37 / 42, 37 / 40, 37 / 41, 0.712, None, 0.86, 37 / 41)
    assert scores.text() == "nucleus: 37 of 40 found, 5 false; F1 0.90, AJI 0.71, PQ n/a"
