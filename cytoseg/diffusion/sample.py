"""Drawing samples: the deterministic DDIM sampler."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cytoseg.devices import generator_for


def predict_x0_and_noise(output: Tensor, xt: Tensor, alpha_bar_t: Tensor, *, objective: str) -> tuple[Tensor, Tensor]:
    """Turn what the network predicts into x0 and eps.

    Args:
        output: (N, 3, H, W), the network's output at x_t.
        xt: (N, 3, H, W).
        alpha_bar_t: Scalar tensor, abar at t.
        objective: ``pred_noise``, ``pred_x0`` or ``pred_v``.

    Returns:
        x0, clipped to [-1, 1], and the eps that belongs to the clipped x0.
    """
    signal, noise = alpha_bar_t.sqrt(), (1.0 - alpha_bar_t).sqrt()
    if objective == "pred_noise":
        x0 = (xt - noise * output) / signal
    elif objective == "pred_v":
        x0 = signal * xt - noise * output
    else:
        x0 = output
    x0 = x0.clamp(-1.0, 1.0)
    return x0, (xt - signal * x0) / noise


def starting_noise(seed: int, count: int, *, size_px: int) -> Tensor:
    """Draw (count, 3, size, size) standard normal noise; sample i is a function of (seed, i) only."""
    draw = [torch.randn(3, size_px, size_px, generator=generator_for(seed, i, what="sample")) for i in range(count)]
    return torch.stack(draw)


@torch.inference_mode()
def ddim(
    unet: nn.Module,
    noise: Tensor,
    *,
    alpha_bars: Tensor,
    objective: str,
    steps: int,
    on_step: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """Denoise along ``steps`` evenly spaced timesteps without adding noise (eta = 0).

    Args:
        unet: The noise predictor, in evaluation mode, on the device of ``noise``.
        noise: (N, 3, H, W), x at the last timestep.
        alpha_bars: (T,) as ``schedule.alpha_bar`` gives it.
        objective: What the network predicts.
        steps: Network evaluations.
        on_step: Told the number of steps done.

    Returns:
        (N, 3, H, W) in [-1, 1].

    Source: Song et al., Denoising Diffusion Implicit Models, ICLR 2021, equation 12.
    """
    table = alpha_bars.to(noise)
    times = torch.linspace(len(table) - 1, 0, steps).round().long().tolist()
    xt, x0 = noise, noise
    for done, (t, following) in enumerate(zip(times, [*times[1:], None], strict=True), start=1):
        output = unet(xt, torch.full((len(xt),), t, device=xt.device)).float()
        x0, eps = predict_x0_and_noise(output, xt, table[t], objective=objective)
        if following is not None:
            xt = table[following].sqrt() * x0 + (1.0 - table[following]).sqrt() * eps
        on_step(done)
    return x0
