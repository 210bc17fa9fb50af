import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner, Result

from cytoseg.checkpoints import save_checkpoint
from cytoseg.classes import ClassList
from cytoseg.cli import build_app
from cytoseg.diffusion.adm_settings import AdmSettings
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.unet import build_unet
from cytoseg.features.settings import FeatureSettings
from cytoseg.interpreter.bundle import Bundle, save_bundle
from cytoseg.interpreter.student import Student
from cytoseg.workflows import drawn_samples

RECIPE = """\
name: large
slides: {folders: [slides], mpp: 0.5}
crops: {size_px: 32}
diffusion:
  {backbone: adm, adm: {blocks: 1, attention: []}, dim: 8, dim_mults: [1, 2], timesteps: 30, upsample_from: runs/small}
training: {crops: 8, batch: 4, rate: 1e-3, workers: 0, samples: 1, device: cpu, checkpoint_crops: 4}
classes: [{name: background, colour: "#f0f0f0"}, {name: cell, colour: "#0072b2"}]
features: {taps: all, timesteps: [1, 5]}
predict: {tile_px: 32, overlap_px: 8}
"""
SMALL = Architecture(dim=8, dim_mults=(1, 2), timesteps=20, schedule="cosine", objective="pred_x0")
LARGE = Architecture(
    backbone="adm", adm=AdmSettings(blocks=1, attention=()), dim=8, dim_mults=(1, 2), timesteps=30, upsample=2
)
SAMPLES = Path("runs/large/samples")
Command = Callable[..., Result]


def _leave(run: str, architecture: Architecture, *, size_px: int = 16, mpp: float | None = 1.0) -> None:
    """Leave the checkpoint of a training on crops of a size at a pixel size."""
    recipe = {"crops": {"size_px": size_px}, "slides": {"mpp": mpp}}
    state = {"crops_seen": 8, "architecture": architecture.as_json(), "recipe": recipe}
    unet = build_unet(architecture, seed=1)
    with torch.no_grad():  # ADM begins with zeros, and would draw the same of all small images
        for i, weights in enumerate(unet.parameters()):
            weights += 0.05 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(i))
    save_checkpoint(Path("runs", run, "ddpm/checkpoint-000000008"), {"ema": unet.state_dict()}, state)


