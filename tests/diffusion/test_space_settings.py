from typing import Any

import pytest

from cytoseg.diffusion.space_settings import PIXELS, SpaceSection, SpaceShape, space_from_json


def test_only_what_decides_the_weights_is_kept_and_pixels_are_always_the_same() -> None:
    assert SpaceSection("kl", 4, 16, crops=7, rate=0.1).shape == SpaceShape("kl", 4, 16)
    assert SpaceSection("pixel", 4, 16).shape == PIXELS
    assert (PIXELS.downsample, SpaceShape("vq", 4).downsample) == (1, 4)


def test_a_checkpoint_says_its_space() -> None:
    assert space_from_json({"kind": "vq", "factor": 4, "dim": 32}) == SpaceShape("vq", 4, 32)


@pytest.mark.parametrize(
    "changed", [{"kind": "pixel"}, {"factor": 3}, {"factor": 2.0}, {"dim": 12}, {"dim": 1e9}, {"dim": True}]
)
def test_anything_else_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not the space"):
        space_from_json({"kind": "kl", "factor": 2, "dim": 8, **changed})
