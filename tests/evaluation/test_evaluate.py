import csv
import errno
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.errors import PredictionError
from cytoseg.evaluation.crop_pictures import CropMaps, write_crop_pictures
from cytoseg.evaluation.evaluate import CropPrediction, Method, Scoring, evaluate
from cytoseg.evaluation.results_file import EvaluationInputs, read_evaluation
from cytoseg.evaluation.tables import evaluation_table
from cytoseg.metrics.results import ObjectScores, Score, corrected_text, score_rows
from cytoseg.objects.settings import ObjectSettings

CLASSES = ClassList(("glass", "cell", "nucleus"), ((240, 240, 240), (80, 180, 230), (210, 90, 0)), "glass")
LEFT_HALF = np.repeat([[1, 1, 0, 0]], 4, axis=0).astype(np.uint8)
INPUTS = EvaluationInputs(recipe="tiny", train_crops=5)
SCORING = Scoring(CLASSES, seed=0)


@dataclass(frozen=True)
class Crop:
    crop: str
    slide: str
    truth: NDArray[np.uint8]
    from_prediction: bool = False

    def picture(self) -> NDArray[np.uint8]:
        return np.repeat(self.truth[..., None] % 3 * 100, 3, axis=2).astype(np.uint8)

    def label_map(self) -> NDArray[np.uint8]:
        return self.truth


def _half(picture: NDArray[np.uint8]) -> CropPrediction:
    disagreement = np.zeros((4, 4), np.float32)
    disagreement[0, :3] = 2 * math.log(2), math.log(2) / 5, 0.1
    # Sure of the upper half, less so of the lower one.
    sure = np.repeat(np.array([[0.9], [0.9], [0.6], [0.6]], np.float32), 4, axis=1)
    probabilities = [np.where(k == LEFT_HALF, sure, (1 - sure) / 2) for k in range(len(CLASSES))]
    return CropPrediction(LEFT_HALF, disagreement, np.stack(probabilities))


def _glass(picture: NDArray[np.uint8]) -> CropPrediction:
    return CropPrediction(np.zeros((4, 4), np.uint8))


METHODS = (Method("ensemble", "Ensemble", _half, 12.5), Method("commonest", "Always glass", _glass, None))


@pytest.fixture
def crops() -> list[Crop]:
    """Slide b has a crop that is all cell; slide a one like the prediction and one with its upper half ignored."""
    partly = LEFT_HALF.copy()
    partly[:2] = 255
    all_cell = np.ones((4, 4), np.uint8)
    return [Crop("b1", "b", all_cell), Crop("a1", "a", LEFT_HALF), Crop("a2", "a", partly)]


@pytest.fixture
def evaluated(tmp_path: Path, crops: list[Crop]) -> dict[str, Any]:
    return evaluate(METHODS, crops, folder=tmp_path / "evaluation", scoring=SCORING, inputs=INPUTS)


def test_scores_in_the_file_and_returned_are_the_same(tmp_path: Path, evaluated: dict[str, Any]) -> None:
    assert json.loads((tmp_path / "evaluation" / "evaluation.json").read_text()) == evaluated
    assert evaluated["format"] == 1
    assert {key: evaluated[key] for key in ("recipe", "train_crops", "test_crops", "test_slides")} == {
        "recipe": "tiny",
        "train_crops": 5,
        "test_crops": 3,
        "test_slides": 2,
    }
    assert evaluated["classes"][1] == {"name": "cell", "colour": [80, 180, 230]}


