import json
from pathlib import Path

import pytest

from cytoseg.features.fitting_scale import best_scale, fits, known_sizes, middle_px
from cytoseg.shipped import find_base_model

KNOWN = (7.0, 18.0)


def _state(*sources: dict[str, float | None]) -> dict[str, object]:
    return {"recipe": {"labels": {"sources": sources}}}


def test_the_sizes_of_all_sources_with_their_spread() -> None:
    first, second = {"object_px": 10.0, "spread": 2.0}, {"object_px": 12.0, "spread": 1.5}
    assert known_sizes(_state(first, second, {"object_px": None, "spread": 1.0})) == (5.0, 20.0)


@pytest.mark.parametrize("state", [{}, _state(), _state({"object_px": None}), _state({"px": 3.0}), {"recipe": None}])
def test_unknown_sizes(state: dict[str, object]) -> None:
    assert known_sizes(state) is None


def test_those_of_the_shipped_base_model() -> None:
    state = json.loads((find_base_model(Path("cytology-base")) / "state.json").read_text())
    assert known_sizes(state) == pytest.approx((6.9, 17.6), abs=0.1)


@pytest.mark.parametrize(("px", "fitting"), [(5.5, False), (5.7, True), (22.4, True), (22.6, False)])
def test_a_quarter_more_or_less_does_no_harm(px: float, fitting: bool) -> None:
    assert fits(px, KNOWN) == fitting


# The image is changed as little as possible; 200 px and 1 px fit at no scale.
@pytest.mark.parametrize(
    ("px", "scale"), [(10, 1), (22, 1), (23, 0.5), (44, 0.5), (46, 0.25), (200, 0.25), (5, 2), (2, 4), (1, 4)]
)
def test_the_scale_for_a_size(px: float, scale: float) -> None:
    assert best_scale(px, KNOWN) == scale


def test_the_middle() -> None:
    assert middle_px((8.0, 18.0)) == 12.0
