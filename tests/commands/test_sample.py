import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import Result

from cytoseg.checkpoints import save_checkpoint
from cytoseg.classes import ClassList
from cytoseg.commands import sample
from cytoseg.diffusion.add_noise import alpha_bar
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.sample import ddim, ddpm, noise_of
from cytoseg.diffusion.unet import build_unet
from cytoseg.features.settings import FeatureSettings
from cytoseg.interpreter.bundle import Bundle, save_bundle
from cytoseg.interpreter.student import Student
from cytoseg.workflows import drawn_samples

CytosegCommand = Callable[..., Result]
FOLDER = Path("runs/tiny/samples")
# Random weights that predict x0 draw something within the range.
SMALL = ("diffusion.timesteps=200", "diffusion.objective=pred_x0")
ARCHITECTURE = Architecture(dim=8, dim_mults=(1, 2), timesteps=200, schedule="linear", objective="pred_x0")


def leave_checkpoint(
    *, crops_seen: int = 8, bias: list[float] | None = None, timesteps: int = 200, **training: float
) -> nn.Module:
    """Leave a checkpoint in the run folder; with a bias its network paints everything in that colour."""
    architecture = replace(ARCHITECTURE, timesteps=timesteps)
    unet = build_unet(architecture, seed=crops_seen).eval()
    if bias is not None:
        final: Any = unet.final_conv
        nn.init.zeros_(final.weight)
        final.bias.data = torch.tensor(bias)
    recipe = {"training": training, "diffusion": {"timesteps": timesteps}}
    state = {"crops_seen": crops_seen, "architecture": architecture.as_json(), "recipe": recipe}
    save_checkpoint(Path(f"runs/tiny/ddpm/checkpoint-{crops_seen:09d}"), {"ema": unet.state_dict()}, state)
    return unet


