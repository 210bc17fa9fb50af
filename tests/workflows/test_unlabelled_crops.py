import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

from cytoseg.errors import RecipeError
from cytoseg.recipe import load_recipe
from cytoseg.workflows.unlabelled_crops import unlabelled_crops, unlabelled_inputs, unlabelled_slides

WEIGHED = ("decoder.unlabelled=0.5", "decoder.size_px=32")


@pytest.fixture
def labelled(cytoseg: Callable[..., Result]) -> None:
    """Imported labels of the two slides, dark_a and dark_b."""
    for slide in ("dark_a", "dark_b"):
        for folder in ("images", "masks"):
            Path("source", folder).mkdir(parents=True, exist_ok=True)
            pixels = np.eye(16, dtype=np.uint8) if folder == "masks" else np.full((16, 16, 3), 200, np.uint8)
            Image.fromarray(pixels).save(Path("source", folder, f"{slide}.png"))
    assert cytoseg("label-import", "source", "--recipe", "tiny.yaml").exit_code == 0


@pytest.mark.usefixtures("labelled")
def test_crops_of_the_slides_by_number() -> None:
    with unlabelled_slides(load_recipe("tiny.yaml", WEIGHED)) as found:
        assert found is not None
        assert found.weight == 0.5
        first, again = found.crop(7), found.crop(7)
    assert first.shape == (3, 32, 32)
    assert torch.equal(first, again)


@pytest.mark.usefixtures("cytoseg")
def test_no_weight_no_slides() -> None:
    with unlabelled_slides(load_recipe("tiny.yaml", ["slides.folders=[nowhere]"])) as found:
        assert found is None
    with unlabelled_crops(load_recipe("tiny.yaml", ["slides.folders=[]"]), size_px=32) as crop:
        assert crop is None
    with (
        pytest.raises(RecipeError, match=r"decoder\.unlabelled: slides\.folders names no slides"),
        unlabelled_slides(load_recipe("tiny.yaml", [*WEIGHED, "slides.folders=[]"])),
    ):
        pass


@pytest.mark.usefixtures("labelled")
def test_test_slides_never_teach() -> None:
    recipe = load_recipe("tiny.yaml", [*WEIGHED, 'labels.test_slides=["dark_a"]'])
    with unlabelled_slides(recipe) as found:
        assert found is not None
    Path("slides/dark_b.png").unlink()
    with pytest.raises(RecipeError, match=r"slides\.folders: all 1 slides are test slides"), unlabelled_slides(recipe):
        pass


@pytest.mark.usefixtures("cytoseg")
def test_an_added_or_replaced_slide_changes_the_inputs() -> None:
    def inputs(*changes: str) -> object:
        return unlabelled_inputs(load_recipe("tiny.yaml", changes))

    first = inputs()
    assert inputs() == first
    assert inputs('labels.test_slides=["dark_a"]') != first
    path = Path("slides/dark_a.png")
    before = path.stat()
    Image.new("RGB", (90, 90), "purple").save(path)
    os.utime(path, (before.st_atime, before.st_mtime + 2))
    replaced = inputs()
    assert replaced != first
    Path("slides/dark_c.png").write_bytes(path.read_bytes())
    assert inputs() != replaced
    assert inputs("slides.folders=[nowhere]")  # the training says that it is missing
