"""The whole job from slides to report by the real commands, with recounted numbers."""

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image
from ruamel.yaml import YAML
from typer.testing import Result

from cytoseg.interpreter.bundle import bundle_hashes, load_bundle
from cytoseg.maps.map_file import MapFile
from cytoseg.slides.open import open_slide
from tests.end_to_end.conftest import cut_labels

IGNORE = 255
LABELLED = 64 * 64  # pixels of a labelled crop
MadeRun = tuple[Path, dict[str, Result]]


@pytest.fixture(scope="session")
def run(made_run: MadeRun) -> Path:
    return made_run[0] / "runs" / "tiny"


@pytest.fixture(scope="session")
def evaluation(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "evaluation" / "evaluation.json").read_text())
    return content


def read_png(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.array(image)


def count(folder: Path) -> NDArray[np.int64]:
    """Confusion of one crop, rows truth, columns prediction, the slow and obvious way."""
    truth, prediction = read_png(folder / "truth.png"), read_png(folder / "prediction.png")
    return np.array([[int(((truth == t) & (prediction == p)).sum()) for p in range(3)] for t in range(3)])


def iou(counts: NDArray[np.int64], k: int) -> float:
    return float(counts[k, k] / (counts[k].sum() + counts[:, k].sum() - counts[k, k]))


def test_training_saw_all_crops_and_left_checkpoints_log_and_pictures(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "ddpm" / "metrics.jsonl").read_text().splitlines()]
    assert [row["crops_seen"] for row in rows] == [8, 16, 24]
    assert all(0 < row["loss"] < 5 for row in rows)
    assert sorted(p.name for p in (run / "ddpm").glob("checkpoint-*")) == [f"checkpoint-0000000{n}" for n in (16, 24)]
    assert read_png(run / "ddpm" / "samples.png").shape == (32, 66, 3)  # two of 32 px, 2 px apart
    assert read_png(run / "ddpm" / "loss.png").shape[:2] == (480, 1440)
    # Six crops, each noisy and denoised at two timesteps and as it is.
    assert read_png(run / "ddpm" / "denoised.png").shape == (6 * 34 - 2, 5 * 34 - 2, 3)


def test_labels_are_those_of_the_made_slides(made_run: MadeRun, run: Path) -> None:
    index = json.loads((run / "labels" / "index.json").read_text())
    assert [entry["slide"] for entry in index["crops"]] == [f"made_2_{n:02d}" for n in (0, 0, 1, 1, 2, 2)]
    for entry in index["crops"]:
        *_, x, y = entry["crop"].split("_")
        exact = tifffile.imread(made_run[0] / "made" / "slides" / f"{entry['slide']}.labels.ome.tif")
        exact = exact[int(y) : int(y) + 64, int(x) : int(x) + 64]
        imported = read_png(run / "labels" / "maps" / f"{entry['crop']}.png")
        # The annotations are traced so that they give the map back exactly.
        np.testing.assert_array_equal(imported, exact)
        assert sum(entry["pixels"].values()) + entry["ignored"] == LABELLED


def test_label_crops_are_cut_from_where_the_sidecar_says(made_run: MadeRun, run: Path) -> None:
    folder = run / "to_label"
    assert (folder / "labels.txt").read_text().split() == ["__ignore__", "background", "cytoplasm", "nucleus"]
    sidecars = sorted(folder.glob("*.crop.json"))
    assert len(sidecars) == 2
    for path in sidecars:
        said = json.loads(path.read_text())
        x, y, width, height = said["region"]
        slide = tifffile.imread(made_run[0] / "made" / "slides" / f"{said['slide']}.ome.tif")
        with Image.open(path.with_name(path.name.replace(".crop.json", ".png"))) as crop:
            np.testing.assert_array_equal(np.array(crop), slide[y : y + height, x : x + width])


def test_train_and_test_share_no_slide(run: Path, evaluation: dict[str, Any]) -> None:
    bundle = json.loads((run / "interpreter" / "bundle" / "state.json").read_text())
    trained = {crop.rsplit("_", 2)[0] for crop in bundle["origin"]["labels"]}
    tested = {crop["slide"] for crop in evaluation["crops"]}
    assert trained == {"made_2_02"}
    assert tested == {"made_2_00", "made_2_01"}
    assert (evaluation["train_crops"], evaluation["test_crops"], evaluation["test_slides"]) == (2, 4, 2)


