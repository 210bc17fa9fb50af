import numpy as np
import pytest

import cytoseg as cs
from cytoseg.errors import ArrayError

TRUTH = np.array([[0, 0, 1, 1], [0, 0, 1, 255]])
FOUND = np.array([[0, 1, 1, 1], [0, 0, 0, 0]])


def test_scores_are_those_counted_by_hand() -> None:
    scores = cs.evaluate([FOUND], [TRUTH], ["glass", "cell"])
    assert scores.confusion.tolist() == [[3, 1], [1, 2]]
    glass, cell = scores.classes
    assert (glass.name, glass.iou.value, glass.dice, glass.pixels) == ("glass", 3 / 5, 6 / 8, 4)
    assert (cell.iou.value, cell.precision, cell.recall, cell.pixels) == (2 / 4, 2 / 3, 2 / 3, 3)
    assert scores.mean_iou.value == pytest.approx(0.55)
    assert scores.mean_iou.low is None  # one group says nothing about others


def test_images_of_a_group_are_pooled_and_groups_are_distinguished() -> None:
    found, truth = [FOUND, TRUTH, np.zeros((2, 2), int)], [TRUTH, TRUTH, np.zeros((2, 2), int)]
    scores = cs.evaluate(found, truth, ["glass", "cell"], groups=["b", "b", "a"])
    assert [(group.slide, group.crops) for group in scores.groups] == [("a", 1), ("b", 2)]
    assert scores.groups[0].iou == (1.0, None)
    assert scores.groups[1].iou == (7 / 9, 5 / 7)
    assert scores.classes[0].iou.value == 11 / 13


def test_images_without_groups_are_scored_in_their_order() -> None:
    truth = [np.zeros((1, 11), int)] * 11
    found = [np.array([[1] * i + [0] * (11 - i)]) for i in range(11)]
    scores = cs.evaluate(found, truth, ["glass", "cell"])
    assert [group.iou[0] for group in scores.groups] == [(11 - i) / 11 for i in range(11)]


def test_predictions_and_stacks_are_taken_too() -> None:
    maps = FOUND.astype(np.uint8)
    prediction = cs.Prediction(maps, np.zeros((2, 2, 4), np.float32), np.zeros((2, 4), np.float32))
    by_map = cs.evaluate(np.stack([FOUND]), np.stack([TRUTH]), ["glass", "cell"])
    assert cs.evaluate([prediction], [TRUTH], ["glass", "cell"]).classes == by_map.classes


@pytest.mark.parametrize(
    ("found", "truth", "problem"),
    [
        ([], [], "there is nothing to score"),
        ([FOUND], [TRUTH, TRUTH], "label_maps: 2 for 1 images"),
        ([FOUND[:1]], [TRUTH], r"label_maps\[0\]: has shape \(2, 4\), its image \(1, 4\)"),
        ([FOUND + 1], [TRUTH], r"predictions\[0\]: holds id 2"),
        (FOUND, [TRUTH], "predictions: is one array"),
    ],
)
def test_what_cannot_be_scored_is_refused(found: list, truth: list, problem: str) -> None:
    with pytest.raises(ArrayError, match=problem):
        cs.evaluate(found, truth, ["glass", "cell"])


@pytest.mark.parametrize("classes", ["ab", [], ["cell", "cell"], [0, 1], 2])
def test_classes_are_different_names(classes: object) -> None:
    with pytest.raises(ArrayError, match=r"classes: found .*, but a list of names is wanted, each once"):
        cs.evaluate([FOUND], [TRUTH], classes)


def test_scores_are_short_in_a_notebook() -> None:
    scores = cs.evaluate([FOUND], [TRUTH], ["glass", "cell"])
    assert repr(scores) == "Evaluation(mean_iou=0.55, iou={'glass': 0.60, 'cell': 0.50}, groups=1)"
