"""Values of an evaluation, their text and order."""

from dataclasses import replace

import pytest

from cytoseg.metrics.results import (
    Calibration,
    ClassScores,
    CropScores,
    Evaluation,
    MethodScores,
    ObjectScores,
    Risk,
    Score,
    UncertaintyScores,
    column_shares,
    corrected_text,
    ensemble_of,
    fine_text,
    risk_table,
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


def test_objects_are_reported_in_one_line() -> None:
    scores = ObjectScores(40, 42, 37, 37 / 42, 37 / 40, 37 / 41, 0.712, None, 0.86, 37 / 41)
    assert scores.text("nucleus") == "nucleus: 37 of 40 found, 5 false; F1 0.90, AJI 0.71, PQ n/a"


def test_corrected_crops_are_counted_and_their_scores_called_optimistic() -> None:
    crops = tuple(_crop(name, miou=0.9, nucleus=0.9) for name in "abc")
    crops = (replace(crops[0], from_prediction=True), crops[1], replace(crops[2], from_prediction=True))
    assert (replace(_evaluation(), crops=crops).corrected, _evaluation().corrected) == (2, 0)
    assert corrected_text(2, 3).startswith("2 of 3 test crops were corrected from a prediction: ")
    assert corrected_text(0, 3) == ""


RISK = Risk(12_000, 0.05, 0.01234, 0.00126, 0.416)


def test_a_risk_is_reported_in_one_line() -> None:
    text = "the 5 % least certain pixels hold 42 % of the errors; AURC 0.0123 (best 0.0013, by chance 0.0500)"
    assert RISK.text() == text
    nothing_wrong = "the 5 % least certain pixels hold n/a of the errors; AURC n/a (best n/a, by chance 0.0000)"
    assert Risk(9, 0.0, None, None, None).text() == nothing_wrong
    assert (fine_text(0.0), fine_text(None)) == ("0.0000", "n/a")


def test_the_table_of_risks_has_a_row_per_class_and_two_columns_per_measure() -> None:
    of_nucleus, of_glass = RISK, Risk(7, None, None, None, None)
    measured = (
        UncertaintyScores("disagreement", RISK, (of_glass, of_nucleus), ()),
        UncertaintyScores("probability", RISK, (of_glass, replace(of_nucleus, aurc=0.5, found=1.0)), ()),
    )
    method = replace(_method("ensemble"), uncertainty=measured, calibration=Calibration(None, classes=(None, 0.0321)))
    head, rows = risk_table(method, ("glass", "nucleus"))
    assert head == [
        *("Predicted as", "Pixels", "Wrong", "ECE"),
        *("AURC, by disagreement", "Errors in the least certain 5 %, by disagreement"),
        *("AURC, by stated probability", "Errors in the least certain 5 %, by stated probability"),
    ]
    assert rows == [
        ["glass", "7", "n/a", "n/a", "n/a", "n/a", "n/a", "n/a"],
        ["nucleus", "12,000", "0.0500", "0.0321", "0.0123", "0.42", "0.5000", "1.00"],
    ]
    _, without_ece = risk_table(replace(method, calibration=None), ("glass", "nucleus"))
    assert [row[3] for row in without_ece] == ["n/a", "n/a"]