def test_scores_are_those_of_the_written_maps(run: Path, evaluation: dict[str, Any]) -> None:
    per_crop = {crop["crop"]: count(run / "evaluation" / crop["folder"]) for crop in evaluation["crops"]}
    pooled = np.sum(list(per_crop.values()), axis=0)
    ensemble = evaluation["methods"][0]
    assert ensemble["confusion"] == pooled.tolist()
    for k, entry in enumerate(ensemble["classes"]):
        assert entry["iou"] == pytest.approx(iou(pooled, k))
        assert entry["iou_low"] <= entry["iou"] <= entry["iou_high"]  # two slides: the draws span both
        assert entry["pixels"] == pooled[k].sum()
    assert ensemble["miou"] == pytest.approx(np.mean([iou(pooled, k) for k in range(3)]))
    for crop in evaluation["crops"]:
        known = [k for k in range(3) if crop["iou"][k] is not None]
        assert [crop["iou"][k] for k in known] == pytest.approx([iou(per_crop[crop["crop"]], k) for k in known])


def test_every_method_is_scored_on_every_labelled_pixel(run: Path, evaluation: dict[str, Any]) -> None:
    truths = [read_png(path) for path in sorted((run / "evaluation" / "crops").glob("*/truth.png"))]
    scored = sum(int((truth != IGNORE).sum()) for truth in truths)
    assert [method["key"] for method in evaluation["methods"]] == ["ensemble", "forest", "commonest"]
    for method in evaluation["methods"]:
        assert np.sum(method["confusion"]) == scored
    forest, commonest = evaluation["methods"][1:]
    assert np.count_nonzero(np.sum(commonest["confusion"], axis=0)) == 1  # it always says the same
    assert np.count_nonzero(np.sum(forest["confusion"], axis=0)) > 1
    assert forest["seconds"]["train"] > 0
    assert commonest["seconds"]["train"] is None