def test_scores_of_a_method_are_pooled(evaluated: dict[str, Any]) -> None:
    ensemble = evaluated["methods"][0]
    # Of 8 + 4 glass pixels all are found and 8 more are claimed; 8 + 8 + 4 cell pixels hold 12 that are found.
    assert ensemble["confusion"] == [[12, 0, 0], [8, 20, 0], [0, 0, 0]]
    glass, cell, nucleus = ensemble["classes"]
    assert (glass["iou"], cell["iou"], nucleus["iou"]) == (12 / 20, 20 / 28, None)
    assert (cell["dice"], cell["precision"], cell["recall"], cell["pixels"]) == (40 / 48, 1, 20 / 28, 28)
    assert (nucleus["dice"], nucleus["precision"], nucleus["iou_low"], nucleus["pixels"]) == (None, None, None, 0)
    assert ensemble["miou"] == pytest.approx((12 / 20 + 20 / 28) / 2)
    assert cell["iou_low"] == 1 / 2
    assert cell["iou_high"] == 1
    # The ignored half is predicted as four pixels of glass and four of cell, and there is no nucleus.
    assert ensemble["reference_miou"] == pytest.approx((12 / 24 + 20 / 32 + 0) / 3)
    assert ensemble["seconds"]["train"] == 12.5
    assert ensemble["seconds"]["predict"] >= 0


def test_scores_by_slide_and_by_crop(evaluated: dict[str, Any]) -> None:
    first, second = evaluated["methods"][0]["slides"]
    assert first == {"slide": "a", "crops": 2, "miou": 1, "iou": [1, 1, None]}
    assert second == {"slide": "b", "crops": 1, "miou": 1 / 4, "iou": [0, 1 / 2, None]}
    assert [crop["crop"] for crop in evaluated["crops"]] == ["b1", "a1", "a2"]
    assert evaluated["crops"][0]["iou"] == [0, 1 / 2, None]
    assert evaluated["crops"][0]["folder"] == "crops/b1"


def test_disagreement_of_a_crop_is_the_mean_of_its_highest_tenth(evaluated: dict[str, Any]) -> None:
    # A tenth of 16 pixels is 2 pixels.
    assert evaluated["crops"][0]["disagreement"] == pytest.approx((2 + 1 / 5) * math.log(2) / 2)


def test_calibration_is_that_of_the_labelled_pixels_of_all_crops(evaluated: dict[str, Any]) -> None:
    ensemble, glass = (method["calibration"] for method in evaluated["methods"])
    assert glass is None
    # With 0.9 are 8 + 8 pixels, of which 4 + 8 are right; with 0.6 8 + 8 + 8, of which 4 + 8 + 8 are.
    assert ensemble["ece"] == pytest.approx((16 * 0.9 - 12 + 20 - 24 * 0.6) / 40)
    used = [interval for interval in ensemble["bins"] if interval["pixels"]]
    assert used == [
        {"pixels": 24, "confidence": pytest.approx(0.6), "right": 20 / 24},
        {"pixels": 16, "confidence": pytest.approx(0.9), "right": 12 / 16},
    ]
    assert ensemble["bins"][0] == {"pixels": 0, "confidence": None, "right": None}


def test_calibration_of_a_class_is_that_of_the_pixels_predicted_as_it(evaluated: dict[str, Any]) -> None:
    glass, cell, nucleus = evaluated["methods"][0]["calibration"]["classes"]
    # Glass: with 0.9 are 4 + 4 pixels, of which 4 are right; with 0.6 4 + 4 + 4, of which 8 are. Cell: all are right.
    assert glass == pytest.approx((8 * 0.9 - 4 + 8 - 12 * 0.6) / 20)
    assert cell == pytest.approx((8 * 0.1 + 12 * 0.4) / 20)
    assert nucleus is None


