import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from cytoseg.cli import build_app
from cytoseg.recipe import load_recipe

CytosegCommand = Callable[..., Result]
GIVEN = ("--mpp", "0.5", "--classes", "background, cytoplasm ,nucleus")


def _answer(answers: str, *arguments: str) -> Result:
    return CliRunner().invoke(build_app("recipe"), ["recipe", "new", *arguments], input=answers)


def test_three_answers_make_a_recipe_that_check_passes(cytoseg: CytosegCommand) -> None:
    result = _answer("slides\n\n\n", "my lab")
    assert result.exit_code == 0, result.output
    assert "2 slides. Micrometres per pixel: 0.5 (2)." in result.stdout
    assert "[0.5]" in result.stdout
    assert "Next: cytoseg recipe check 'my lab.yaml'" in result.stdout
    recipe = load_recipe("my lab.yaml")
    assert (recipe.name, recipe.slides.mpp, recipe.slides.assume_mpp, recipe.crops.size_px) == ("my-lab", 0.5, None, 64)
    assert recipe.class_list().names == ("background", "cytoplasm", "nucleus")
    assert recipe.fill == "background"
    assert (str(recipe.training.init), recipe.features.extractors) == ("cytology-base", ("ddpm", "filters"))
    checked = cytoseg("recipe", "check", "my lab.yaml")
    assert checked.exit_code == 0, checked.output
    assert "Next: cytoseg label-crops 'my lab.yaml'" in checked.stdout
    text = Path("my lab.yaml").read_text()
    assert all(
        "#" in line for line in text.splitlines() if line.strip() and not line.startswith("  - ") and ": " in line
    )


def test_all_can_be_said_by_options(cytoseg: CytosegCommand) -> None:
    result = cytoseg("recipe", "new", "a.yaml", "--folder", "slides", *GIVEN)
    assert result.exit_code == 0, result.output
    assert cytoseg("recipe", "check", "a.yaml").exit_code == 0
    again = cytoseg("recipe", "new", "a.yaml", "--folder", "slides", *GIVEN)
    assert again.exit_code == 2
    assert "a.yaml: already exists" in again.stderr


def test_slides_that_do_not_say_their_pixel_size(cytoseg: CytosegCommand) -> None:
    Path("plain").mkdir()
    dark = np.full((300, 400, 3), 245, np.uint8)
    dark[:200, :200] = (120, 60, 150)
    for name in "ab":
        Image.fromarray(dark).save(f"plain/{name}.png")
    result = _answer("\n", "plain.yaml", "--folder", "plain", "--classes", "a,b")
    assert "not stated (2)" in result.stdout
    assert "[none]" in result.stdout
    recipe = load_recipe("plain.yaml")
    assert (recipe.slides.mpp, recipe.fill, recipe.crops.size_px) == (None, None, 256)
    result = cytoseg("recipe", "new", "said.yaml", "--folder", "plain", "--mpp", "0,25", "--classes", "a,b")
    assert load_recipe("said.yaml").slides.assume_mpp == load_recipe("said.yaml").slides.mpp == 0.25
    for name in ("plain.yaml", "said.yaml"):
        assert cytoseg("recipe", "check", name).exit_code == 0


@pytest.mark.parametrize(
    ("mpp", "scale"), [("0.5", 1), ("0.37", 1), ("0.35", 0.5), ("0.25", 0.5), ("0.12", 0.25), ("2", 1)]
)
def test_nuclei_of_fine_scans_are_reduced_for_the_base_model(cytoseg: CytosegCommand, mpp: str, scale: float) -> None:
    result = cytoseg("recipe", "new", "a.yaml", "--folder", "slides", "--mpp", mpp, "--classes", "a,b")
    assert result.exit_code == 0, result.output
    assert load_recipe("a.yaml").features.scale == scale
    said = f"# nuclei of 8 um are {8 / float(mpp):.0f} px wide here, and the base model knows smaller ones"
    assert (said in Path("a.yaml").read_text()) == (scale != 1)


