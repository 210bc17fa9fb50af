from collections.abc import Callable

import pytest
import torch
from typer.testing import Result

from cytoseg.commands.unlabelled import unlabelled_slides
from cytoseg.errors import RecipeError
from cytoseg.recipe import load_recipe

WEIGHED = ("decoder.unlabelled=0.5", "decoder.size_px=32")


@pytest.mark.usefixtures("cytoseg")
def test_crops_of_the_slides_by_number() -> None:
    with unlabelled_slides(load_recipe("tiny.yaml", WEIGHED), test_slides=()) as found:
        assert found is not None
        assert found.weight == 0.5
        first, again = found.crop(7), found.crop(7)
    assert first.shape == (3, 32, 32)
    assert torch.equal(first, again)


@pytest.mark.usefixtures("cytoseg")
def test_no_weight_no_slides() -> None:
    with unlabelled_slides(load_recipe("tiny.yaml", ["slides.folders=[nowhere]"]), test_slides=()) as found:
        assert found is None


def test_test_slides_never_teach(cytoseg: Callable[..., Result]) -> None:
    assert cytoseg("recipe", "check", "tiny.yaml").exit_code == 0
    recipe = load_recipe("tiny.yaml", [*WEIGHED, 'labels.test_slides=["dark_a"]'])
    with unlabelled_slides(recipe, test_slides=()) as found:
        assert found is not None
    with (
        pytest.raises(RecipeError, match=r"decoder\.unlabelled: all 2 slides are test slides"),
        unlabelled_slides(recipe, test_slides={"dark_b"}),
    ):
        pass
