"""Samplers: DDIM (deterministic) and DDPM (ancestral)."""

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from cytoseg.diffusion.network_output import log_variance, split_output
from cytoseg.seeds import generator_for

Keep = Callable[[Tensor, int], Tensor]
"""From x_t (N, C, H, W) and t to its replacement."""
Guide = Callable[[Tensor, int], Tensor]
"""From x_t (N, C, H, W) and t to the scaled gradient of the desired property with respect to x_t, (N, C, H, W)."""


def predict_x0_and_noise(
    output: Tensor, xt: Tensor, alpha_bar_t: Tensor, *, objective: str, limit: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Convert the network's output to x0 and eps.

    Args:
        output: (N, C, H, W), the network's output at x_t.
        xt: (N, C, H, W).
        alpha_bar_t: Scalar tensor, abar at t.
        objective: ``pred_noise``, ``pred_x0`` or ``pred_v``.
        limit: Largest absolute value of x0, from ``Space.limit``.

    Returns:
        x0 clipped to [-limit, limit], and the matching eps.
    """
    signal, noise = alpha_bar_t.sqrt(), (1.0 - alpha_bar_t).sqrt()
    if objective == "pred_noise":
        x0 = (xt - noise * output) / signal
    elif objective == "pred_v":
        x0 = signal * xt - noise * output
    else:
        x0 = output
    x0 = x0.clamp(-limit, limit)
    return x0, (xt - signal * x0) / noise


def noise_of(seed: int, numbers: Sequence[int], *, size_px: int, channels: int = 3) -> Iterator[Tensor]:
    """Yield standard normal noise for samples: first the starting noise, then one tensor per step.

    Args:
        seed: With its number it determines a sample's noise, independent of the batch.
        numbers: N sample numbers.
        size_px: Side of a sample.
        channels: C of a sample.

    Yields:
        (N, C, size, size) float32 on the CPU.
    """
    streams = [generator_for(seed, number, what="sample") for number in numbers]
    while True:
        yield torch.stack([torch.randn(channels, size_px, size_px, generator=stream) for stream in streams])


def starting_noise(seed: int, count: int, *, size_px: int, channels: int = 3) -> Tensor:
    """Draw (count, C, size, size) standard normal noise; sample i is a function of (seed, i) only."""
    return next(noise_of(seed, range(count), size_px=size_px, channels=channels))


@torch.inference_mode()
def ddim(
    unet: nn.Module,
    noise: Tensor,
    *,
    alpha_bars: Tensor,
    objective: str,
    steps: int,
    limit: float = 1.0,
    on_step: Callable[[int], None] = lambda _: None,
    guide: Guide | None = None,
) -> Tensor:
    """Denoise along ``steps`` evenly spaced timesteps without adding noise (eta = 0).

    Use it for few steps: 50 are usually enough.

    Args:
        unet: The noise predictor, in evaluation mode, on the device of ``noise``.
        noise: (N, C, H, W), x at the last timestep.
        alpha_bars: (T,) from ``add_noise.alpha_bar``.
        objective: What the network predicts.
        steps: Network evaluations, 1 to T.
        limit: Largest absolute value of x0, from ``Space.limit``.
        on_step: Called with the number of steps done.
        guide: Steers every step but the last; None draws from the model alone.

    Returns:
        (N, C, H, W) in [-limit, limit]; NaN where the network's output was not finite.

    Source: Song et al., Denoising Diffusion Implicit Models, ICLR 2021, equation 12; for the guide Dhariwal and Nichol,
    Diffusion Models Beat GANs on Image Synthesis, NeurIPS 2021, algorithm 2.
    """
    table = alpha_bars.to(noise)
    xt, x0 = noise, noise
    for done, (t, following) in enumerate(_path(len(table), steps), start=1):
        output, _ = network_output(unet, xt, t)
        x0, eps = predict_x0_and_noise(output, xt, table[t], objective=objective, limit=limit)
        if following is not None:
            if guide is not None:
                eps = eps - (1.0 - table[t]).sqrt() * guide(xt, t)
                x0, eps = predict_x0_and_noise(eps, xt, table[t], objective="pred_noise", limit=limit)
            xt = table[following].sqrt() * x0 + (1.0 - table[following]).sqrt() * eps
        on_step(done)
    return x0


@torch.inference_mode()
def ddpm(
    unet: nn.Module,
    noises: Iterator[Tensor],
    *,
    alpha_bars: Tensor,
    objective: str,
    steps: int,
    limit: float = 1.0,
    on_step: Callable[[int], None] = lambda _: None,
    guide: Guide | None = None,
    begin: int | None = None,
    keep: Keep | None = None,
) -> Tensor:
    """Denoise by ancestral sampling along ``steps`` evenly spaced timesteps.

    The variance of a step is the learned one, otherwise the smaller of its two bounds. All T steps sample as in
    training; with fewer each step removes the noise of the timesteps it skips.

    Args:
        unet: The noise predictor, in evaluation mode, on the device of the noise.
        noises: Yields (N, C, H, W) standard normal: first x at the last timestep, then the noise of each step but the
            last.
        alpha_bars: (T,) from ``add_noise.alpha_bar``.
        objective: What the network predicts.
        steps: Network evaluations, 1 to T.
        limit: Largest absolute value of x0, from ``Space.limit``.
        on_step: Called with the number of steps done.
        guide: Shifts the mean of every step but the last; None draws from the model alone.
        begin: Timestep of the first x; the last by default.
        keep: Replaces parts of x after every step but the last, such as those that must not change; None changes
            nothing.

    Returns:
        (N, C, H, W) in [-limit, limit]; NaN where the network's output was not finite.

    Source: Ho et al., Denoising Diffusion Probabilistic Models, NeurIPS 2020, equations 6 and 7; for fewer steps Nichol
    and Dhariwal, Improved DDPM, ICML 2021, equation 19; for the guide Dhariwal and Nichol, Diffusion Models Beat GANs
    on Image Synthesis, NeurIPS 2021, algorithm 1.
    """
    xt = next(noises)
    table, x0 = alpha_bars.double(), xt
    for done, (t, following) in enumerate(_path(len(table) if begin is None else begin + 1, steps), start=1):
        output, v = network_output(unet, xt, t)
        x0, _ = predict_x0_and_noise(output, xt, table[t].to(xt), objective=objective, limit=limit)
        if following is not None:
            alpha, alpha_bar_t, alpha_bar_next = table[t] / table[following], table[t], table[following]
            of_x0 = alpha_bar_next.sqrt() * (1.0 - alpha) / (1.0 - alpha_bar_t)
            of_xt = alpha.sqrt() * (1.0 - alpha_bar_next) / (1.0 - alpha_bar_t)
            deviation: float | Tensor
            if v is None:
                deviation = float(((1.0 - alpha) * (1.0 - alpha_bar_next) / (1.0 - alpha_bar_t)).sqrt())
            else:
                deviation = (0.5 * log_variance(v, alpha_bar_t, alpha_bar_next)).exp()
            mean = float(of_x0) * x0 + float(of_xt) * xt
            if guide is not None:
                mean = mean + deviation**2 * guide(xt, t)
            xt = mean + deviation * next(noises)
            xt = xt if keep is None else keep(xt, following)
        on_step(done)
    return x0


def _path(timesteps: int, steps: int) -> Iterator[tuple[int, int | None]]:
    """Return consecutive pairs of timesteps from noise to image."""
    times: list[int] = torch.linspace(timesteps - 1, 0, steps).round().long().tolist()
    return zip(times, [*times[1:], None], strict=True)


def network_output(unet: nn.Module, xt: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
    """Return the network's prediction, (N, C, H, W), NaN where not finite, and its part for the variance, if any."""
    output = cast(Tensor, unet(xt, torch.full((len(xt),), t, device=xt.device))).float()
    # Clipping x0 would make images of infinities; NaN stays and spreads.
    return split_output(torch.where(output.isfinite(), output, torch.nan), channels=xt.shape[1])
