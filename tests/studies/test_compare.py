import csv
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from cytoseg.studies.compare import ComparedMethod, Predict, Row, Task, _draw, as_markdown, compare, seconds_each

NAMES = ("glass", "cell", "never")
TRUTH = np.array([[0, 0, 0, 1], [0, 0, 1, 1]], np.uint8)


@dataclass(frozen=True)
class Crop:
    """A test crop of 2x4 pixels: five of glass, three of cell."""

    crop: str
    slide: str

    def picture(self) -> NDArray[np.uint8]:
        return np.zeros((2, 4, 3), np.uint8)

    def label_map(self) -> NDArray[np.uint8]:
        return TRUTH


CROPS = [Crop("a_0", "a"), Crop("b_0", "b")]


class Fits:
    """Trainings that count themselves: ``all glass``, and one that is wrong in as many pixels as the seed says."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def glass(self, seed: int) -> Predict:
        self.seeds.append(seed)
        return lambda _: np.zeros((2, 4), np.uint8)

    def wrong(self, seed: int) -> Predict:
        self.seeds.append(seed)
        found = TRUTH.copy()
        found[0, :seed] = 1
        return lambda _: found


@pytest.fixture
def fits() -> Fits:
    return Fits()


@pytest.fixture
def small_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures empty, which take most of the time of a comparison."""
    monkeypatch.setattr("cytoseg.studies.compare._draw", lambda *_, **__: Figure((0.1, 0.1)))


def _compare(fits: Fits, folder: Path, seeds: tuple[int, ...] = (0, 1, 2), **changes: Any) -> list[Row]:
    glass = ComparedMethod("glass", "All glass", fits.glass, {}, seeded=False)
    wrong = ComparedMethod("wrong", "Some wrong", fits.wrong, {"steps": 5})
    task = Task(CROPS, changes.pop("classes", NAMES), seeds, changes.pop("details", {"labels": "12ab"}))
    return compare([glass, replace(wrong, **changes)], task, folder=folder)


@pytest.mark.usefixtures("small_figures")
def test_the_iou_is_pooled_over_seeds_and_spreads_between_them(fits: Fits, tmp_path: Path) -> None:
    glass, wrong = _compare(fits, tmp_path)
    assert (glass.seeds, wrong.seeds) == (1, 3)
    assert [score.value for score in glass.classes] == [5 / 8, 0, None]
    # Glass found of 5: 5, 4, 3. Cell found of 3: always 3, of 3, 4, 5 that were called cell.
    assert wrong.classes[0].value == pytest.approx(12 / 15)
    assert wrong.spread[0] == (pytest.approx(3 / 5), 1)
    assert wrong.classes[1].value == pytest.approx(9 / 12)
    assert wrong.spread[1] == (pytest.approx(3 / 5), 1)
    assert wrong.spread[2] is None
    assert wrong.classes[0].low == wrong.classes[0].high == pytest.approx(12 / 15)  # both slides are the same
    assert wrong.fit_s >= 0 < wrong.predict_s


@pytest.mark.usefixtures("small_figures")
def test_what_is_finished_is_not_done_again(fits: Fits, tmp_path: Path) -> None:
    before = _compare(fits, tmp_path, seeds=(0, 1))
    assert fits.seeds == [0, 0, 1]
    assert _compare(fits, tmp_path, seeds=(0, 1)) == before
    assert fits.seeds == [0, 0, 1]
    _compare(fits, tmp_path, seeds=(0, 1, 2))
    assert fits.seeds == [0, 0, 1, 2]
    _compare(fits, tmp_path, seeds=(0, 1), settings={"steps": 6})
    assert fits.seeds == [0, 0, 1, 2, 0, 1]
    _compare(fits, tmp_path, seeds=(0,), details={"labels": "other"})
    assert fits.seeds == [0, 0, 1, 2, 0, 1, 0, 0]
    (row, _) = _compare(fits, tmp_path, seeds=(0,), classes=(*NAMES, "new"))
    assert fits.seeds == [0, 0, 1, 2, 0, 1, 0, 0, 0, 0]
    assert len(row.classes) == 4


@pytest.mark.usefixtures("small_figures")
def test_an_interrupted_comparison_keeps_what_it_has_and_a_damaged_run_is_done_again(
    fits: Fits, tmp_path: Path
) -> None:
    def stopped(seed: int) -> Predict:
        if seed == 1:
            raise KeyboardInterrupt
        return fits.wrong(seed)

    with pytest.raises(KeyboardInterrupt):
        _compare(fits, tmp_path, fit=stopped)
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["glass-0.json", "wrong-0.json"]
    assert not (tmp_path / "compare.md").exists()
    (tmp_path / "runs" / "glass-0.json").write_text("{")
    fits.seeds.clear()
    _compare(fits, tmp_path)
    assert fits.seeds == [0, 1, 2]


ODD_COUNTS: tuple[list[Any], ...] = ([[[1]]], [[[5, 0, 0], [0, 3, 0]]], [[[-1, 0, 0], [0, 3, 0], [0, 0, 0]]])


@pytest.mark.parametrize("counts", [[], *(pytest.param(counts, marks=pytest.mark.slow) for counts in ODD_COUNTS)])
def test_a_stored_run_with_other_counts_is_done_again(fits: Fits, tmp_path: Path, counts: list[Any]) -> None:
    before = _compare(fits, tmp_path, seeds=(0,))
    path = tmp_path / "runs" / "glass-0.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"counts": counts * (len(CROPS) if counts else 1)}))
    fits.seeds.clear()
    (again, _), (first, _) = _compare(fits, tmp_path, seeds=(0,)), before
    assert fits.seeds == [0]
    assert again.classes == first.classes


