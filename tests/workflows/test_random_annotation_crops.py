"""Random crops to annotate from folders of small pictures of every size."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytoseg.errors import SlideError
from cytoseg.formats.sidecar import Cut, write_sidecar
from cytoseg.geometry import Region
from cytoseg.recipe import dump_recipe, load_recipe
from cytoseg.workflows.annotating import Annotating
from cytoseg.workflows.random_annotation_crops import RandomAnnotationCrops

SIDES = {"cell [1]": 60, "Zelle ü__2": 90, "large": 300}


@pytest.fixture
def crops(tmp_path: Path) -> RandomAnnotationCrops:
    """Crops of 256 px of a run over pictures of 60, 90 and 300 px, one channel among them, with unusual names."""
    for number, (name, side) in enumerate(SIDES.items()):
        noise = np.random.default_rng(number).integers(0, 200, (side, side) if number else (side, side, 3))
        (tmp_path / "slides").mkdir(exist_ok=True)
        Image.fromarray(noise.astype(np.uint8)).save(tmp_path / "slides" / f"{name}.png")
    given = [f"folder={tmp_path}", f"slides.folders=[{tmp_path / 'slides'}]", "slides.mpp=null", "crops.size_px=56"]
    recipe = load_recipe("quickstart", [*given, "labels.crop_px=256"])
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    return RandomAnnotationCrops(Annotating(tmp_path))


@pytest.mark.slow
def test_every_picture_gives_a_crop_as_large_as_fits(crops: RandomAnnotationCrops, tmp_path: Path) -> None:
    # Marks of a part of a picture begin at the same pixel as a crop of all of it.
    write_sidecar(tmp_path / "to_label" / "cell [1]_0_0.png", Cut("cell [1]", Region(0, 0, 40, 40), None))
    Image.new("RGB", (40, 40)).save(tmp_path / "to_label" / "cell [1]_0_0.png")
    found = set[tuple[str, tuple[int, int]]]()
    with pytest.raises(SlideError, match="held glass, or lay on test slides or on other crops"):
        _cut_all(crops, found)
    assert found == {("Zelle ü__2", (90, 90)), ("large", (256, 256))}


def _cut_all(crops: RandomAnnotationCrops, found: set[tuple[str, tuple[int, int]]]) -> None:
    for _ in range(12):
        path = crops.cut()
        with Image.open(path) as picture:
            found.add((path.stem.rsplit("_", 2)[0], picture.size))
