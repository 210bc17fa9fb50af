"""Input refused by ``cytoseg select-features``; its results are in tests/end_to_end/test_select_features.py."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from cytoseg.commands.select_features import _real, parse_timesteps
from cytoseg.errors import LabelError, RecipeError
from cytoseg.labels.index import LabelledCrop
from cytoseg.recipe import load_recipe
from cytoseg.slides.generated_mark import drawn_mark

CytosegCommand = Callable[..., Result]


def test_candidates_are_those_the_network_has_and_the_recipes_own(cytoseg: CytosegCommand) -> None:
    recipe = load_recipe("tiny.yaml", ["features.timesteps=[7]"])
    assert parse_timesteps(None, recipe) == (0, 7, 10, 50, 100, 150)
    assert parse_timesteps("50, 3,50", recipe) == (3, 7, 50)
    short = load_recipe("tiny.yaml", ["features.timesteps=[7]", "diffusion.timesteps=50", "diffusion.schedule=cosine"])
    assert parse_timesteps(None, short) == (0, 7, 10)


@pytest.mark.parametrize("text", ["1000", "0,1000", "-1", "1;2", "", "1,,2", "0.5"])
def test_what_is_no_timestep_is_refused(cytoseg: CytosegCommand, text: str) -> None:
    with pytest.raises(RecipeError, match=r"^--timesteps .*: write whole numbers from 0 to 999, such as 0,50\.$"):
        parse_timesteps(text, load_recipe("tiny.yaml"))


def test_features_are_compared_on_real_crops_alone(capsys: pytest.CaptureFixture[str]) -> None:
    real, made = (
        LabelledCrop(Path("labels"), name, name, 4, 4, "x.json", "", "", {}, 0, made=mark)
        for name, mark in (("a_0", None), ("drawn", drawn_mark("a sample")))
    )
    assert _real((real, made, made)) == (real,)
    assert "Left out 2 train crops that a diffusion model drew or edited." in capsys.readouterr().out
    assert _real((real,)) == (real,)
    assert capsys.readouterr().out == ""
    with pytest.raises(
        LabelError, match=r"^select-features: all 2 train crops were drawn or edited by a diffusion mod"
    ):
        _real((made, made))


def test_a_wrong_option_is_one_line_and_writes_nothing(cytoseg: CytosegCommand) -> None:
    result = cytoseg("select-features", "tiny.yaml", "--memory", "much")
    assert result.exit_code == 2
    assert result.stderr == "cytoseg: --memory 'much': write a number and G or M, such as 4G, 3.5G or 500M.\n"
    assert not Path("runs").exists()