def test_writes_a_table_for_people_one_for_programs_and_a_figure(fits: Fits, tmp_path: Path) -> None:
    rows = _compare(fits, tmp_path)
    text = (tmp_path / "compare.md").read_text()
    assert text == as_markdown(rows, NAMES)
    assert [line.split(" | ")[0] for line in text.splitlines()[2:4]] == ["| Some wrong", "| All glass"]  # best first
    assert "| All glass | 0.625 (0.625-0.625) | 0.000 (0.000-0.000) | n/a | 1 |" in text
    assert "| Some wrong | 0.800 (0.800-0.800) [0.600-1.000] |" in text
    with (tmp_path / "compare.csv").open(encoding="utf-8-sig") as file:
        glass, wrong = csv.DictReader(file)
    assert (glass["glass iou"], glass["never iou"], glass["seeds"]) == ("0.625", "", "1")
    assert float(wrong["cell least"]) == pytest.approx(0.6)
    with Image.open(tmp_path / "compare.png") as figure:
        assert figure.size[0] > 1000
    run = json.loads((tmp_path / "runs" / "wrong-2.json").read_text())
    assert run["counts"] == [[[3, 2, 0], [0, 3, 0], [0, 0, 0]]] * 2


@pytest.mark.usefixtures("small_figures")
def test_one_test_slide_has_no_interval_but_seeds_still_spread(
    fits: Fits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.CROPS", CROPS[:1])
    _compare(fits, tmp_path)
    assert "| Some wrong | 0.800 [0.600-1.000] |" in (tmp_path / "compare.md").read_text()


@pytest.mark.slow
def test_names_that_mean_something_to_others_are_plain_text(fits: Fits, tmp_path: Path) -> None:
    names = ("a|b", "a$_$b", *(f"class {i}" for i in range(8)))  # ten: more than fit side by side
    _compare(fits, tmp_path, classes=names)
    header = (tmp_path / "compare.md").read_text().splitlines()[0]
    assert header.startswith("| method | IoU a&#124;b | IoU a$_$b |")
    with Image.open(tmp_path / "compare.png") as figure:
        assert figure.size == ((3 * 6 + 3) * 120, round(2 * (0.4 * 2 + 1.2) * 120))


@pytest.mark.usefixtures("small_figures")
def test_loading_the_pictures_is_no_time_of_the_method(
    fits: Fits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(_: Crop) -> NDArray[np.uint8]:
        time.sleep(0.2)
        return np.zeros((2, 4, 3), np.uint8)

    monkeypatch.setattr(Crop, "picture", slow)
    (row, _) = _compare(fits, tmp_path, seeds=(0,))
    assert row.predict_s < 0.1


@pytest.mark.usefixtures("small_figures")
def test_without_a_measure_of_memory_the_table_says_so(fits: Fits, tmp_path: Path) -> None:
    (row, _) = _compare(fits, tmp_path)
    assert as_markdown([replace(row, memory_mb=None)], NAMES).splitlines()[2].endswith("| n/a |")
    assert as_markdown([replace(row, memory_mb=512.0)], NAMES).splitlines()[2].endswith("| 512 |")


def test_what_is_odd_about_the_test_crops_stands_under_the_table() -> None:
    assert as_markdown([], NAMES, note="1 of 3 test crops flatter.").endswith("\n\n1 of 3 test crops flatter.\n")
    assert "flatter" not in as_markdown([], NAMES)


@pytest.mark.usefixtures("small_figures")
def test_trainings_that_are_kept_take_no_time(fits: Fits, tmp_path: Path) -> None:
    glass = ComparedMethod("glass", "All glass", fits.glass, {}, seeded=False, about_s=1.0)
    wrong = ComparedMethod("wrong", "Some wrong", fits.wrong, {}, about_s=60.0)
    task = Task(CROPS, NAMES, (0, 1, 2), {})
    assert seconds_each([glass, wrong], task, tmp_path) == [1, 60, 60, 60]
    compare([wrong], replace(task, seeds=(1,)), folder=tmp_path)
    assert seconds_each([glass, wrong], task, tmp_path) == [1, 60, 0, 60]
    assert seconds_each([glass, replace(wrong, settings={"steps": 9})], task, tmp_path) == [1, 60, 60, 60]


@pytest.mark.usefixtures("small_figures")
def test_corrected_test_crops_are_counted_in_every_table(fits: Fits, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Corrected(Crop):
        from_prediction: bool = True

    task = Task([*CROPS, Corrected("b_1", "b")], NAMES, (0,), {})
    compare([ComparedMethod("glass", "All glass", fits.glass, {})], task, folder=tmp_path)
    with (tmp_path / "compare.csv").open(encoding="utf-8-sig") as file:
        (row,) = csv.DictReader(file)
    assert (row["test crops"], row["test crops corrected from a prediction"]) == ("3", "1")
    text = (tmp_path / "compare.md").read_text()
    assert "1 of 3 test crops were corrected from a prediction" in text
    assert "labels.score_corrected=false" in text


def test_corrected_test_crops_are_counted_in_the_figure() -> None:
    shown = [str(text.get_text()) for text in _draw([], NAMES, note="1 of 3 test crops were corrected: so.").texts]
    assert shown == ["1 of 3 test crops were corrected"]


@pytest.mark.usefixtures("small_figures")
def test_a_remark_stands_below_the_table(fits: Fits, tmp_path: Path) -> None:
    task = Task(CROPS, NAMES, (0,), {}, remark="The network has seen a_0.")
    compare([ComparedMethod("glass", "All glass", fits.glass, {})], task, folder=tmp_path)
    assert (tmp_path / "compare.md").read_text().endswith("\n\nThe network has seen a_0.\n")
