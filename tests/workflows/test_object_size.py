"""Advice where nuclei have another size than the base model was trained on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.draw import disk

from cytoseg.recipe import Recipe, load_recipe
from cytoseg.shipped import find_base_model
from cytoseg.workflows.object_size import median_diameter_px, size_advice

NUCLEUS = 2


@dataclass(frozen=True)
class Crop:
    """Cytoplasm with three nuclei of one diameter, and a speck that is no object."""

    diameter: int

    def label_map(self) -> NDArray[np.uint8]:
        ids = np.ones((100, 300), np.uint8)
        for x in (50, 150, 250):
            ids[disk((50, x), self.diameter / 2)] = NUCLEUS
        ids[0, 0] = NUCLEUS
        return ids


def _advice(diameter: int, *overrides: str, recipe: str = "quickstart") -> str:
    loaded: Recipe = load_recipe(recipe, list(overrides))
    return size_advice(loaded, [Crop(diameter).label_map()], find_base_model(Path("cytology-base")))


@pytest.mark.parametrize("diameter", [10, 20, 40])
def test_objects_are_measured_by_their_median_area(diameter: int) -> None:
    ids = Crop(diameter).label_map()
    assert median_diameter_px([ids == NUCLEUS]) == pytest.approx(diameter, rel=0.07)
    assert median_diameter_px([ids == 9]) is None


# cytology-base was trained on 6.9 to 17.6 px; a quarter more does no harm.
@pytest.mark.parametrize("diameter", [7, 9, 18, 21])
def test_sizes_near_those_of_the_training_need_no_advice(diameter: int) -> None:
    assert _advice(diameter) == ""


@pytest.mark.parametrize(("diameter", "scale", "wide"), [(30, 0.5, 15), (60, 0.25, 15)])
def test_large_nuclei_are_to_be_reduced(diameter: int, scale: float, wide: int) -> None:
    said = _advice(diameter)
    assert said == (
        f"Objects of the class nucleus are about {diameter} px wide in the train crops; the diffusion model was "
        "trained on objects of 7 to 18 px and finds others less well. "
        f"Try features.scale={scale}, which makes them {wide} px wide for it."
    )
    assert _advice(diameter, f"features.scale={scale}") == ""


def test_small_nuclei_are_to_be_enlarged() -> None:
    assert _advice(4).endswith(
        "are about 3 px wide in the train crops; the diffusion model was trained on objects of 7 to 18 px "
        "and finds others less well. Try features.scale=2, which makes them 7 px wide for it."
    )


@pytest.mark.parametrize("kind", ["interpreter.kind=decoder", "interpreter.kind=student"])
def test_a_network_is_to_get_crops_of_another_resolution(kind: str) -> None:
    assert _advice(33, kind).endswith("Crops cut at 3.0 times the slides.mpp would fit it.")


def test_nothing_is_compared_without_nuclei_or_their_class() -> None:
    assert _advice(60, "objects.nucleus=kernel") == ""
    assert size_advice(load_recipe("quickstart", []), [], find_base_model(Path("cytology-base"))) == ""


def test_a_network_without_sources_is_not_compared() -> None:
    recipe = load_recipe("quickstart", [])
    assert size_advice(recipe, [Crop(60)], find_base_model(Path("lbc-base"))) == ""  # type: ignore[list-item]