def pixels(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as picture:
        return np.array(picture)


def as_pixels(drawn: Tensor) -> np.ndarray[Any, Any]:
    return ((drawn.numpy() + 1) * 127.5).round().astype(np.uint8).transpose(1, 2, 0)


def names(folder: Path = FOLDER) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_ddim_samples_and_their_grid(cytoseg: CytosegCommand) -> None:
    unet = leave_checkpoint()
    result = cytoseg("sample", "tiny.yaml", *SMALL, "--n", "3", "--steps", "4", "--seed", "5")
    assert result.exit_code == 0, result.output
    assert "3 samples after 8 crops. See runs/tiny/samples/grid.png." in result.stdout
    assert names() == ["grid.png", "sample_00000.png", "sample_00001.png", "sample_00002.png", "samples.json"]
    noise = next(noise_of(5, range(3), size_px=32))
    drawn = ddim(unet, noise, alpha_bars=alpha_bar("linear", 200), objective="pred_x0", steps=4)
    grid = pixels(FOLDER / "grid.png")
    assert grid.shape == (66, 66, 3)
    for number, (y, x) in enumerate([(0, 0), (0, 34), (34, 0)]):
        one = pixels(FOLDER / f"sample_{number:05d}.png")
        np.testing.assert_allclose(one.astype(int), as_pixels(drawn[number]).astype(int), atol=1)
        np.testing.assert_array_equal(grid[y : y + 32, x : x + 32], one)
        assert one.std() > 5
    for name in ("grid.png", "sample_00002.png"):
        with Image.open(FOLDER / name) as image:
            assert image.info["Comment"].startswith(
                "Made by a diffusion model, not a patient's: ddim sample, seed 5, m"
            )
    (entry,) = json.loads(Path("runs/tiny/run.json").read_text())["commands"]
    assert (entry["command"], entry["outcome"], entry["samples"]) == ("sample", "finished", 3)


@pytest.mark.parametrize(
    ("training", "problem"),
    [
        ({"denoising_weight": 0}, "training.denoising_weight 0 and cannot denoise"),
        ({"denoising_weight": 1, "highest_t": 100}, "training.highest_t 100 and cannot denoise stronger noise"),
    ],
)
def test_a_model_that_did_not_learn_to_draw_is_refused(
    training: dict[str, float], problem: str, cytoseg: CytosegCommand
) -> None:
    leave_checkpoint(**training)
    result = cytoseg("sample", "tiny.yaml", *SMALL, "--n", "1")
    assert result.exit_code == 2, result.output
    assert problem in " ".join(result.stderr.split())
    assert not FOLDER.exists()


def test_ddpm_samples(cytoseg: CytosegCommand) -> None:
    unet = leave_checkpoint()
    result = cytoseg("sample", "tiny.yaml", *SMALL, "--n", "2", "--sampler", "ddpm", "--steps", "3")
    assert result.exit_code == 0, result.output
    noises = noise_of(0, range(2), size_px=32)
    drawn = ddpm(unet, noises, alpha_bars=alpha_bar("linear", 200), objective="pred_x0", steps=3)
    for number in range(2):
        one = pixels(FOLDER / f"sample_{number:05d}.png")
        np.testing.assert_allclose(one.astype(int), as_pixels(drawn[number]).astype(int), atol=1)


@pytest.mark.parametrize(("sampler", "steps"), [("ddim", 50), pytest.param("ddpm", 60, marks=pytest.mark.slow)])
def test_steps_not_asked_for(cytoseg: CytosegCommand, sampler: str, steps: int) -> None:
    leave_checkpoint(timesteps=60)
    short = ("diffusion.timesteps=60", "features.timesteps=[50]", SMALL[1], "crops.size_px=16")
    result = cytoseg("sample", "tiny.yaml", *short, "--n", "1", "--sampler", sampler)
    assert result.exit_code == 0, result.output
    said = json.loads((FOLDER / "samples.json").read_text())
    assert (said["sampler"], said["steps"], said["seed"], said["size_px"]) == (sampler, steps, 0, 16)
    assert said["crops_seen"] == 8


@pytest.mark.parametrize(
    ("batch", "sampler"),
    [
        ("training.batch=1", "ddim"),
        ("training.micro_batch=2", "ddpm"),
        pytest.param("training.batch=1", "ddpm", marks=pytest.mark.slow),
        pytest.param("training.micro_batch=2", "ddim", marks=pytest.mark.slow),
    ],
)
def test_samples_are_the_same_however_many_are_drawn_together(
    cytoseg: CytosegCommand, sampler: str, batch: str
) -> None:
    leave_checkpoint()
    asked = ("--n", "3", "--steps", "3", "--sampler", sampler)
    cytoseg("sample", "tiny.yaml", *SMALL, *asked)
    cytoseg("sample", "tiny.yaml", *SMALL, batch, "folder=other", *asked)  # has no checkpoint yet
    Path("runs/tiny/ddpm").rename("other/ddpm")
    assert cytoseg("sample", "tiny.yaml", *SMALL, batch, "folder=other", *asked).exit_code == 0
    for number in range(3):
        together, apart = (pixels(f / "samples" / f"sample_{number:05d}.png") for f in (FOLDER.parent, Path("other")))
        # The networks' outputs agree to 1e-5; one of 256 values may still be rounded the other way.
        np.testing.assert_allclose(together.astype(int), apart.astype(int), atol=1)


def test_asking_for_more_draws_only_what_is_missing(cytoseg: CytosegCommand) -> None:
    leave_checkpoint()
    cytoseg("sample", "tiny.yaml", *SMALL, "--n", "3", "--steps", "2")
    (FOLDER / "sample_00001.png").unlink()
    before = {path: path.stat().st_mtime_ns for path in FOLDER.glob("sample_*.png")}
    assert cytoseg("sample", "tiny.yaml", *SMALL, "--n", "4", "--steps", "2").exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(FOLDER.glob("sample_*.png"))) == 4
    fewer = cytoseg("sample", "tiny.yaml", *SMALL, "--n", "2", "--steps", "2")
    assert fewer.exit_code == 0
    assert pixels(FOLDER / "grid.png").shape == (32, 66, 3)


def test_the_grid_shows_64_samples_at_most(cytoseg: CytosegCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "GRID", 4)
    leave_checkpoint()
    assert cytoseg("sample", "tiny.yaml", *SMALL, "--n", "5", "--steps", "1").exit_code == 0
    grid = pixels(FOLDER / "grid.png")
    assert grid.shape == (66, 66, 3)
    for number, (top, left) in enumerate(((0, 0), (0, 34), (34, 0), (34, 34))):
        cell = grid[top : top + 32, left : left + 32]
        np.testing.assert_array_equal(cell, pixels(FOLDER / f"sample_{number:05d}.png"))


