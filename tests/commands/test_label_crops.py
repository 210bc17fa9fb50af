import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from typer.testing import Result

from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.settings import TrainSettings
from cytoseg.diffusion.state import save
from cytoseg.diffusion.train_steps import new_state

CytosegCommand = Callable[..., Result]


def test_crops_lie_where_their_sidecars_say(cytoseg: CytosegCommand) -> None:
    result = cytoseg("label-crops", "tiny.yaml", "--n", "3", "--out", "marks")
    assert result.exit_code == 0, result.output
    assert "3 new crops, 0 already existed. Annotate them: labelme marks --labels marks/labels.txt" in result.stdout
    assert Path("marks/labels.txt").read_text() == "__ignore__\nbackground\ncell\n"
    sidecars = sorted(Path("marks").glob("*.crop.json"))
    assert len(sidecars) == 3
    for path in sidecars:
        said = json.loads(path.read_text())
        x, y, width, height = said["region"]
        assert (width, height, said["mpp"]) == (32, 32, None)
        assert path.name == f"{said['slide']}_{x}_{y}.crop.json"
        with Image.open(f"slides/{said['slide']}.png") as slide, Image.open(f"marks/{path.name[:-10]}.png") as crop:
            np.testing.assert_array_equal(np.array(crop), np.array(slide)[y : y + 32, x : x + 32])


def test_asking_for_more_adds_to_those_that_are_there(cytoseg: CytosegCommand) -> None:
    cytoseg("label-crops", "tiny.yaml", "--n", "2")
    before = {path: path.stat().st_mtime_ns for path in Path("runs/tiny/to_label").glob("*.png")}
    assert "2 new crops, 2 already existed" in cytoseg("label-crops", "tiny.yaml", "--n", "4").stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_another_seed_gives_other_crops(cytoseg: CytosegCommand) -> None:
    for seed in (0, 1):
        cytoseg("label-crops", "tiny.yaml", f"training.seed={seed}", "--n", "2", "--out", f"marks{seed}")
    names = [sorted(path.name for path in Path(f"marks{seed}").glob("*.png")) for seed in (0, 1)]
    assert names == [
        ["dark_a_58_14.png", "dark_b_37_7.png"],
        ["dark_a_46_15.png", "dark_b_51_16.png"],
    ]


def test_crops_cut_at_another_scale_are_not_mixed(cytoseg: CytosegCommand) -> None:
    cytoseg("label-crops", "tiny.yaml", "--n", "1", "--out", "marks")
    result = cytoseg("label-crops", "tiny.yaml", "slides.mpp=0.5", "--n", "1", "--out", "marks")
    assert result.exit_code == 2
    assert "already exists, cut at another size. Choose another folder with --out." in result.stderr


def test_crops_of_slides_without_cells(cytoseg: CytosegCommand) -> None:
    for path in Path("slides").iterdir():
        Image.new("RGB", (96, 64), (245, 245, 245)).save(path)
    result = cytoseg("label-crops", "tiny.yaml")
    assert result.exit_code == 2
    assert "the background rule finds no cells on any slide. Set slides.background.rule=none." in result.stderr


def test_where_and_what_belong_together_and_are_numbers(cytoseg: CytosegCommand) -> None:
    for line in (("--slide", "slides/dark_a.png"), ("--at", "3,4")):
        result = cytoseg("label-crops", "tiny.yaml", *line)
        assert result.exit_code == 2
        assert "--slide and --at belong together" in result.stderr
    wrong = cytoseg("label-crops", "tiny.yaml", "--slide", "slides/dark_a.png", "--at", "here")
    assert wrong.exit_code == 2
    assert "--at 'here': write the centre of the crop in level-0 pixels" in wrong.stderr


