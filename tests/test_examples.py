"""Each script in ``examples/`` runs; napari's with a recording viewer."""

import re
import runpy
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cytoseg as cs

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def _beside_the_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)


class Viewer:
    """Stands for napari's: remembers the layers."""

    made: "list[Viewer]" = []  # noqa: RUF012 - emptied by the test

    def __init__(self) -> None:
        self.layers: dict[str, tuple[np.ndarray, dict[str, Any]]] = {}
        self.made.append(self)

    def add_image(self, data: np.ndarray, *, name: str, **options: Any) -> None:
        self.layers[name] = (data, options)

    add_labels = add_image


FOLDERS = ("pictures", "labelled/images", "labelled/masks")


def run(name: str) -> None:
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_every_example_is_run_here() -> None:
    scripts = {path.name for path in EXAMPLES.glob("*.py")} - {"made_cells.py"}
    assert scripts == {
        "notebook_on_an_array.py",
        "scikit_learn_cross_validation.py",
        "napari_layers.py",
        "write_digits.py",
    }


def test_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["write_digits.py", "digits", "2"])
    run("write_digits.py")
    written = {str(path.relative_to(tmp_path / "digits")) for path in (tmp_path / "digits").rglob("*.png")}
    names = ("a000.png", "a001.png", "b000.png", "b001.png")
    assert written == {f"{folder}/{name}" for folder in FOLDERS for name in names}
    with Image.open("digits/pictures/a000.png") as picture, Image.open("digits/labelled/masks/a000.png") as mask:
        assert (picture.mode, picture.size, mask.mode) == ("L", (32, 32), "L")
        ink = np.array(mask)
        assert np.unique(ink).tolist() == [0, 1]  # the first digit is a zero
        assert np.array(picture)[ink == 1].max() < 128 <= np.array(picture)[ink == 0].min()


def test_the_notebook(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run("notebook_on_an_array.py")
    score, shape, classes = capsys.readouterr().out.splitlines()
    assert float(score.rpartition(" ")[2]) > 0.7
    assert "class map (96, 96)" in shape
    assert re.fullmatch(r"glass \d\.\d\d, cytoplasm \d\.\d\d, nucleus \d\.\d\d", classes)
    assert (tmp_path / "cells_bundle" / "state.json").is_file()


def test_cross_validation(capsys: pytest.CaptureFixture[str]) -> None:
    run("scikit_learn_cross_validation.py")
    scores = [float(text) for text in capsys.readouterr().out.rpartition(": ")[2].split(", ")]
    assert len(scores) == 3
    assert min(scores) > 0.7


def test_napari_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.full((32, 32, 3), 230, np.uint8)
    image[8:24, 8:24] = (90, 50, 120)
    label_map = (image[..., 0] < 100).astype(np.uint8)
    classifier = cs.PixelClassifier(["glass", "cell"], extractors=["filters"], members=2, steps=50)
    classifier.fit([image], [label_map]).save("bundle")
    Image.fromarray(image).save("cells.png")
    shown: list[bool] = []
    napari = types.SimpleNamespace(Viewer=Viewer, run=lambda: shown.append(True))
    monkeypatch.setitem(sys.modules, "napari", napari)  # type: ignore[arg-type] # stands for the module
    monkeypatch.setattr(sys, "argv", ["napari_layers.py", "bundle", "cells.png"])
    Viewer.made.clear()
    run("napari_layers.py")
    (viewer,) = Viewer.made
    assert list(viewer.layers) == ["image", "classes: 1 glass, 2 cell", "uncertainty in nats"]
    np.testing.assert_array_equal(viewer.layers["image"][0], image)
    ids, options = viewer.layers["classes: 1 glass, 2 cell"]
    np.testing.assert_array_equal(ids, classifier.predict([image])[0] + 1)
    assert options["colormap"][2] == (86 / 255, 180 / 255, 233 / 255, 1.0)
    assert viewer.layers["uncertainty in nats"][0].shape == (32, 32)
    assert shown == [True]
