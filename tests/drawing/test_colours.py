import pytest

from cytoseg.drawing.colours import MIN_DISTANCE, confusable
from cytoseg.recipe import load_recipe

OKABE_ITO = ("#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
RED, GREEN = (214, 39, 40), (44, 160, 44)
"""Of a widespread palette, which were not chosen for colour-blind eyes."""


def _rgb(text: str) -> tuple[int, ...]:
    return tuple(int(text[place : place + 2], 16) for place in (1, 3, 5))


def test_red_and_green_are_one_to_eyes_without_green_cones() -> None:
    assert confusable([RED, (0, 0, 255), GREEN]) == [(0, 2)]


def test_a_palette_for_colour_blind_people_is_distinguishable() -> None:
    assert confusable([_rgb(text) for text in OKABE_ITO]) == []


def test_greys_a_step_apart_are_one_to_everybody() -> None:
    # In Oklab the lightness of a grey is the cube root of its linear value: 0.5999, 0.6032 and 0.6960.
    assert confusable([(128, 128, 128), (129, 129, 129), (157, 157, 157)]) == [(0, 1)]
    assert 0.6032 - 0.5999 < MIN_DISTANCE < 0.6960 - 0.6032


def test_nothing_is_confused_with_nothing() -> None:
    assert confusable([]) == confusable([RED]) == []


@pytest.mark.parametrize("name", ["cervical", "lbc", "quickstart"])
def test_the_classes_of_our_recipes_are_distinguishable(name: str) -> None:
    assert confusable(load_recipe(name).class_list().colours) == []