def test_a_slide_that_was_not_predicted_gives_crops_without_shapes(cytoseg: CytosegCommand) -> None:
    line = ("label-crops", "tiny.yaml", "--slide", "slides/dark_a.png", "--at", "40,30", "--at", "90,60")
    result = cytoseg(*line)
    assert result.exit_code == 0, result.output
    assert "2 new crops, 0 already existed; 0 with the prediction" in result.stdout
    folder = Path("runs/tiny/to_label")
    assert sorted(path.name for path in folder.glob("*.png")) == ["dark_a_24_14.png", "dark_a_74_44.png"]
    with Image.open("slides/dark_a.png") as slide, Image.open(folder / "dark_a_24_14.png") as crop:
        np.testing.assert_array_equal(np.array(crop), np.array(slide)[14:46, 24:56])
    assert list(folder.glob("*[0-9].json")) == []
    (folder / "dark_a_24_14.png").write_bytes(b"work in progress")
    assert "0 new crops, 2 already existed" in cytoseg(*line).stdout
    assert (folder / "dark_a_24_14.png").read_bytes() == b"work in progress"


def test_crops_to_annotate_have_a_size_of_their_own(cytoseg: CytosegCommand) -> None:
    for number, (size, side) in enumerate(
        ((("--size", "48"), 48), (("labels.crop_px=24",), 24), (("--size", "300"), 64))
    ):
        result = cytoseg("label-crops", "tiny.yaml", *size, "--n", "1", "--out", f"marks{number}")
        assert result.exit_code == 0, result.output
        assert "Next: cytoseg label-import marks" in result.stdout
        (path,) = Path(f"marks{number}").glob("*.png")
        with Image.open(path) as crop:
            assert crop.size == (side, side)
    assert "No slide holds a crop of 300 px (labels.crop_px): these have 64 px." in result.stdout
    assert cytoseg("label-crops", "tiny.yaml", "--size", "2").exit_code == 2
    chosen = ("--slide", "slides/dark_a.png", "--at", "40,30", "--size", "20", "--out", "chosen")
    assert cytoseg("label-crops", "tiny.yaml", *chosen).exit_code == 0
    with Image.open("chosen/dark_a_30_20.png") as crop:
        assert crop.size == (20, 20)


def test_the_base_model_proposes_shapes_that_are_left_out_until_they_are_saved(cytoseg: CytosegCommand) -> None:
    architecture = Architecture(dim=8, dim_mults=(1, 1, 1), backbone="pretrained", mask_classes=("background", "cell"))
    state = new_state(
        architecture,
        TrainSettings(
            crops=8, batch=4, size_px=32, rate=1e-3, rate_schedule="cosine", ema_decay=0.9, seed=0, workers=0
        ),
    )
    with torch.no_grad():
        for network in (state.unet, state.ema.ema_model):
            network.get_parameter("mask_head.weight").zero_()
            network.get_parameter("mask_head.bias").copy_(torch.tensor([0.0, 5.0]))
    save(Path("base"), state, recipe={})
    recipe = Path("tiny.yaml").read_text().replace("diffusion: {dim: 8, dim_mults: [1, 2]}\n", "")
    Path("tiny.yaml").write_text(recipe)  # the model brings its own architecture
    result = cytoseg("label-crops", "tiny.yaml", "--n", "2", "--propose", "training.init=base")
    assert result.exit_code == 0, result.output
    assert "\nbase proposes cell.\n" in f"\n{result.stdout}"
    (first, second) = sorted(Path("runs/tiny/to_label").glob("*[0-9].json"))
    shapes = json.loads(first.read_text())["shapes"]
    assert [(shape["label"], shape["points"]) for shape in shapes] == [("cell", [[0, 0], [32, 0], [32, 32], [0, 32]])]
    saved = json.loads(second.read_text())
    second.write_text(json.dumps(saved))
    imported = cytoseg("label-import", "runs/tiny/to_label", "--recipe", "tiny.yaml", "training.init=base")
    assert "Unsaved proposals skipped: 1" in imported.stdout
    assert "1 crops imported" in imported.stdout


def test_proposals_need_a_model_that_was_taught_by_sources(cytoseg: CytosegCommand) -> None:
    result = cytoseg("label-crops", "tiny.yaml", "--n", "2", "--propose")
    assert result.exit_code == 2
    assert "no checkpoint here" in result.stderr
    result = cytoseg("label-crops", "tiny.yaml", "--propose", "--slide", "slides/dark_a.png", "--at", "70,16")
    assert result.exit_code == 2
    assert "--propose is for random crops" in result.stderr
