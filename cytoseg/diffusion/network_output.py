"""What the output of a network means: its loss against the noise or image, and the variance of the reverse steps."""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytoseg.diffusion.add_noise import alpha_bar
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.mask_loss import MaskParts, mask_losses

VARIANCE_WEIGHT = 1e-3
"""Weight of the variational bound, the sum over all timesteps, beside the denoising loss (Nichol and Dhariwal 2021)."""

_HALF_BIN = 1 / 255
"""Half of a grey level, of images in [-1, 1]."""
_TINY = 1e-12


def loss_weights(architecture: Architecture) -> Tensor:
    """Return the loss weight of each timestep.

    The package weights pred_v and pred_x0 to match the loss of eps. Near T that weight is almost 0, but there a sample
    gets its colours, so such a network samples false colours. Here pred_v weights all timesteps equally, and pred_x0
    weights none less than 1.

    Args:
        architecture: Names objective, schedule and T.

    Returns:
        (T,) float32.

    Source: Salimans and Ho, Progressive Distillation, ICLR 2022, section 4 ("truncated SNR" for x0).
    """
    if architecture.objective != "pred_x0":
        return torch.ones(architecture.timesteps)
    bars = alpha_bar(architecture.schedule, architecture.timesteps)
    return (bars / (1.0 - bars)).clamp_min(1.0).float()


def crop_losses(diffusion: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, *, class_map: Tensor | None = None) -> Tensor:
    """Compute the training loss of each crop.

    The package's ``p_losses`` gives only the mean over the batch.

    Args:
        diffusion: From ``build_diffusion``.
        x0: (N, 3, H, W) float32 in [-1, 1].
        t: (N,) int64 timesteps.
        eps: (N, 3, H, W) standard normal.
        class_map: (N, K + 1, H, W) from ``class_map.one_hot_map``, for a network conditioned on it.

    Returns:
        (N,) float32: mean squared error of the network's target, weighted by ``loss_weights``.

    Source: Ho et al., Denoising Diffusion Probabilistic Models, NeurIPS 2020, equation 14.
    """
    process = cast(Any, diffusion)
    beside = () if class_map is None else (class_map,)
    return _denoising_losses(process, process.model(process.q_sample(x0, t, noise=eps), t, None, *beside), x0, t, eps)


def hybrid_losses(
    diffusion: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, *, parts: MaskParts
) -> tuple[Tensor, Tensor]:
    """Compute the denoising loss of each crop and the mask loss of each part, in one pass.

    Args:
        diffusion: From ``build_diffusion``, around a network with a mask head.
        x0: (N, 3, H, W) float32 in [-1, 1]; N is 0 if the denoising weight is 0.
        t: (N,) int64 timesteps.
        eps: (N, 3, H, W) standard normal.
        parts: M parts of labelled sources.

    Returns:
        (N,) and (M,) float32.
    """
    process = cast(Any, diffusion)
    predicted, scores = process.model(process.q_sample(x0, t, noise=eps), t, None, parts.pictures)
    return _denoising_losses(process, predicted, x0, t, eps), mask_losses(scores, parts)


