import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cytoseg.errors import CytosegError
from cytoseg.slides.corrupt import Scale, corrupt
from cytoseg.studies.compare import ComparedMethod, Predict, Task
from cytoseg.studies.robustness import ROBUSTNESS, CorruptedCrop, Strengths, robustness, seconds_each
from cytoseg.studies.robustness_text import Robust

pytestmark = pytest.mark.usefixtures("small_figures")
NAMES = ("glass", "cell")
SCALE = Scale(mpp=1.0, object_um=4.0)


@dataclass(frozen=True)
class Crop:
    """16x16 px: glass of value 200 with a cell of value 100 and 8x8 px in the middle."""

    crop: str
    slide: str

    def picture(self) -> NDArray[np.uint8]:
        grey = np.full((16, 16), 200, np.uint8)
        grey[self.label_map() == 1] = 100
        return np.repeat(grey[:, :, None], 3, axis=2)

    def label_map(self) -> NDArray[np.uint8]:
        ids = np.zeros((16, 16), np.uint8)
        ids[4:12, 4:12] = 1
        return ids


CROPS = (Crop("a_0", "a"), Crop("a_1", "a"), Crop("b_0", "b"))
TASK = Task(CROPS, NAMES, [7], {"device": "cpu"})


@pytest.fixture
def small_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures empty, which take a second each; tests/studies/test_robustness_figure.py draws them."""
    for name in ("draw_curves", "draw_pictures"):
        monkeypatch.setattr(f"cytoseg.studies.robustness.{name}", lambda *_a, **_k: Figure((1, 1)))


class Methods:
    """A threshold that noise and light mislead, and one that always says glass; trainings and images are counted."""

    def __init__(self, *, stop_after: int | None = None) -> None:
        self.fits: list[str] = []
        self.pictures = 0
        self.stop_after = stop_after

    def _predict(self, picture: NDArray[np.uint8], limit: int) -> NDArray[np.uint8]:
        self.pictures += 1
        if self.pictures == self.stop_after:
            raise KeyboardInterrupt
        return (picture.mean(axis=2) < limit).astype(np.uint8)

    def fit(self, key: str, limit: int) -> Predict:
        self.fits.append(key)
        return lambda picture: self._predict(picture, limit)

    def methods(self) -> list[ComparedMethod]:
        return [
            ComparedMethod("threshold", "A threshold", lambda _: self.fit("threshold", 120), {"limit": 120}),
            ComparedMethod("glass", "All | glass", lambda _: self.fit("glass", 0), {}),
        ]


def _run(folder: Path, methods: Methods, *, severities: tuple[int, ...] = (1, 5)) -> list[Robust]:
    strengths = Strengths(("brightness", "contrast"), severities, SCALE, "cell")
    return robustness(methods.methods(), TASK, strengths, folder=folder)


def test_the_share_kept_of_each_corruption_is_scored_beside_the_clean_iou(tmp_path: Path) -> None:
    threshold, glass = _run(tmp_path, Methods())
    assert [score.value for score in threshold.clean] == [1.0, 1.0]
    assert [(cell.corruption, cell.severity) for cell in threshold.cells] == [
        ("brightness", 1),
        ("brightness", 5),
        ("contrast", 1),
        ("contrast", 5),
    ]
    kept = {(cell.corruption, cell.severity): cell.kept[1] for cell in threshold.cells}
    assert kept["brightness", 1].value == 1.0  # a cell of 92 or 108, below the threshold of 120
    assert kept["contrast", 1].value == 1.0
    assert kept["contrast", 5].value == 0.0  # pulled 60 % of the way to the mean of 175, a cell has 145
    assert (glass.clean[1].value, glass.cells[0].kept[1].value) == (0.0, None)


def test_the_first_score_of_a_method_takes_its_training_too_and_a_kept_one_nothing(tmp_path: Path) -> None:
    strengths = Strengths(("brightness", "contrast"), (1, 5), SCALE, "cell")
    methods = [replace(method, about_s=70.0, scoring_s=10.0) for method in Methods().methods()]
    assert seconds_each(methods, TASK, strengths, folder=tmp_path) == [70, 10, 10, 10, 10] * 2
    robustness(methods[:1], TASK, replace(strengths, severities=(1,)), folder=tmp_path)
    assert seconds_each(methods, TASK, strengths, folder=tmp_path) == [0, 0, 70, 0, 10, 70, 10, 10, 10, 10]


def test_crops_of_a_method_see_the_same_corruption_which_differs_between_crops(tmp_path: Path) -> None:
    seen: dict[str, list[NDArray[np.uint8]]] = {"one": [], "two": []}

    def keep(key: str) -> Predict:
        def predict(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
            seen[key].append(picture)
            return np.zeros(picture.shape[:2], np.uint8)

        return predict

    methods = [ComparedMethod(key, key, lambda _, key=key: keep(key), {}) for key in seen]  # type: ignore[misc] # bound now
    robustness(methods, TASK, Strengths(("gaussian-noise",), (3,), SCALE, "cell"), folder=tmp_path)
    for one, two in zip(seen["one"], seen["two"], strict=True):
        np.testing.assert_array_equal(one, two)
    clean, noisy = seen["one"][:3], seen["one"][3:]
    np.testing.assert_array_equal(clean[0], CROPS[0].picture())
    assert not np.array_equal(noisy[0], noisy[1])


def test_an_interrupted_study_is_resumed_with_the_same_files_and_without_repetition(tmp_path: Path) -> None:
    whole = Methods()
    _run(tmp_path / "whole", whole)
    assert whole.fits == ["threshold", "glass"]
    assert whole.pictures == 2 * 5 * 3

    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path / "parted", Methods(stop_after=8))
    assert len(list((tmp_path / "parted" / "runs").iterdir())) == 2
    rest = Methods()
    _run(tmp_path / "parted", rest)
    assert rest.pictures == 30 - 6
    for name in ("robustness.json", "robustness.csv", "robustness.md", "robustness.png", "corruptions.png"):
        assert (tmp_path / "parted" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

    again = Methods()
    _run(tmp_path / "parted", again)
    assert (again.fits, again.pictures) == ([], 0)


def test_a_score_is_repeated_only_if_what_it_depends_on_has_changed(tmp_path: Path) -> None:
    _run(tmp_path, Methods())
    other = Methods()
    strengths = Strengths(("brightness", "defocus"), (1,), Scale(mpp=1.0, object_um=5.0), "cell")
    robustness(other.methods(), TASK, strengths, folder=tmp_path)
    assert other.pictures == 2 * 3  # defocus alone is new


def test_the_sentences_name_safe_and_unsafe_strengths_with_their_rule(tmp_path: Path) -> None:
    _run(tmp_path, Methods())
    record = json.loads((tmp_path / "robustness.json").read_text())
    assert record["sentences"][0] == "A threshold:"
    assert record["sentences"][-1] == (
        "Safe means that every class keeps at least 90 % of its IoU on clean crops, at the lower end of the 95 % "
        "interval over slides if there is one, there and at every milder strength tested."
    )
    assert record["sentences"][1] == (
        "Safe up to brightness changed by 8 % (not brightness changed by 40 %: cell keeps 0.33), "
        "contrast lowered by 12 % (not contrast lowered by 60 %: cell keeps 0.00)."
    )
    assert (record["mpp"], record["object"]) == (1.0, {"class": "cell", "diameter_um": 4.0})


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    found = _run(tmp_path, Methods())
    path = tmp_path / "robustness.json"
    assert ROBUSTNESS.read(path).methods == tuple(found)
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    told = r"^robustness\.json: has format 2, this version reads 1\. Run `cytoseg study robustness"
    with pytest.raises(CytosegError, match=told):
        ROBUSTNESS.read(path)


def test_the_tables_hold_every_class_severity_and_method(tmp_path: Path) -> None:
    _run(tmp_path, Methods())
    with (tmp_path / "robustness.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 5
    clean, first = rows[:2]
    assert (clean["corruption"], clean["severity"], clean["cell iou"], clean["cell kept"]) == (
        "clean",
        "0",
        "1.0",
        "1.0",
    )
    assert (first["strength"], first["cell kept"]) == ("brightness changed by 8 %", "1.0")
    text = (tmp_path / "robustness.md").read_text(encoding="utf-8")
    assert "| cell | A threshold | All &#124; glass |" in text
    assert "| contrast lowered by 60 % (5) | 0.00 (0.00-0.00) | n/a |" in text


def test_without_severities_only_the_clean_crops_are_scored(tmp_path: Path) -> None:
    found = _run(tmp_path, Methods(), severities=())
    assert ROBUSTNESS.read(tmp_path / "robustness.json").methods == tuple(found)
    assert [method.cells for method in found] == [(), ()]
    assert json.loads((tmp_path / "robustness.json").read_text())["sentences"] == []
    assert (tmp_path / "robustness.png").exists()


def test_a_corrupted_crop_keeps_id_slide_and_truth() -> None:
    crop = CorruptedCrop(CROPS[2], "stain", 3, SCALE, 5)
    assert (crop.crop, crop.slide) == ("b_0", "b")
    np.testing.assert_array_equal(crop.label_map(), CROPS[2].label_map())
    expected = corrupt(CROPS[2].picture(), "stain", 3, scale=SCALE, seed=5)
    np.testing.assert_array_equal(crop.picture(), expected)
