"""A model conditioned on class maps: trained, sampled by maps, and used by edit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from cytoseg.labels.index import load_index
from cytoseg.workflows import drawn_samples
from tests.end_to_end.conftest import RECIPE

Command = Callable[..., Result]
ADM = "diffusion: {backbone: adm, adm: {blocks: 1, attention: []}, condition: map,"


@pytest.fixture
def conditional(home: Path, cytoseg: Command, unchecked: None, monkeypatch: pytest.MonkeyPatch) -> Result:
    """Train the model in a run of its own, with the labels and the interpreter of the tiny run."""
    monkeypatch.setattr(drawn_samples, "fault_of", lambda _: None)
    text = RECIPE.replace("name: tiny", "name: of_maps").replace("diffusion: {", f"{ADM} ")
    text = text.replace("samples: 2", "samples: 0").replace("timesteps: [1, 5]", "timesteps: [1, 5], taps: all")
    Path("maps.yaml").write_text(text)
    for name in ("labels", "interpreter"):
        shutil.copytree(f"runs/tiny/{name}", f"runs/of_maps/{name}")
    Path("maps").mkdir()
    Image.fromarray(np.zeros((32, 32), np.uint8)).save("maps/glass.png")
    Image.fromarray(np.full((32, 32), 2, np.uint8)).save("maps/nucleus.png")
    return cytoseg("train-ddpm", "maps.yaml")


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image).astype(int)


@pytest.mark.slow
def test_maps_become_pictures_and_edits(conditional: Result, cytoseg: Command) -> None:
    assert conditional.exit_code == 0, conditional.output
    said = " ".join(conditional.stdout.split())
    assert "labelled crops of at least crops.size_px, elsewhere from runs/of_maps/interpreter/bundle." in said
    drawn = cytoseg("sample", "maps.yaml", "--maps", "maps", "--n", "3", "--steps", "2")
    assert drawn.exit_code == 0, drawn.output
    samples = Path("runs/of_maps/samples")
    glass, nucleus, _ = (_pixels(samples / f"sample_0000{i}.png") for i in range(3))
    assert np.abs(glass - nucleus).max() > 0
    assert _pixels(samples / "maps.png").shape == (2 * 34 - 2, 4 * 34 - 2, 3)
    origin = json.loads((samples / "samples.json").read_text())
    assert (origin["scale"], len(origin["maps"])) == (2.0, 64)
    picture = load_index(Path("runs/tiny/labels")).crops[0].picture()
    Image.fromarray(picture).save("crop.png")
    ids = np.zeros(picture.shape[:2], np.uint8)
    Image.fromarray(ids).save("before.png")
    ids[20:30, 20:30] = 2
    Image.fromarray(ids).save("after.png")
    edit = ("edit", "maps.yaml", "crop.png", "--map", "after.png", "--before", "before.png", "--steps", "2")
    edited = cytoseg(*edit)
    assert edited.exit_code == 0, edited.output
    found = _pixels(Path("runs/of_maps/edited/crop_0.png"))
    np.testing.assert_array_equal(found[:, :10], picture[:, :10])
    assert (found[22:28, 22:28] != picture[22:28, 22:28]).any()
    other = cytoseg(*edit, "--scale", "1", "--out", "other.png")
    assert other.exit_code == 0, other.output
    assert (_pixels(Path("other.png")) != found).any()


def test_an_interpreter_guides_a_model_without_condition(home: Path, cytoseg: Command) -> None:
    Path("maps").mkdir()
    Image.fromarray(np.full((32, 32), 2, np.uint8)).save("maps/nucleus.png")
    drawn = cytoseg("sample", "tiny.yaml", "--maps", "maps", "--steps", "2")
    assert drawn.exit_code in (0, 2)  # after 24 crops the sample may not be a valid image
    (about,) = Path("runs/tiny/samples").glob("**/samples.json")
    origin = json.loads(about.read_text())
    assert (origin["scale"], len(origin["interpreter"]), len(origin["maps"])) == (0.3, 64, 64)
    refused = cytoseg("sample", "tiny.yaml", "--maps", "maps", "--guide", "nucleus")
    assert refused.exit_code == 2
    assert "--guide and --maps: a map already sets the class of every pixel." in refused.stderr