def _denoising_losses(process: Any, predicted: Tensor, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    targets: dict[str, Callable[[], Tensor]] = {
        "pred_noise": lambda: eps,
        "pred_x0": lambda: x0,
        "pred_v": lambda: process.predict_v(x0, t, eps),
    }
    mean, v = split_output(predicted.float(), channels=x0.shape[1])
    error = F.mse_loss(mean, targets[process.objective](), reduction="none")
    per_crop: Tensor = error.flatten(1).mean(1) * process.loss_weight[t]
    if v is None:
        return per_crop
    bound: Tensor = variance_losses(v, mean, x0, eps, t=t, alpha_bars=process.alpha_bars)
    return per_crop + VARIANCE_WEIGHT * float(process.num_timesteps) * bound


def split_output(output: Tensor, *, channels: int) -> tuple[Tensor, Tensor | None]:
    """Separate a network's prediction of the image or its noise from that of the variance.

    Args:
        output: (N, C or 2 C, H, W).
        channels: C, of the image.

    Returns:
        (N, C, H, W), and v of the same shape; None for a network that does not learn the variance.
    """
    if output.shape[1] == channels:
        return output, None
    return output[:, :channels], output[:, channels:]


def log_variance(v: Tensor, alpha_bar_t: Tensor, alpha_bar_next: Tensor) -> Tensor:
    """Convert the network's output to the log variance of a reverse step, between the logs of the two bounds.

    Args:
        v: (N, C, H, W); -1 is the lower bound (the true posterior's variance), 1 the upper (the noise that the step
        removes).
        alpha_bar_t: abar at t, broadcastable to v.
        alpha_bar_next: abar at the next timestep towards the image; 1 after the last one, where the lower bound would
            be 0 and the upper one is used for both.

    Returns:
        (N, C, H, W) in nats.

    Source: Nichol and Dhariwal, Improved DDPM, ICML 2021, equation 15.
    """
    upper = 1.0 - alpha_bar_t / alpha_bar_next
    lower = torch.where(alpha_bar_next < 1.0, upper * (1.0 - alpha_bar_next) / (1.0 - alpha_bar_t), upper)
    share = (v + 1.0) / 2.0
    return share * upper.log().to(v) + (1.0 - share) * lower.log().to(v)


def variance_losses(v: Tensor, eps_output: Tensor, x0: Tensor, eps: Tensor, *, t: Tensor, alpha_bars: Tensor) -> Tensor:
    """Compute the term of the variational bound at the timestep of each crop; it trains the variance only.

    Args:
        v: (N, C, H, W), the variance part of the network's output at x_t.
        eps_output: (N, C, H, W), the eps that the network predicts; no gradient reaches it.
        x0: (N, C, H, W) in [-1, 1].
        eps: (N, C, H, W), the noise in x_t.
        t: (N,) int64 timesteps.
        alpha_bars: (T,) float64 from ``add_noise.alpha_bar``: the noise of the first steps is lost in float32.

    Returns:
        (N,) float32 in bits per value: the divergence of the predicted step from the true one; at t = 0 the negative
        log likelihood of the crop's grey levels.

    Source: Nichol and Dhariwal, Improved DDPM, ICML 2021, equations 4 to 7 and 16.
    """
    table = alpha_bars.to(x0.device)
    before = torch.cat([torch.ones_like(table[:1]), table[:-1]])
    here, following = (values[t][:, None, None, None] for values in (table, before))
    beta = 1.0 - here / following
    predicted = log_variance(v, here, following)
    # The means are linear in eps, so they differ by its error times a factor.
    apart = (beta / ((1.0 - here) * (1.0 - beta)).sqrt()).to(x0) * (eps - eps_output.detach())
    # At t = 0 the true step has no noise; the likelihood replaces the divergence.
    true = (beta * (1.0 - following) / (1.0 - here)).clamp_min(_TINY).log().to(x0)
    divergence = 0.5 * (predicted - true - 1.0 + (true - predicted).exp() + apart.square() * (-predicted).exp())
    unlikely = _surprise(x0, x0 + apart, predicted)
    nats = torch.where(t[:, None, None, None] == 0, unlikely, divergence)
    bits: Tensor = nats.flatten(1).mean(1) / math.log(2.0)
    return bits


def _surprise(x0: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Compute minus the log probability of each grey level under a Gaussian; the first and last extend to infinity."""
    scale = (-0.5 * log_var).exp()
    below = torch.where(x0 < -1 + _HALF_BIN, -torch.inf, (x0 - _HALF_BIN - mean) * scale)
    above = torch.where(x0 > 1 - _HALF_BIN, torch.inf, (x0 + _HALF_BIN - mean) * scale)
    inside: Tensor = torch.special.ndtr(above) - torch.special.ndtr(below)
    return -inside.clamp_min(_TINY).log()