def test_a_newer_checkpoint_has_a_folder_of_its_own(cytoseg: CytosegCommand) -> None:
    leave_checkpoint()
    cytoseg("sample", "tiny.yaml", *SMALL, "--n", "1", "--steps", "2")
    leave_checkpoint(crops_seen=16)
    result = cytoseg("sample", "tiny.yaml", *SMALL, "--n", "1", "--steps", "2")
    assert result.exit_code == 0, result.output
    (own,) = FOLDER.glob("ddim2_seed0_32px_000000016_*")
    assert f"1 samples after 16 crops. See {own / 'grid.png'}." in result.stdout
    assert names(own) == ["grid.png", "sample_00000.png", "samples.json"]
    assert (pixels(own / "sample_00000.png") != pixels(FOLDER / "sample_00000.png")).any()


def test_ctrl_c_leaves_whole_samples_and_the_same_command_goes_on(
    cytoseg: CytosegCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_checkpoint()
    checked: list[Tensor] = []

    def pressed(drawn: Tensor) -> None:
        checked.append(drawn)
        if len(checked) == 2:
            raise KeyboardInterrupt

    asked = ("sample", "tiny.yaml", *SMALL, "training.batch=1", "--n", "3", "--steps", "2")
    with monkeypatch.context() as patch:
        patch.setattr(drawn_samples, "fault_of", pressed)
        stopped = cytoseg(*asked)
    assert stopped.exit_code == 130
    assert names() == ["sample_00000.png", "samples.json"]
    first = (FOLDER / "sample_00000.png").stat().st_mtime_ns
    assert cytoseg(*asked).exit_code == 0
    assert names() == ["grid.png", "sample_00000.png", "sample_00001.png", "sample_00002.png", "samples.json"]
    assert (FOLDER / "sample_00000.png").stat().st_mtime_ns == first
    outcomes = [entry["outcome"] for entry in json.loads(Path("runs/tiny/run.json").read_text())["commands"]]
    assert outcomes == ["interrupted", "finished"]


def test_what_is_no_picture_is_named_and_not_saved(cytoseg: CytosegCommand) -> None:
    leave_checkpoint(bias=[5.0, -5.0, 0.0])
    result = cytoseg("sample", "tiny.yaml", *SMALL, "--n", "3", "--steps", "2")
    assert result.exit_code == 2
    assert result.stderr == (
        "cytoseg: runs/tiny/samples: 3 of 3 samples are not valid images and were not saved "
        "(saturated: 0-2). Train longer, or lower training.rate.\n"
    )
    assert names() == ["samples.json"]


def test_weights_that_are_not_finite_are_refused(cytoseg: CytosegCommand) -> None:
    leave_checkpoint(bias=[float("nan"), 0.0, 0.0])
    result = cytoseg("sample", "tiny.yaml", *SMALL, "--n", "3", "--steps", "2")
    assert result.exit_code == 2
    assert result.stderr.endswith(
        "state.json: damaged, or of a different version (a weight is NaN or infinite). "
        "Use an older checkpoint: move this one away.\n"
    )
    assert not FOLDER.exists()


def test_white_glass_is_a_picture(cytoseg: CytosegCommand) -> None:
    leave_checkpoint(bias=[5.0, 5.0, 5.0])
    assert cytoseg("sample", "tiny.yaml", *SMALL, "--n", "1", "--steps", "2").exit_code == 0
    assert (pixels(FOLDER / "sample_00000.png") == 255).all()


def test_good_samples_are_saved_beside_bad_ones(cytoseg: CytosegCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_checkpoint()
    faults = iter(["saturated", None, "not finite", "saturated", "saturated"])
    monkeypatch.setattr(drawn_samples, "fault_of", lambda _: next(faults))
    result = cytoseg("sample", "tiny.yaml", *SMALL, "training.batch=2", "--n", "5", "--steps", "2")
    assert result.exit_code == 2
    assert "4 of 5 samples are not valid images and were not saved (not finite: 2; saturated: 0, 3-4)." in result.stderr
    assert names() == ["grid.png", "sample_00001.png", "samples.json"]
    np.testing.assert_array_equal(pixels(FOLDER / "grid.png"), pixels(FOLDER / "sample_00001.png"))
    (entry,) = json.loads(Path("runs/tiny/run.json").read_text())["commands"]
    assert (entry["outcome"], entry["samples"]) == ("failed", 1)


def test_more_steps_than_timesteps(cytoseg: CytosegCommand) -> None:
    leave_checkpoint()
    result = cytoseg("sample", "tiny.yaml", *SMALL, "--steps", "201")
    assert result.exit_code == 2
    assert result.stderr == "cytoseg: --steps 201: the model has 200 timesteps. Give at most that many.\n"


def test_without_a_checkpoint(cytoseg: CytosegCommand) -> None:
    result = cytoseg("sample", "tiny.yaml")
    assert result.exit_code == 2
    assert "runs/tiny/ddpm: no checkpoint here. Train one with `cytoseg train-ddpm`, or name" in result.stderr
    assert not FOLDER.exists()


def test_a_checkpoint_of_another_recipe(cytoseg: CytosegCommand) -> None:
    leave_checkpoint()
    result = cytoseg("sample", "tiny.yaml", "diffusion.timesteps=200", "diffusion.objective=pred_noise")
    assert result.exit_code == 2
    assert "objective pred_x0 there, pred_noise in the recipe" in result.stderr


def test_a_sample_damaged_since(cytoseg: CytosegCommand) -> None:
    leave_checkpoint()
    asked = ("sample", "tiny.yaml", *SMALL, "--n", "2", "--steps", "2")
    cytoseg(*asked)
    (FOLDER / "sample_00001.png").write_bytes(b"\x89PNG")
    result = cytoseg(*asked)
    assert result.exit_code == 2
    assert "runs/tiny/samples/sample_00001.png: damaged (cannot identify image file" in result.stderr
    assert "Remove it and run the command again." in result.stderr


def test_a_full_disk_leaves_no_half_sample(cytoseg: CytosegCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_checkpoint()

    def full(_self: Image.Image, path: Path, **_options: object) -> NoReturn:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Image.Image, "save", full)
    result = cytoseg("sample", "tiny.yaml", *SMALL, "--n", "1", "--steps", "2")
    assert result.exit_code == 2
    assert "No space left on device." in result.stderr
    assert names() == ["samples.json"]


def leave_interpreter(*, mpp: float | None = None) -> None:
    """Leave an interpreter in the run folder that calls dark pixels cells."""
    student = Student(2, seed=0)
    classes = ClassList(("background", "cell"), ((240, 240, 240), (0, 114, 178)), "background")
    features = FeatureSettings(("block0.block1",), (1,), extractors=("filters",))
    bundle = Bundle(nn.Identity(), ARCHITECTURE, student.eval(), features, classes, mpp, "soft", "no", {"labels": {}})
    save_bundle(Path("runs/tiny/interpreter/bundle"), bundle)


def test_guided_samples_have_a_folder_of_their_own(cytoseg: CytosegCommand) -> None:
    leave_checkpoint()
    leave_interpreter()
    draw = ("sample", "tiny.yaml", *SMALL, "--n", "1", "--steps", "3")
    assert cytoseg(*draw).exit_code == 0
    result = cytoseg(*draw, "--guide", "cell", "--scale", "500")
    assert result.exit_code == 0, result.output
    (folder,) = (path for path in FOLDER.iterdir() if path.is_dir())
    assert "_class1x500_" in folder.name
    origin = json.loads((folder / "samples.json").read_text())
    assert (origin["guide"], origin["scale"], len(origin["interpreter"])) == (1, 500.0, 64)
    assert "guide" not in json.loads((FOLDER / "samples.json").read_text())
    assert (pixels(folder / "sample_00000.png") != pixels(FOLDER / "sample_00000.png")).any()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--guide", "nucleus"), "--guide nucleus: the interpreter does not know this class, only background, cell."),
        (("--scale", "2"), "--scale: sets how strongly to guide, so name a class with --guide too."),
        (("--guide", "cell", "--scale", "0"), "--scale 0: give a number above 0 and at most 10,000."),
        (("--guide", "cell", "--scale", "nan"), "--scale nan: give a number above 0 and at most 10,000."),
        (("--guide", "cell", "--scale", "inf"), "--scale inf: give a number above 0 and at most 10,000."),
        (("--guide", "cell", "slides.mpp=0.5"), "the interpreter was trained at slides.mpp None, the recipe has 0.5."),
    ],
)
def test_a_guide_that_cannot_be_is_refused(cytoseg: CytosegCommand, arguments: tuple[str, ...], said: str) -> None:
    leave_checkpoint()
    leave_interpreter()
    result = cytoseg("sample", "tiny.yaml", *SMALL, "--n", "1", "--steps", "2", *arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert said in result.stderr
    assert not FOLDER.exists() or not list(FOLDER.iterdir())


def test_a_guide_needs_an_interpreter(cytoseg: CytosegCommand) -> None:
    leave_checkpoint()
    result = cytoseg("sample", "tiny.yaml", *SMALL, "--n", "1", "--steps", "2", "--guide", "cell")
    assert result.exit_code == 2
    assert "no bundle yet. Run `cytoseg train-interpreter`" in result.stderr