def test_tables_hold_the_same_numbers(run: Path, evaluation: dict[str, Any]) -> None:
    with (run / "evaluation" / "per_class.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = {(row["method"], row["class"]): row for row in csv.DictReader(file)}
    assert len(rows) == 9
    for method in evaluation["methods"]:
        for entry in method["classes"]:
            assert float(rows[method["key"], entry["name"]]["iou"]) == pytest.approx(entry["iou"])


def test_the_class_map_has_the_slides_size_and_scale(made_run: MadeRun, run: Path) -> None:
    folder = run / "predictions" / "made_2_00"
    with tifffile.TiffFile(folder / "class_map.ome.tif") as tif:
        ids = tif.series[0].levels[0].asarray()
        assert tif.pages[0].is_tiled
    assert (ids.shape, ids.dtype) == ((256, 256), np.dtype(np.uint8))
    assert set(np.unique(ids)) <= {0, 1, 2}
    with open_slide(folder / "class_map.ome.tif") as opened:
        assert opened.mpp == pytest.approx(0.5)
    greys = tifffile.imread(folder / "uncertainty.ome.tif")
    assert (greys.shape, greys.dtype, greys.max()) == ((256, 256), np.dtype(np.uint8), 255)
    with MapFile(folder / "uncertainty.ome.tif") as uncertainty:
        nats = uncertainty.read(0, 0, width=256, height=256)
    assert nats.max() <= np.log(2) + 1e-6  # two members can disagree by log 2
    np.testing.assert_allclose(nats, greys * (nats.max() / 255), rtol=0, atol=1e-6)
    summary = json.loads((folder / "summary.json").read_text())
    assert [entry["pixels"] for entry in summary["classes"].values()] == [int((ids == k).sum()) for k in range(3)]
    assert summary["classes"]["nucleus"]["area_um2"] == pytest.approx((ids == 2).sum() * 0.25)


def test_a_prediction_says_what_it_was_made_of(made_run: MadeRun, run: Path) -> None:
    """Every hash is that of the file that lies there."""

    def sha256(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    slide, interpreter = made_run[0] / "made" / "slides" / "made_2_00.ome.tif", run / "interpreter" / "bundle"
    summary = json.loads((run / "predictions" / "made_2_00" / "summary.json").read_text())
    origin, provenance = summary["bundle"], summary["provenance"]
    assert (summary["slide_path"], summary["slide_sha256"]) == (str(slide.resolve()), sha256(slide))
    assert (provenance["slide_bytes"], provenance["slide_changed"]) == (
        slide.stat().st_size,
        int(slide.stat().st_mtime),
    )
    weights = {name: sha256(interpreter / f"{name}.safetensors") for name in ("backbone", "ensemble")}
    assert provenance["bundle"]["sha256"] == weights
    checkpoint = run / "ddpm" / "checkpoint-000000024" / "ema.safetensors"
    assert origin["backbone"] == {"crops_seen": 24, "sha256": sha256(checkpoint)}
    maps = (run / "labels" / "maps").glob("made_2_02_*.png")  # of the slide that is not kept for testing
    assert origin["labels"] == {path.stem: sha256(path) for path in maps}
    assert len(origin["labels"]) == 2
    recipe = YAML(typ="safe").load(made_run[0] / "tiny.yaml")
    assert origin["recipe"] == recipe["name"]
    assert {key: provenance["predict"][key] for key in recipe["predict"]} == recipe["predict"]
    assert provenance["bundle"]["mpp"] == recipe["slides"]["mpp"]
    assert {key: origin["interpreter"][key] for key in recipe["interpreter"]} == recipe["interpreter"]
    assert summary["versions"]["torch"] == torch.__version__


def test_each_command_is_recorded_as_finished(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    assert record["recipe"] == "tiny"
    assert [(entry["command"], entry["outcome"]) for entry in record["commands"]] == [
        (name, "finished")
        for name in ("train-ddpm", "label-crops", "label-import", "train-interpreter", "evaluate", "predict")
    ]
    for entry in record["commands"]:
        assert entry["seed"] == 0
        assert {"cytoseg", "python", "torch"} <= set(entry["versions"])
        assert entry["started"] <= entry["finished"]
    assert record["commands"][0]["crops_trained"] == 24
    assert record["commands"][3]["train_crops"] == 2


def test_the_report_holds_the_table_and_the_pictures(run: Path, evaluation: dict[str, Any]) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    for method in evaluation["methods"]:
        assert method["title"] in page
        assert all(f"{entry['iou']:.2f}" in page for entry in method["classes"])
    assert "made_2_00" in page
    assert page.count("data:image/") >= 6
    assert 'src="http' not in page


def test_the_table_is_shown(made_run: MadeRun, evaluation: dict[str, Any]) -> None:
    shown = made_run[1]["evaluate"].stdout
    assert "4 test crops of 2 slides, IoU (95 % interval)" in shown
    for text in ("IoU nucleus", "mIoU", "Backbone features", "Random forest", "Commonest class"):
        assert text in " ".join(shown.split())
    assert f"{evaluation['methods'][0]['miou']:.2f}" in shown


def fingerprints(folder: Path) -> dict[str, int]:
    """When each file was written, but for what every command writes."""
    paths = (p for p in folder.rglob("*") if p.is_file() and p.parent != folder)
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in paths}


def test_the_same_commands_again_reuse_everything(home: Path, cytoseg: Callable[..., Result]) -> None:
    folder = home / "runs" / "tiny"
    before = fingerprints(folder)
    generate = ("slides", "generate", "made", "--n", "3", "--width", "256", "--height", "256", "--crops", "2")
    said = {
        "slides": cytoseg(*generate, "--seed", "2"),
        "train-ddpm": cytoseg("train-ddpm", "tiny.yaml", "--resume"),
        "label-crops": cytoseg("label-crops", "tiny.yaml", "--n", "2"),
        "train-interpreter": cytoseg("train-interpreter", "tiny.yaml"),
        "evaluate": cytoseg("evaluate", "tiny.yaml"),
        "predict": cytoseg("predict", "tiny.yaml", "made/slides/made_2_00.ome.tif"),
    }
    assert {name: result.exit_code for name, result in said.items()} == dict.fromkeys(said, 0)
    assert "0 new crops, 2 already existed" in said["label-crops"].stdout
    assert "The bundle is up to date" in said["train-interpreter"].stdout
    assert "The evaluation is up to date" in said["evaluate"].stdout
    assert "done before" in said["predict"].stdout
    after = fingerprints(folder)
    # Labels for labelme are written again, with the same content.
    assert {name for name in after if after[name] != before.get(name)} <= {"to_label/labels.txt"}
    assert json.loads((folder / "run.json").read_text())["commands"][6]["crops_trained"] == 0


def test_a_colour_changed_in_the_recipe_is_renewed_in_the_bundle(home: Path, cytoseg: Callable[..., Result]) -> None:
    bundle = home / "runs" / "tiny" / "interpreter" / "bundle"
    weights = bundle_hashes(bundle)
    (home / "tiny.yaml").write_text((home / "tiny.yaml").read_text().replace("#d55e00", "#010203"))
    said = cytoseg("train-interpreter", "tiny.yaml")
    assert said.exit_code == 0, said.output
    assert "same backbone, labels and settings. Other values of the recipe were updated in it." in said.stdout
    loaded = load_bundle(bundle)
    assert loaded.classes.colours[2] == (1, 2, 3)
    assert loaded.recipe["classes"][2]["colour"] == "#010203"
    assert bundle_hashes(bundle) == weights
    assert "renewed" not in cytoseg("train-interpreter", "tiny.yaml").stdout


@pytest.mark.slow
def test_other_settings_are_not_taken_for_done(home: Path, part: str, cytoseg: Callable[..., Result]) -> None:
    assert cytoseg("predict", "tiny.yaml", part).exit_code == 0
    before = (home / "runs" / "tiny" / "predictions" / "part" / "summary.json").read_text()
    assert "up to date" not in cytoseg("train-interpreter", "tiny.yaml", "interpreter.steps=41").stdout
    result = cytoseg("predict", "tiny.yaml", part, "predict.overlap_px=4")
    assert result.exit_code == 0, result.output
    assert "done before" not in result.stdout
    assert (home / "runs" / "tiny" / "predictions" / "part" / "summary.json").read_text() != before


def test_of_one_slide_none_is_held_out_and_that_is_said(home: Path, cytoseg: Callable[..., Result]) -> None:
    result = cytoseg("train-interpreter", "tiny.yaml", "interpreter.calibrate=true")
    assert "No slide was held out" in result.stdout
    state = json.loads((home / "runs" / "tiny" / "interpreter" / "bundle" / "state.json").read_text())
    assert (state["origin"]["kept_steps"], state["origin"]["calibration"]) == (None, None)


@pytest.mark.slow
def test_the_published_rules_take_all_pixels_and_give_a_bundle(home: Path, cytoseg: Callable[..., Result]) -> None:
    cut_labels(home)  # of all pixels the published rules make many steps
    result = cytoseg("train-interpreter", "tiny.yaml", "interpreter.mode=reference", "interpreter.vote=hard")
    assert result.exit_code == 0, result.output
    state = json.loads((home / "runs" / "tiny" / "interpreter" / "bundle" / "state.json").read_text())
    assert state["origin"]["pixels"] == 2 * 32 * 32
    steps = (home / "runs" / "tiny" / "interpreter" / "metrics.jsonl").read_text().splitlines()
    assert 4 * 2 * 32 * 32 / 64 + 51 < len(steps) < 100 * 2 * 32 * 32 / 64
    assert cytoseg("evaluate", "tiny.yaml", "--no-baseline", "interpreter.vote=hard").exit_code == 0


def test_importing_again_replaces(home: Path, cytoseg: Callable[..., Result]) -> None:
    result = cytoseg("label-import", "made/labelled", "--recipe", "tiny.yaml")
    assert result.exit_code == 0
    assert "6 crops imported (6 replaced), 6 in all." in result.stdout
