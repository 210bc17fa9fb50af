"""Redrawing a region of an image and keeping the rest."""

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from cytoseg.diffusion.add_noise import add_noise
from cytoseg.diffusion.sample import Guide, ddpm


def redraw(
    unet: nn.Module,
    picture: Tensor,
    region: Tensor,
    *,
    noises: Iterator[Tensor],
    alpha_bars: Tensor,
    objective: str,
    strength: float,
    steps: int,
    limit: float = 1.0,
    guide: Guide | None = None,
    on_step: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """Redraw a region, starting from the image with noise and restoring its surroundings at every step.

    Args:
        unet: The noise predictor, in evaluation mode.
        picture: (N, C, H, W) in [-1, 1].
        region: (H, W) bool, True where to draw.
        noises: Yields (N, C, H, W) standard normal.
        alpha_bars: (T,) from ``add_noise.alpha_bar``.
        objective: What the network predicts.
        strength: Share of the noise schedule to start from, above 0 to 1 (pure noise): less keeps more of the image.
        steps: Network evaluations.
        limit: Largest absolute value of an image in the network's space.
        guide: Steers the drawing; None draws from the model alone.
        on_step: Called with the number of steps done.

    Returns:
        (N, C, H, W), equal to the image outside the region.

    Source: Meng et al., SDEdit, ICLR 2022, for the start; Lugmayr et al., RePaint, CVPR 2022, for the surroundings,
    without its repeated steps.
    """
    begin = max(1, round(strength * (len(alpha_bars) - 1)))

    def noisy(t: int) -> Tensor:
        return add_noise(picture, float(alpha_bars[t]), next(noises).to(picture))

    def keep(xt: Tensor, t: int) -> Tensor:
        return torch.where(region, xt, noisy(t))

    drawn = ddpm(
        unet,
        itertools.chain([noisy(begin)], (noise.to(picture) for noise in noises)),
        alpha_bars=alpha_bars,
        objective=objective,
        steps=min(steps, begin + 1),
        limit=limit,
        on_step=on_step,
        begin=begin,
        keep=keep,
        guide=guide,
    )
    return torch.where(region, drawn, picture)
