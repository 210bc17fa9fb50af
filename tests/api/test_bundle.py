"""API bundles compared with the command line on the same pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

import cytoseg as cs
from cytoseg.api.bundle import Bundle
from cytoseg.cli import build_app
from cytoseg.errors import ArrayError, CheckpointError, PredictionError, SlideError
from tests.api.conftest import made_cell

PLAIN = ("predict.skip_glass=false", "predict.uncertainty_bits=32")


@pytest.fixture(scope="module")
def folder(fitted: cs.PixelClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api") / "bundle"
    fitted.save(folder)
    return folder


@pytest.fixture(scope="module")
def slide(folder: Path) -> Path:
    """An image of 160x140 px: two by two tiles of 128."""
    image, _ = made_cell(9, 160, 140)
    Image.fromarray(image).save(folder.parent / "slide.png")
    return folder.parent / "slide.png"


@pytest.fixture(scope="module")
def predicted(folder: Path, slide: Path) -> Path:
    """The folder that the command line leaves."""
    out = folder.parent / "by_command"
    arguments = ["predict", str(folder), str(slide), "--out", str(out), *PLAIN]
    result = CliRunner().invoke(build_app("predict"), arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return out / "slide"


def test_an_array_gives_what_the_command_line_gives(folder: Path, slide: Path, predicted: Path) -> None:
    found = cs.load_bundle(str(folder), device="cpu").predict(np.array(Image.open(slide)))
    np.testing.assert_array_equal(found.class_map, tifffile.imread(predicted / "class_map.ome.tif", level=0))
    np.testing.assert_array_equal(found.uncertainty, tifffile.imread(predicted / "uncertainty.ome.tif", level=0))
    np.testing.assert_array_equal(found.class_map, found.probabilities.argmax(0))
    np.testing.assert_allclose(found.probabilities.sum(0), 1, atol=1e-5)
    assert found.class_map.dtype == np.uint8
    assert found.probabilities.shape == (2, 140, 160)


def test_a_run_folder_names_the_bundle_in_it(tmp_path: Path) -> None:
    bundle = tmp_path / "runs" / "mylab" / "interpreter" / "bundle"
    bundle.mkdir(parents=True)
    with pytest.raises(CheckpointError, match=f"mylab: is a run folder, not a bundle. Load {bundle}"):
        cs.load_bundle(tmp_path / "runs" / "mylab")


def test_bundles_and_predictions_are_short_in_a_notebook(folder: Path) -> None:
    bundle = cs.load_bundle(folder, device="cpu")
    assert repr(bundle) == f"Bundle(classes=('glass', 'cell'), mpp=None, folder={str(folder)!r}, device='cpu')"
    maps = cs.Prediction(np.zeros((2, 3), np.uint8), np.zeros((4, 2, 3), np.float32), np.zeros((2, 3), np.float32))
    assert repr(maps) == "Prediction(class_map=(2, 3), probabilities=(4, 2, 3), uncertainty=(2, 3))"


def test_a_slide_by_the_api_is_that_of_the_command_line(folder: Path, slide: Path, predicted: Path) -> None:
    out = folder.parent / "by_api"
    bundle = cs.load_bundle(folder, device="cpu")
    there = bundle.predict_slide(str(slide), str(out), overrides=PLAIN)
    assert there == out / "slide"
    for name in ("class_map.ome.tif", "objects.geojson", "cells.csv"):
        assert (there / name).read_bytes() == (predicted / name).read_bytes(), name
    written = (there / "summary.json").stat().st_mtime_ns
    assert bundle.predict_slide(slide, out, overrides=PLAIN) == there
    assert (there / "summary.json").stat().st_mtime_ns == written  # finished already


def test_a_bundle_of_a_relative_path_is_found_from_another_folder(
    folder: Path, slide: Path, predicted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    bundle = cs.load_bundle(folder.name, device="cpu")
    monkeypatch.chdir("/")
    there = bundle.predict_slide(slide, folder.parent / "by_relative", overrides=PLAIN)
    assert (there / "class_map.ome.tif").read_bytes() == (predicted / "class_map.ome.tif").read_bytes()


def test_a_float_image_is_the_same_when_it_is_named(folder: Path) -> None:
    bundle = cs.load_bundle(folder, device="cpu")
    image, _ = made_cell(3)
    wanted = bundle.predict(image)
    np.testing.assert_array_equal(bundle.predict(image / 255, value_range="0..1").probabilities, wanted.probabilities)
    with pytest.raises(ArrayError, match="holds float64"):
        bundle.predict(image / 255)


def test_a_grey_image_is_an_rgb_image_of_equal_channels(folder: Path) -> None:
    bundle = cs.load_bundle(folder, device="cpu")
    grey = made_cell(3)[0][..., 1]
    wanted = bundle.predict(grey[..., None].repeat(3, axis=2))
    np.testing.assert_array_equal(bundle.predict(grey).probabilities, wanted.probabilities)


def test_a_saved_bundle_predicts_to_the_same_bits(fitted: cs.PixelClassifier, folder: Path) -> None:
    image, _ = made_cell(4)
    again = cs.load_bundle(folder, device="cpu")
    again.save(folder.parent / "copy")
    copy = cs.load_bundle(folder.parent / "copy", device="cpu")
    wanted = fitted.bundle_.predict(image)
    for bundle in (again, copy):
        np.testing.assert_array_equal(bundle.predict(image).probabilities, wanted.probabilities)
        np.testing.assert_array_equal(bundle.predict(image).uncertainty, wanted.uncertainty)
    weights = [(folder.parent / name / "ensemble.safetensors").read_bytes() for name in ("bundle", "copy")]
    assert weights[0] == weights[1]


def test_a_bundle_says_what_it_knows(folder: Path) -> None:
    bundle = cs.load_bundle(folder)
    assert bundle.classes == ("glass", "cell")
    assert bundle.colours == ((240, 240, 240), (86, 180, 233))
    assert bundle.mpp is None


def test_what_is_no_bundle_or_slide_is_refused(fitted: cs.PixelClassifier, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no bundle yet"):
        cs.load_bundle(tmp_path / "none")
    with pytest.raises(SlideError, match="no such file"):
        cs.load_bundle(folder).predict_slide(tmp_path / "none.png", tmp_path)
    with pytest.raises(CheckpointError, match="in memory only"):
        fitted.bundle_.predict_slide("slide.png")


def test_what_goes_wrong_with_a_slide_is_reported(folder: Path, slide: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(PredictionError, match="taken"):
        cs.load_bundle(folder, device="cpu").predict_slide(slide, tmp_path / "taken")


def test_a_mistake_of_ours_shows_its_trace(
    folder: Path, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object, **_settings: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("cytoseg.predict.slide_task.predict_slide", broken)
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a bug"):
        cs.load_bundle(folder, device="cpu").predict_slide(slide, tmp_path)


def test_a_bundle_of_before_has_usual_tiles_and_predicts_no_slide(folder: Path, slide: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    cs.load_bundle(folder).save(old)
    state = json.loads((old / "state.json").read_text())
    del state["recipe"]
    (old / "state.json").write_text(json.dumps(state))
    bundle: Bundle = cs.load_bundle(old, device="cpu")
    assert bundle._tiles()[:2] == (256, 64)
    with pytest.raises(CheckpointError, match="without its recipe"):
        bundle.predict_slide(slide, tmp_path)