def test_uncertainty_is_scored_on_the_labelled_pixels_of_all_crops(evaluated: dict[str, Any]) -> None:
    disagreement, probability = evaluated["methods"][0]["uncertainty"]
    assert evaluated["methods"][1]["uncertainty"] == []
    assert (disagreement["measure"], probability["measure"]) == ("disagreement", "probability")
    # 16 pixels with 0.9, 4 of them wrong, then 24 with 0.6, 4 of them wrong, in the mean over all orders of equals.
    whole = probability["whole"]
    errors = [min(i, 16) * 4 / 16 + max(i - 16, 0) * 4 / 24 for i in range(1, 41)]
    assert (whole["pixels"], whole["error"]) == (40, 8 / 40)
    assert whole["aurc"] == pytest.approx(sum(error / i for i, error in enumerate(errors, 1)) / 40)
    assert whole["found"] == pytest.approx(2 * (4 / 24) / 8)
    assert probability["curve"][9] == pytest.approx((4 + 4 * 4 / 24) / 20)
    assert [entry["pixels"] for entry in probability["classes"]] == [20, 20, 0]
    assert [entry["error"] for entry in probability["classes"]] == [8 / 20, 0, None]
    # Nobody disagrees but about three pixels of the first row, the third of which is glass: wrong in one of two crops.
    assert [entry["error"] for entry in disagreement["classes"]] == [8 / 20, 0, None]
    assert disagreement["classes"][0]["found"] == pytest.approx(0.5 / 8)


