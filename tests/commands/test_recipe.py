from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result

CytosegCommand = Callable[..., Result]

PUBLISHED = ["ade_bedroom_30", "bedroom_28", "cat_15", "celeba_19", "ffhq_34", "horse_21", "tiny_imagenet", "voc"]
OF_CELLS = ["quickstart", "cervical", "lbc", "dsb16", "cytology-base", "lbc-base", "lbc-cric-base"]
NAMES = [*OF_CELLS, *sorted([*PUBLISHED, "digits"])]


def test_list_gives_each_recipes_purpose(cytoseg: CytosegCommand) -> None:
    *lines, following = cytoseg("recipe", "list").stdout.splitlines()
    assert following == "Next: cytoseg recipe new mylab.yaml"
    assert [line.split()[0] for line in lines] == NAMES
    assert lines[1].startswith("cervical        The configuration of the replicated cervical cytology report")
    assert {line[:16].rstrip() for line in lines} == set(NAMES)  # the texts stand below each other


def test_check_counts_slides_and_features_and_writes_nothing(cytoseg: CytosegCommand) -> None:
    result = cytoseg("recipe", "check", "tiny.yaml", "features.timesteps=[5, 50]", "features.taps=[block1.attention]")
    assert result.exit_code == 0
    first, features, _, slides, following = result.stdout.splitlines()  # the third is the progress bar
    assert first == "tiny: every value is valid. Run folder: runs/tiny"
    # dim 8 with multipliers (1, 2): the shallow block has 8 channels.
    assert features == "Features: 8 channels at each of t = 5, 50: 16 in all"
    single = cytoseg("recipe", "check", "tiny.yaml", "features.timesteps=[5]", "features.taps=[block1.attention]")
    assert "Features: 8 channels at t = 5: 8 in all" in single.stdout
    assert slides == "Slides: 2 found, 2 with cells"
    assert following == "Next: cytoseg train-ddpm tiny.yaml"
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("change", "following"),
    [
        ("training.init=cytology-base", "label-crops"),
        ("features.extractors=[filters]", "label-crops"),
        ("interpreter.kind=decoder", "train-ddpm"),
    ],
)
def test_check_names_a_training_only_where_there_must_be_one(
    cytoseg: CytosegCommand, change: str, following: str
) -> None:
    written = Path("tiny.yaml").read_text().replace("diffusion:", "# diffusion:") if "init" in change else None
    if written:
        Path("tiny.yaml").write_text(written)
    result = cytoseg("recipe", "check", "tiny.yaml", change)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == f"Next: cytoseg {following} tiny.yaml"


def test_check_counts_joined_filters_once(cytoseg: CytosegCommand) -> None:
    change = ("features.timesteps=[5, 50]", "features.taps=[block1.attention]", "features.extractors=[filters, ddpm]")
    assert "at each of t = 5, 50 and 72 filters: 88 in all" in cytoseg("recipe", "check", "tiny.yaml", *change).stdout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("slides.folders=[elsewhere]",), "elsewhere: no such folder"),
        (("slides.folders=[]",), "no slide in no folder"),
        (("slides.folders=[plain]", "slides.mpp=0.5"), "a.png: does not state its micrometres per pixel"),
        (("crops.size_px=96",), "96x64 px, smaller than a crop of 96x96"),
        (("slides.background={rule: threshold, threshold: 2.9}",), "finds no cells on any slide"),
        (("training.init=elsewhere",), "training.init: elsewhere: no such folder"),
        (
            ("folder=/dev/null/x",),
            "/dev/null/x: cannot be a folder, because /dev/null is a file. Set folder to another",
        ),
        (
            ("folder=plain/a.png",),
            "plain/a.png: cannot be a folder, because plain/a.png is a file. Set folder to anoth",
        ),
        (("folder=plain/a.png/b/c",), "plain/a.png/b/c: cannot be a folder, because "),
        (("labels.folder=plain/a.png",), "is a file. Set labels.folder to another place, or move the file."),
        (("slides.mpp=1e-9",), "slides.mpp: must be 0.01 to 20 micrometres per pixel"),
        (("slides.assume_mpp=1e9",), "slides.assume_mpp: must be 0.01 to 20 micrometres per pixel"),
    ],
)
def test_check_refuses_what_the_training_would(cytoseg: CytosegCommand, changes: tuple[str, ...], message: str) -> None:
    Path("plain").mkdir()
    for name in "abc":
        Image.new("RGB", (64, 64), (90, 60, 120)).save(f"plain/{name}.png")
    result = cytoseg("recipe", "check", "tiny.yaml", *changes)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert cytoseg("train-ddpm", "tiny.yaml", *changes).stderr == result.stderr


def test_check_refuses_a_wrong_value(cytoseg: CytosegCommand) -> None:
    result = cytoseg("recipe", "check", "tiny.yaml", "crops.size_px=33")
    assert result.exit_code == 2
    assert "crops.size_px: 33 is not a multiple of" in result.stderr
    assert result.stdout == ""


def test_explain_shows_every_key_with_default_and_meaning(cytoseg: CytosegCommand) -> None:
    rows = {
        cells[0]: cells[1:]
        for line in cytoseg("recipe", "explain").stdout.splitlines()
        if len(cells := [cell.strip() for cell in line.strip("│").split("│")]) == 3
    }
    assert rows["name"][0] == "(required)"
    assert rows["training.batch"] == ["16", "Crops per step, over all GPUs."]
    assert rows["diffusion.dim_mults"][0] == "1, 2, 4, 8"
    assert rows["slides.background.rule"][0] == "otsu"
    assert all(meaning for key, (_, meaning) in rows.items() if key)
    assert len(rows) > 50


def test_explain_shows_a_recipes_values(cytoseg: CytosegCommand) -> None:
    shown = cytoseg("recipe", "explain", "tiny.yaml", "training.batch=3").stdout
    assert any(
        line.split()[1:4:2] == ["training.batch", "3"] for line in shown.splitlines() if "training.batch" in line
    )
    assert "background, cell" in shown