@pytest.fixture
def cytoseg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command beside a slide, the run of small images, and the recipe of the large ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(drawn_samples, "fault_of", lambda _: None)
    Path("slides").mkdir()
    pixels = np.random.default_rng(0).integers(60, 200, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(pixels).save("slides/a.png", dpi=(50_800, 50_800))
    Path("large.yaml").write_text(RECIPE, encoding="utf-8")
    _leave("small", SMALL)

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(build_app(arguments[0]), list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def _pixels(path: Path) -> Any:
    with Image.open(path) as image:
        return np.array(image).astype(int)


def _sample(cytoseg: Command, *arguments: str) -> Result:
    return cytoseg("sample", "large.yaml", "--steps", "3", *arguments)


@pytest.mark.slow
def test_small_pictures_are_drawn_and_then_enlarged(cytoseg: Command) -> None:
    _leave("large", LARGE, size_px=32, mpp=0.5)
    drawn = _sample(cytoseg, "--n", "3")
    assert drawn.exit_code == 0, drawn.output
    assert "See runs/large/samples/small.png." in " ".join(drawn.stdout.split())
    assert _pixels(SAMPLES / "sample_00002.png").shape == (32, 32, 3)
    assert _pixels(SAMPLES / "small/sample_00002.png").shape == (16, 16, 3)
    assert _pixels(SAMPLES / "small.png").shape == (2 * 34 - 2, 4 * 34 - 2, 3)
    assert len(json.loads((SAMPLES / "samples.json").read_text())["small"]) == 64
    before = {path: _pixels(path) for path in SAMPLES.rglob("sample_*.png")}
    (SAMPLES / "sample_00001.png").unlink()  # as if interrupted
    (SAMPLES / "small/sample_00002.png").unlink()
    assert _sample(cytoseg, "--n", "3").exit_code == 0
    for path, content in before.items():
        assert np.abs(_pixels(path) - content).max() <= 1
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(SAMPLES / "small/sample_00001.png")
    (SAMPLES / "sample_00001.png").unlink()
    assert _sample(cytoseg, "--n", "3").exit_code == 0
    assert np.abs(_pixels(SAMPLES / "sample_00001.png") - before[SAMPLES / "sample_00001.png"]).max() > 1


def test_real_crops_made_smaller_are_enlarged(cytoseg: Command) -> None:
    _leave("large", LARGE, size_px=32, mpp=0.5)
    assert _sample(cytoseg, "--n", "2", "--small", "crops").exit_code == 0
    first = _pixels(SAMPLES / "small/sample_00000.png")
    assert first.shape == (16, 16, 3)
    assert np.abs(first - _pixels(SAMPLES / "small/sample_00001.png")).max() > 10
    assert _sample(cytoseg, "--n", "1").exit_code == 0  # from the run: of another origin, in a folder of its own
    (other,) = (path for path in SAMPLES.iterdir() if path.is_dir() and path.name != "small")
    assert other.name.startswith("ddim3_seed0_32px_000000008_")
    assert "_of" in other.name
    alone = _sample(cytoseg, "--n", "1", "diffusion.upsample_from=null")  # the factor is in the checkpoint
    assert alone.exit_code == 0, alone.output
    refused = _sample(cytoseg, "--small", "run", "diffusion.upsample_from=null")
    assert "--small run: diffusion.upsample_from names no run." in refused.stderr


def test_a_faulty_small_picture_is_not_enlarged(cytoseg: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    _leave("large", LARGE, size_px=32, mpp=0.5)
    seen: list[int] = []

    def fault_of(sample: torch.Tensor) -> str | None:
        seen.append(sample.shape[-1])
        return "saturated" if len(seen) == 1 else None

    monkeypatch.setattr(drawn_samples, "fault_of", fault_of)
    refused = _sample(cytoseg, "--n", "2")
    assert refused.exit_code == 2
    assert "1 of 2 samples are not valid images and were not saved (saturated: 0)." in refused.stderr
    assert seen == [16, 16, 32]
    assert not (SAMPLES / "sample_00000.png").exists()


@pytest.mark.usefixtures("unchecked")
def test_it_is_trained_like_any_other(cytoseg: Command) -> None:
    trained = cytoseg("train-ddpm", "large.yaml")
    assert trained.exit_code == 0, trained.output
    folder = Path("runs/large/ddpm/checkpoint-000000008")
    state = json.loads((folder / "state.json").read_text())
    assert (state["architecture"]["upsample"], state["recipe"]["diffusion"]["upsample"]) == (2, 2)
    assert "upsample_from" not in state["architecture"]
    assert _pixels(Path("runs/large/ddpm/samples.png")).shape[1] == 3 * 34 - 2  # of six crops
    exported = cytoseg("export", "large.yaml", "card")
    assert exported.exit_code == 0, exported.output
    assert "enlarges small images 2 times" in Path("card/README.md").read_text()


@pytest.mark.parametrize("command", ["train-ddpm", "sample"])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run": "other"}, "upsample_from: runs/small: there is no diffusion model. Train the model of small images"),
        ({"channels": 1}, "draws images of 1 channels, but diffusion.channels is 3. Use the same."),
        ({"size_px": 24}, "draws images of 24 px, and crops.size_px 32 is not 2 or more times that."),
        ({"size_px": 32}, "draws images of 32 px, and crops.size_px 32 is not 2 or more times that."),
        ({"mpp": 0.5}, "was trained at slides.mpp 0.5, and this recipe has 0.5, so images 2 times smaller need"),
        ({"mpp": None}, "was trained at slides.mpp null, and this recipe has 0.5"),
        ({"upsample": 2}, "itself enlarges small images. Name a run that draws from noise alone."),
        ({"size_px": None}, "draws images of None px"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_in_a_line(
    cytoseg: Command, command: str, changes: dict[str, Any], said: str
) -> None:
    shutil.rmtree("runs/small")
    shape = {key: changes[key] for key in ("channels", "upsample") if key in changes}
    kind = LARGE if "upsample" in changes else SMALL
    trained = {"size_px": 16, "mpp": 1.0} | {key: changes[key] for key in ("size_px", "mpp") if key in changes}
    _leave(changes.get("run", "small"), Architecture(**{**vars(kind), **shape}), **trained)
    _leave("large", LARGE, size_px=32, mpp=0.5)
    refused = cytoseg(command, "large.yaml")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1), refused.output
    assert said in refused.stderr
    assert not SAMPLES.exists()


def test_a_run_of_another_factor_is_refused(cytoseg: Command) -> None:
    _leave("large", LARGE, size_px=64, mpp=0.5)
    refused = _sample(cytoseg, "crops.size_px=64", "predict.tile_px=64")
    assert "draws images of 16 px, and diffusion.upsample 2 makes 32 px of them, not the 64" in refused.stderr


def test_a_model_without_recipe_a_damaged_one_and_the_run_itself_are_refused(cytoseg: Command) -> None:
    _leave("large", LARGE, size_px=32, mpp=0.5)
    assert "this is the run itself" in _sample(cytoseg, "diffusion.upsample_from=large").stderr
    state = Path("runs/small/ddpm/checkpoint-000000008/state.json")
    values = json.loads(state.read_text())
    state.write_text(json.dumps({key: value for key, value in values.items() if key != "recipe"}))
    assert "does not state the size of its images" in _sample(cytoseg).stderr
    state.with_name("ema.safetensors").write_bytes(b"damaged")
    refused = _sample(cytoseg)
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)


def test_a_model_that_enlarges_nothing_takes_no_small_pictures(cytoseg: Command) -> None:
    Path("small.yaml").write_text(
        RECIPE.replace("name: large", "name: small").replace(", upsample_from: runs/small", "")
    )
    refused = cytoseg("sample", "small.yaml", "--small", "crops")
    assert "--small crops: the model of this run does not enlarge images." in refused.stderr


@pytest.mark.slow
def test_grey_pictures_are_enlarged(cytoseg: Command) -> None:
    grey = {"channels": 1}
    _leave("grey", Architecture(**{**vars(SMALL), **grey}))
    _leave("large", Architecture(**{**vars(LARGE), **grey}), size_px=32, mpp=0.5)
    for kind in ("run", "crops"):
        drawn = _sample(cytoseg, "--n", "2", "--small", kind, "diffusion.upsample_from=grey", "diffusion.channels=1")
        assert drawn.exit_code == 0, drawn.output
    assert _pixels(SAMPLES / "sample_00001.png").shape == (32, 32)


def _leave_interpreter() -> Bundle:
    """Leave an interpreter of the large pictures in their run, which judges by colours alone."""
    classes = ClassList(("background", "cell"), ((240, 240, 240), (0, 114, 178)), "background")
    features = FeatureSettings(("block0.block1",), (1,), extractors=("filters",))
    given = (features, classes, 0.5, "soft", "no", {"labels": {}})
    bundle = Bundle(nn.Identity(), SMALL, Student(2, seed=0).eval(), *given)
    save_bundle(Path("runs/large/interpreter/bundle"), bundle)
    return bundle


@pytest.mark.slow
def test_enlarged_pictures_are_guided_to_a_class_and_to_maps(cytoseg: Command) -> None:
    _leave("large", LARGE, size_px=32, mpp=0.5)
    student = _leave_interpreter().interpreter
    Path("maps").mkdir()
    Image.fromarray(np.ones((32, 32), np.uint8)).save("maps/all_cell.png")
    shares = []
    for arguments in ((), ("--guide", "cell", "--scale", "10000"), ("--maps", "maps", "--scale", "2")):
        before = set(SAMPLES.rglob("sample_00000.png"))
        drawn = _sample(cytoseg, "--n", "1", "--small", "crops", *arguments)
        assert drawn.exit_code == 0, drawn.output
        (path,) = {path for path in SAMPLES.rglob("sample_00000.png") if path.parent.name != "small"} - before
        picture = torch.from_numpy(_pixels(path)).permute(2, 0, 1)[None] / 127.5 - 1.0
        shares.append(float(student(picture)[:, :2].softmax(1)[:, 1].detach().mean()))
    assert min(shares[1:]) > shares[0]
