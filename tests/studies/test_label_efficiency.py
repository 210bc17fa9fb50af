import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from cytoseg.errors import LabelError
from cytoseg.evaluation.learning_curve import read_curves
from cytoseg.studies.compare import ComparedMethod, Predict, Task
from cytoseg.studies.label_efficiency import Draw, draw_crops, label_efficiency, seconds_each

NAMES = ("glass", "cell")
TRUTH = np.array([[0, 0, 0, 0], [1, 1, 1, 1]], np.uint8)


@dataclass(frozen=True)
class Crop:
    """A test crop of 2x4 pixels, half of them cell."""

    crop: str
    slide: str

    def picture(self) -> NDArray[np.uint8]:
        return np.zeros((2, 4, 3), np.uint8)

    def label_map(self) -> NDArray[np.uint8]:
        return TRUTH


TASK = Task([Crop("a_0", "a"), Crop("b_0", "b")], NAMES, [7], {"labels": "12ab"})


def test_draws_are_nested_random_and_begin_with_a_crop_that_can_stand_alone() -> None:
    usable = [False, True, False, True, False]
    draws = draw_crops(usable, counts=(1, 2, 4, 9), draws=20, seed=0)
    assert [len(draw.crops) for draw in draws] == [1] * 20 + [2] * 20 + [4] * 20 + [5] * 20
    by_number = {n: [draw.crops for draw in draws if draw.number == n] for n in range(20)}
    for one, two, four, five in by_number.values():
        assert usable[one[0]]
        assert one == two[:1] == four[:1] == five[:1]
        assert two == four[:2]
        assert four == five[:4]
        assert sorted(five) == [0, 1, 2, 3, 4]
    assert len({crops[-1] for crops in by_number.values()}) == 16
    assert draw_crops(usable, counts=(1, 2, 4, 9), draws=20, seed=0) == draws
    other = draw_crops(usable, counts=(1, 2, 4, 9), draws=20, seed=1)
    assert [draw.crops for draw in draws[60:62]] == [(1, 2, 4, 3, 0), (3, 1, 4, 0, 2)]
    assert [draw.crops for draw in other[60:62]] == [(3, 4, 0, 1, 2), (3, 1, 4, 0, 2)]


def test_a_count_of_all_crops_stands_once() -> None:
    assert [len(draw.crops) for draw in draw_crops([True] * 4, counts=(1, 4, 8), draws=1, seed=0)] == [1, 4]


def test_without_a_crop_of_two_classes_nothing_can_be_learned() -> None:
    with pytest.raises(LabelError, match="no train crop shows two classes"):
        draw_crops([False, False], counts=(1,), draws=1, seed=0)


@pytest.fixture
def small_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures empty, which take most of the time."""
    monkeypatch.setattr("cytoseg.studies.label_efficiency._draw", lambda *_, **__: Figure((0.1, 0.1)))


class Fits:
    """Trainings that find as many pixels of the cell as they saw crops, and that count themselves."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def methods(self, draw: Draw) -> list[ComparedMethod]:
        def fit(seed: int) -> Predict:
            self.seen.append((len(draw.crops), seed))
            found = np.zeros((2, 4), np.uint8)
            found[1, : len(draw.crops)] = 1
            return lambda _: found

        return [ComparedMethod("some", "Finds some", fit, {})]


@pytest.mark.usefixtures("small_figures")
def test_every_draw_is_trained_once_and_scored_on_all_test_crops(tmp_path: Path) -> None:
    fits, draws = Fits(), draw_crops([True] * 4, counts=(1, 2), draws=2, seed=0)
    curves = label_efficiency(fits.methods, TASK, draws=draws, folder=tmp_path)
    assert fits.seen == [(1, 7), (1, 8), (2, 7), (2, 8), (4, 7), (4, 8)]
    assert list(curves) == ["some"]
    assert curves["some"].counts == (1, 2, 4)
    # Of cell 1, 2, 4 of 4 found. Of glass all 4 found; 3, 2, 0 more were called glass.
    np.testing.assert_allclose(curves["some"].iou[:, :, 1], [[0.25] * 2, [0.5] * 2, [1.0] * 2])
    np.testing.assert_allclose(curves["some"].iou[:, :, 0], [[4 / 7] * 2, [4 / 6] * 2, [1.0] * 2])

    again = label_efficiency(fits.methods, TASK, draws=draws, folder=tmp_path)
    assert len(fits.seen) == 6
    np.testing.assert_array_equal(again["some"].iou, curves["some"].iou)
    other = [Draw(draw.number, tuple(reversed(draw.crops))) for draw in draws]
    label_efficiency(fits.methods, TASK, draws=other, folder=tmp_path)
    assert len(fits.seen) == 10  # a single crop is the same in either order


@pytest.mark.usefixtures("small_figures")
def test_the_time_of_each_training_is_estimated_and_of_a_kept_one_is_nothing(tmp_path: Path) -> None:
    def timed(draw: Draw) -> list[ComparedMethod]:
        return [replace(method, about_s=60.0 * len(draw.crops)) for method in Fits().methods(draw)]

    draws, told = draw_crops([True] * 4, counts=(1, 2), draws=2, seed=0), []
    assert seconds_each(timed, TASK, draws=draws, folder=tmp_path) == [60, 60, 120, 120, 240, 240]
    label_efficiency(timed, TASK, draws=draws[:2], folder=tmp_path, on_run=lambda *call: told.append(call))
    assert told == [
        ("Finds some, 1 crop, draw 1", 0, 2),
        ("Finds some, 1 crop, draw 2", 1, 2),
        ("done", 2, 2),
    ]
    assert seconds_each(timed, TASK, draws=draws, folder=tmp_path) == [0, 0, 120, 120, 240, 240]


TESTED = {"test crops": "2", "test crops corrected from a prediction": "0"}


def test_table_figure_and_sentences_are_written(tmp_path: Path) -> None:
    draws = draw_crops([True] * 4, counts=(1, 2), draws=2, seed=0)
    label_efficiency(Fits().methods, TASK, draws=draws, folder=tmp_path)
    text = (tmp_path / "label_efficiency.md").read_text()
    assert "| Finds some | 2 | 0.667 [0.667-0.667] | 0.500 [0.500-0.500] |" in text
    assert "- Finds some, cell: 4 crops reach IoU 1.000; the next 10 would add about" in text
    with (tmp_path / "label_efficiency.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert rows[2] == {"method": "some", "crops": "2", "draw": "0", "glass": "0.666667", "cell": "0.500000"} | TESTED
    assert read_curves(tmp_path, NAMES)["some"].iou[1, 0].tolist() == [0.666667, 0.5]
    with Image.open(tmp_path / "label_efficiency.png") as figure:
        assert figure.size[0] > 800


@pytest.mark.usefixtures("small_figures")
def test_corrected_test_crops_are_counted(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Corrected(Crop):
        from_prediction: bool = True

    task = Task([*TASK.crops, Corrected("b_1", "b")], NAMES, [7], {})
    draws = draw_crops([True] * 2, counts=(1,), draws=1, seed=0)
    label_efficiency(Fits().methods, task, draws=draws, folder=tmp_path)
    with (tmp_path / "label_efficiency.csv").open(encoding="utf-8-sig") as file:
        found = [(row["test crops"], row["test crops corrected from a prediction"]) for row in csv.DictReader(file)]
    assert found == [("3", "1")] * 2
    assert "1 of 3 test crops were corrected from a prediction" in (tmp_path / "label_efficiency.md").read_text()