@pytest.mark.parametrize(
    "names",
    ["no, yes", 'Zelle: gross, "Kern", 细胞', ",".join(f"c{n}" for n in range(40)), "null, true", "1, 2", "- a, #b"],
)
def test_class_names_of_any_kind_survive(cytoseg: CytosegCommand, names: str) -> None:
    result = cytoseg("recipe", "new", "a.yaml", "--folder", "slides", "--mpp", "none", "--classes", names)
    assert result.exit_code == 0, result.output
    found = load_recipe("a.yaml").class_list()
    assert list(found.names) == [name.strip() for name in names.split(",")]
    assert len(set(found.colours)) == len(found)


def test_folders_of_any_name_are_found_again(cytoseg: CytosegCommand) -> None:
    """YAML takes some characters for line breaks that JSON leaves as they are, and refuses others."""
    for number, name in enumerate(("next\x85line", "line\u2028", "\x7f", "no\xa0break", "\ufeff", "👩\u200d⚕️ é")):
        Path(name).mkdir()
        shutil.copy("slides/dark_a.png", f"{name}/a.png")
        result = cytoseg("recipe", "new", f"{number}.yaml", "--folder", name, *GIVEN)
        assert result.exit_code == 0, result.output
        assert load_recipe(f"{number}.yaml").slides.folders == (Path(name),)


@pytest.mark.posix
def test_names_that_are_not_utf_8_are_refused(cytoseg: CytosegCommand) -> None:
    folder = os.fsdecode(b"Proben M\xfcller")
    Path(folder).mkdir()
    shutil.copy("slides/dark_a.png", f"{folder}/a.png")
    for options in (("--folder", folder, *GIVEN), ("--folder", "slides", "--mpp", "0.5", "--classes", "\udce4,b")):
        result = cytoseg("recipe", "new", "a.yaml", *options)
        assert result.exit_code == 2
        assert result.stderr.endswith(": is not UTF-8, as a recipe is. Use another name.\n")
        assert not Path("a.yaml").exists()


def test_a_folder_in_place_of_the_file_is_refused(cytoseg: CytosegCommand) -> None:
    for place in (".", "slides.d"):
        Path(place).mkdir(exist_ok=True)
        result = cytoseg("recipe", "new", place, "--folder", "slides", *GIVEN)
        assert (result.exit_code, result.stderr[:9]) == (2, "cytoseg: ")
        assert f"{place}: already exists. Choose another name" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--mpp", "much", "--classes", "a,b"), "--mpp 'much': write micrometres per pixel"),
        (("--mpp", "0", "--classes", "a,b"), "--mpp '0': write micrometres per pixel"),
        (("--mpp", "1e-9", "--classes", "a,b"), "--mpp '1e-9': write micrometres per pixel, 0.01 to 20, such as 0.5"),
        (("--mpp", "0.5", "--classes", "a"), "name at least two classes"),
        (("--mpp", "0.5", "--classes", "a,a"), "a name appears twice"),
        (("--mpp", "20", "--classes", "a,b"), "too small for training"),
        (("--mpp", "0.5"), "no terminal for questions, here for --classes. Give all answers as options: --folder"),
    ],
)
def test_wrong_answers_leave_nothing(cytoseg: CytosegCommand, options: tuple[str, ...], message: str) -> None:
    result = cytoseg("recipe", "new", "a.yaml", "--folder", "slides", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not Path("a.yaml").exists()
    missing = cytoseg("recipe", "new", "a.yaml", "--folder", "elsewhere", *GIVEN)
    assert "elsewhere: no such folder" in missing.stderr


def test_the_pixel_size_proposed_is_a_common_one(cytoseg: CytosegCommand) -> None:
    for number in range(12):  # eleven of .25, one outlier
        dots = 25_400 if number == 0 else 101_600
        Image.new("RGB", (80, 80), (90, 60, 120)).save(f"slides/more_{number:02}.png", dpi=(dots, dots))
    for path in Path("slides").glob("dark_*"):
        path.unlink()
    assert "[0.25]" in _answer("\n", "a.yaml", "--folder", "slides", "--classes", "a,b").stdout


def test_slides_that_cannot_be_opened_are_said_once(cytoseg: CytosegCommand) -> None:
    for path in Path("slides").iterdir():
        path.write_bytes(b"nothing")
    result = cytoseg("recipe", "new", "a.yaml", "--folder", "slides", *GIVEN)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