def test_objects_are_matched_over_all_crops(tmp_path: Path, crops: list[Crop]) -> None:
    settings = ObjectSettings(("cell",), (), 1, "nucleus", "cytoplasm")
    evaluated = evaluate(
        METHODS, crops, folder=tmp_path / "evaluation", scoring=replace(SCORING, objects=settings), inputs=INPUTS
    )
    # The left half is the whole truth, what is labelled of it, and half of the truth: 8 + 4 + 8 of 8 + 4 + 16 pixels.
    ensemble, glass = (method["objects"]["cell"] for method in evaluated["methods"])
    assert (ensemble["truth"], ensemble["predicted"], ensemble["matched"]) == (3, 3, 3)
    assert ensemble["aji"] == pytest.approx(20 / 28)
    assert ensemble["pq"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert (glass["truth"], glass["predicted"], glass["recall"], glass["precision"]) == (3, 0, 0, None)
    found = read_evaluation(tmp_path)
    assert found is not None
    assert found.methods[0].objects == {"cell": ObjectScores(**ensemble)}
    rows = list(csv.reader((tmp_path / "evaluation" / "objects.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert rows[0][:5] == ["method", "class", "truth", "predicted", "matched"]
    assert rows[2] == ["commonest", "cell", "3", "0", "0", "", "0.0", "0.0", "0.0", "0.0", "", "0.0"]


def test_without_settings_no_objects_are_matched(tmp_path: Path, evaluated: dict[str, Any]) -> None:
    assert [method["objects"] for method in evaluated["methods"]] == [{}, {}]
    assert (tmp_path / "evaluation" / "objects.csv").read_text().count("\n") == 1


def test_the_reports_read_what_is_written(tmp_path: Path, evaluated: dict[str, Any]) -> None:
    found = read_evaluation(tmp_path)
    assert found is not None
    assert found.methods[1].train_s is None
    assert found.methods[0].ece == pytest.approx(0.2)
    assert found.methods[1].ece is None
    assert found.methods[0].classes[1].iou == Score(20 / 28, 1 / 2, 1)
    ensemble, glass = score_rows(found)
    table = evaluation_table(evaluated)
    assert table[1] == [ensemble[0], *ensemble[2:], ensemble[1]]
    assert table[2] == [glass[0], *glass[2:], glass[1]]


def test_table_to_print(evaluated: dict[str, Any]) -> None:
    header, ensemble, _ = evaluation_table(evaluated)
    assert header == ["method", "IoU glass", "IoU cell", "IoU nucleus", "mIoU"]
    assert ensemble == ["Ensemble", "0.60 (0.00-1.00)", "0.71 (0.50-1.00)", "n/a", "0.66 (0.25-1.00)"]


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.reader(file))


def test_names_in_tables_begin_no_formula(tmp_path: Path, crops: list[Crop]) -> None:
    classes = replace(CLASSES, names=("glass", "=1+1", "@x"))
    named = [replace(crop, slide=f"-{crop.slide}") for crop in crops]
    evaluate(METHODS, named, folder=tmp_path / "e", scoring=replace(SCORING, classes=classes), inputs=INPUTS)
    tables = sorted((tmp_path / "e").glob("*.csv"))
    assert [path.stem for path in tables] == ["confusion", "objects", "per_class", "per_slide"]
    assert {row[1] for row in _rows(tmp_path / "e" / "per_class.csv")} == {"class", "glass", "'=1+1", "'@x"}
    assert {row[1] for row in _rows(tmp_path / "e" / "per_slide.csv")} == {"slide", "'-a", "'-b"}
    for path in tables:
        assert path.read_bytes().startswith(b"\xef\xbb\xbf")


def test_tables(tmp_path: Path, evaluated: dict[str, Any]) -> None:
    folder = tmp_path / "evaluation"
    per_class = _rows(folder / "per_class.csv")
    assert ",".join(per_class[0]) == "method,class,iou,iou_low,iou_high,dice,precision,recall,pixels"
    assert per_class[1][:3] == ["ensemble", "glass", "0.6"]
    assert per_class[3] == ["ensemble", "nucleus", "", "", "", "", "", "", "0"]
    assert len(per_class) == 1 + 2 * 3
    assert _rows(folder / "per_slide.csv")[:3] == [
        ["method", "slide", "crops", "miou", "iou glass", "iou cell", "iou nucleus"],
        ["ensemble", "a", "2", "1.0", "1.0", "1.0", ""],
        ["ensemble", "b", "1", "0.25", "0.0", "0.5", ""],
    ]
    assert _rows(folder / "confusion.csv")[:3] == [
        ["method", "truth", "predicted glass", "predicted cell", "predicted nucleus"],
        ["ensemble", "glass", "12", "0", "0"],
        ["ensemble", "cell", "8", "20", "0"],
    ]


def test_pictures_of_a_crop(tmp_path: Path, crops: list[Crop], evaluated: dict[str, Any]) -> None:
    folder = tmp_path / "evaluation" / "crops" / "a2"
    maps = {name: np.array(Image.open(folder / f"{name}.png")) for name in ("image", "truth", "prediction")}
    np.testing.assert_array_equal(maps["image"], crops[2].picture())
    np.testing.assert_array_equal(maps["truth"], crops[2].truth)
    np.testing.assert_array_equal(maps["prediction"], LEFT_HALF)
    # Twice log 2 saturates; a fifth of it is 51.
    disagreement = np.array(Image.open(folder / "disagreement.png"))
    assert disagreement[0].tolist() == [255, 51, 37, 0]
    assert disagreement.dtype == np.uint8


def test_overlay_shows_four_panels_in_their_colours(tmp_path: Path, evaluated: dict[str, Any]) -> None:
    sheet = np.array(Image.open(tmp_path / "evaluation" / "crops" / "b1" / "overlay.png"))
    # Each pixel of a 4x4 crop is enlarged to 96x96; panels are 384 wide with gaps of 8, below a caption of 22.
    assert sheet.shape == (22 + 384 + 8 + 22, 4 * 392 + 8, 3)
    row = sheet[22 + 48]
    assert [row[8 + i * 392 + 48].tolist() for i in range(3)] == [[100] * 3, [80, 180, 230], [80, 180, 230]]
    assert row[8 + 2 * 392 + 380].tolist() == [240, 240, 240]
    assert row[8 + 3 * 392 + 48].tolist() == [252, 255, 164]
    assert row[8 + 3 * 392 + 380].tolist() == [12, 8, 38]


def test_little_disagreement_is_seen_in_the_overlay(tmp_path: Path) -> None:
    nats = np.zeros((4, 4), np.float32)
    nats[:, 1:] = 0.1
    maps = CropMaps(np.full((4, 4, 3), 100, np.uint8), LEFT_HALF, LEFT_HALF, nats)
    write_crop_pictures(tmp_path / "crop", maps, CLASSES)
    row = np.array(Image.open(tmp_path / "crop" / "overlay.png"))[22 + 48]
    assert row[8 + 3 * 392 + 48].tolist() == [12, 8, 38]
    assert row[8 + 3 * 392 + 380].tolist() == [252, 255, 164]
    # The file keeps the scale that the app reads: .1 of log 2 is 37 of 255.
    assert np.array(Image.open(tmp_path / "crop" / "disagreement.png"))[0].tolist() == [0, 37, 37, 37]


def test_ignore_is_hatched_in_the_overlay(tmp_path: Path, evaluated: dict[str, Any]) -> None:
    sheet = np.array(Image.open(tmp_path / "evaluation" / "crops" / "a2" / "overlay.png"))
    truth = sheet[22 : 22 + 192, 400 : 400 + 384].reshape(-1, 3)
    assert {tuple(colour) for colour in np.unique(truth, axis=0).tolist()} == {(255, 255, 255), (150, 150, 150)}


def test_first_method_without_disagreement(tmp_path: Path, crops: list[Crop]) -> None:
    found = evaluate(METHODS[1:], crops, folder=tmp_path / "evaluation", scoring=SCORING, inputs=INPUTS)
    assert [crop["disagreement"] for crop in found["crops"]] == [None] * 3
    folder = tmp_path / "evaluation" / "crops" / "a1"
    assert not np.array(Image.open(folder / "disagreement.png")).any()
    assert np.array(Image.open(folder / "overlay.png"))[100, 3 * 392 + 100].tolist() == [150, 150, 150]
    assert read_evaluation(tmp_path) is not None


def test_tells_how_many_crops_are_done(tmp_path: Path, crops: list[Crop]) -> None:
    told: list[tuple[int, int]] = []
    evaluate(
        METHODS,
        crops,
        folder=tmp_path / "evaluation",
        scoring=SCORING,
        inputs=INPUTS,
        on_crop=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_second_evaluation_takes_the_place_of_the_first(
    tmp_path: Path, crops: list[Crop], evaluated: dict[str, Any]
) -> None:
    evaluate(METHODS, crops[:1], folder=tmp_path / "evaluation", scoring=SCORING, inputs=INPUTS)
    assert [path.name for path in (tmp_path / "evaluation" / "crops").iterdir()] == ["b1"]
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation"]


def _full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _fail_at_second_crop(error: BaseException) -> Callable[[int, int], None]:
    def on_crop(done: int, total: int) -> None:
        if done == 2:
            raise error

    return on_crop


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("bug")])
def test_old_results_stay_when_it_is_cut_short(
    tmp_path: Path, crops: list[Crop], evaluated: dict[str, Any], error: BaseException
) -> None:
    with pytest.raises(type(error)):
        evaluate(
            METHODS,
            crops[:2],
            folder=tmp_path / "evaluation",
            scoring=SCORING,
            inputs=INPUTS,
            on_crop=_fail_at_second_crop(error),
        )
    assert json.loads((tmp_path / "evaluation" / "evaluation.json").read_text()) == evaluated
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation"]


def test_full_disk(tmp_path: Path, crops: list[Crop], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "save", _full_disk)
    with pytest.raises(
        PredictionError, match=r"evaluation: cannot be written \(No space left on device\); the previous content"
    ):
        evaluate(METHODS, crops, folder=tmp_path / "evaluation", scoring=SCORING, inputs=INPUTS)
    assert not list(tmp_path.iterdir())


def test_old_results_come_back_when_the_new_ones_cannot_be_moved(
    tmp_path: Path, crops: list[Crop], evaluated: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def refuse_new(source: Path, target: Path) -> None:
        if source.name == "new":
            _full_disk()
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse_new)
    with pytest.raises(PredictionError, match="cannot be written"):
        evaluate(METHODS, crops[:1], folder=tmp_path / "evaluation", scoring=SCORING, inputs=INPUTS)
    assert json.loads((tmp_path / "evaluation" / "evaluation.json").read_text()) == evaluated


def test_refuses_an_evaluation_without_crops(tmp_path: Path) -> None:
    with pytest.raises(PredictionError, match="no test crops"):
        evaluate(METHODS, [], folder=tmp_path / "evaluation", scoring=SCORING, inputs=INPUTS)
    assert not list(tmp_path.iterdir())


def test_a_prediction_that_is_not_finite_is_refused_and_old_results_stay(tmp_path: Path, crops: list[Crop]) -> None:
    def damaged(picture: NDArray[np.uint8]) -> CropPrediction:
        return CropPrediction(LEFT_HALF, np.full((4, 4), np.nan, np.float32))

    folder = tmp_path / "evaluation"
    evaluate(METHODS, crops, folder=folder, scoring=SCORING, inputs=INPUTS)
    before = (folder / "evaluation.json").read_bytes()
    method = Method("ensemble", "Ensemble", damaged, 1.0)
    with pytest.raises(PredictionError, match="b1: the prediction contains NaN or infinite values"):
        evaluate([method], crops, folder=folder, scoring=SCORING, inputs=INPUTS)
    assert (folder / "evaluation.json").read_bytes() == before


def test_without_a_labelled_pixel_nothing_is_scored(tmp_path: Path) -> None:
    unlabelled = Crop("a1", "a", np.full((4, 4), 255, np.uint8))
    scoring = replace(SCORING, objects=ObjectSettings(classes=("cell",), split=(), least_px=1))
    found = evaluate(METHODS, [unlabelled], folder=tmp_path / "evaluation", scoring=scoring, inputs=INPUTS)
    ensemble = found["methods"][0]
    assert (ensemble["miou"], ensemble["calibration"]["ece"], ensemble["uncertainty"][0]["whole"]["aurc"]) == (
        None,
    ) * 3
    assert ensemble["objects"]["cell"]["f1"] is None
    assert evaluation_table(found)[1] == ["Ensemble", *["n/a"] * 4]


def test_crops_corrected_from_a_prediction_are_marked_in_every_table(tmp_path: Path, crops: list[Crop]) -> None:
    flattering = [replace(crop, from_prediction=number == 0) for number, crop in enumerate(crops)]
    evaluate(METHODS, flattering, folder=tmp_path / "evaluation", scoring=SCORING, inputs=INPUTS)
    found = read_evaluation(tmp_path)
    assert found is not None
    assert [crop.from_prediction for crop in found.crops] == [True, *[False] * (len(crops) - 1)]
    assert found.corrected == 1
    assert corrected_text(found.corrected, found.test_crops).startswith(f"1 of {len(crops)} test crops were corrected")
    for path in sorted((tmp_path / "evaluation").glob("*.csv")):
        head, *rows = _rows(path)
        assert head[-1] == "crops corrected from a prediction"
        own = (
            ["1" if row[1] == crops[0].slide else "0" for row in rows]
            if path.stem == "per_slide"
            else ["1"] * len(rows)
        )
        assert [row[-1] for row in rows] == own


def test_corrected_crops_are_counted_for_each_stain(tmp_path: Path, crops: list[Crop]) -> None:
    flattering = [replace(crop, from_prediction=number == 0) for number, crop in enumerate(crops)]
    scoring = replace(SCORING, stains={"a": "Giemsa", "b": "Pap"})
    evaluate(METHODS[:1], flattering, folder=tmp_path / "evaluation", scoring=scoring, inputs=INPUTS)
    _, *rows = _rows(tmp_path / "evaluation" / "per_stain.csv")
    assert [(row[1], row[-1]) for row in rows] == [("Giemsa", "0")] * 3 + [("Pap", "1")] * 3
