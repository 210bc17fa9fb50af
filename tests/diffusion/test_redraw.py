from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from cytoseg.diffusion.add_noise import alpha_bar
from cytoseg.diffusion.redraw import redraw
from cytoseg.diffusion.sample import noise_of

BARS = alpha_bar("linear", 200)
MEAN, SPREAD = 0.2, 0.1


class OfNormalData(nn.Module):
    """The exact noise predictor of pixels that are independent and normal."""

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        bar = BARS[t][:, None, None, None].to(xt)
        return (1 - bar).sqrt() * (xt - bar.sqrt() * MEAN) / (bar * SPREAD**2 + 1 - bar)


def _redrawn(picture: Tensor, region: Tensor, *, strength: float, seed: int = 0) -> Tensor:
    return redraw(
        OfNormalData(),
        picture,
        region,
        noises=noise_of(seed, range(len(picture)), size_px=picture.shape[-1]),
        alpha_bars=BARS,
        objective="pred_noise",
        strength=strength,
        steps=200,
    )


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0])
def test_the_region_is_drawn_as_far_from_the_picture_as_the_noise_allows(strength: float) -> None:
    picture = torch.full((4, 3, 32, 32), -0.6)
    region = torch.zeros(32, 32, dtype=torch.bool)
    region[:, 16:] = True
    drawn = _redrawn(picture, region, strength=strength)
    bar = float(BARS[round(strength * 199)])
    kept = SPREAD**2 * bar / (SPREAD**2 * bar + 1 - bar)  # share of the image's distance that the noise leaves
    inside = drawn[..., 16:]
    assert float(inside.mean()) == pytest.approx(MEAN + kept * (-0.6 - MEAN), abs=0.02)
    assert torch.equal(drawn[..., :16], picture[..., :16])


def test_redrawn_completely_it_has_the_spread_of_the_data() -> None:
    everywhere = torch.ones(32, 32, dtype=torch.bool)
    drawn = _redrawn(torch.full((4, 3, 32, 32), -0.6), everywhere, strength=1.0)
    # The smaller of the two bounds of a step's variance costs some of it in 200 steps.
    assert float(drawn.std()) == pytest.approx(SPREAD, rel=0.2)


def test_the_network_sees_the_surroundings_with_the_noise_of_each_step() -> None:
    picture, region = torch.full((1, 3, 32, 32), -0.6), torch.zeros(32, 32, dtype=torch.bool)
    region[0, 0] = True
    seen: list[tuple[int, float, float]] = []

    class Watching(OfNormalData):
        def forward(self, xt: Tensor, t: Tensor) -> Tensor:
            outside = xt[..., 1:, :]
            seen.append((int(t[0]), float(outside.mean()), float(outside.std())))
            return super().forward(xt, t)

    redraw(
        Watching(),
        picture,
        region,
        noises=noise_of(0, [0], size_px=32),
        alpha_bars=BARS,
        objective="pred_noise",
        strength=0.5,
        steps=5,
    )
    assert [t for t, _, _ in seen] == [100, 75, 50, 25, 0]
    for t, mean, spread in seen:
        bar = float(BARS[t])
        assert mean == pytest.approx(-0.6 * bar**0.5, abs=0.05)
        assert spread == pytest.approx((1 - bar) ** 0.5, rel=0.1)


def test_the_least_strength_takes_two_steps() -> None:
    def none() -> Iterator[Tensor]:
        while True:
            yield torch.zeros(1, 3, 4, 4)

    picture, everywhere = torch.full((1, 3, 4, 4), 0.2), torch.ones(4, 4, dtype=torch.bool)
    steps: list[int] = []
    redraw(
        OfNormalData(),
        picture,
        everywhere,
        noises=none(),
        alpha_bars=BARS,
        objective="pred_noise",
        strength=0.0,
        steps=50,
        on_step=steps.append,
    )
    assert steps == [1, 2]
