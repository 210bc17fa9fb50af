"""How badly a diffusion model denoises each pixel of an image."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cytoseg.diffusion.add_noise import add_noise, alpha_bar
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.noise_schedules import signal_shares, timesteps_at_snr
from cytoseg.diffusion.redraw import redraw
from cytoseg.diffusion.sample import network_output, predict_x0_and_noise
from cytoseg.seeds import generator_for

SEED = 0
"""Seed of the noise: the same for every tile, so that equal tiles have equal errors."""
REDRAW_STEPS = 10
"""Network evaluations to redraw a part of an image."""

_REFERENCE = ("linear", 1000)
"""Schedule and number of timesteps that ranges of t refer to."""


@dataclass(frozen=True, eq=False)
class Denoiser:
    """A diffusion model on its device.

    Attributes:
        unet: The noise predictor, in evaluation mode.
        architecture: Its architecture.
        device: Where it is.
    """

    unet: nn.Module
    architecture: Architecture
    device: torch.device

    def timesteps(self, reference: Sequence[int]) -> tuple[int, ...]:
        """Return the timesteps of this model that are as noisy as ``reference`` of 1000 on the linear schedule."""
        shares = signal_shares(*_REFERENCE)
        ratios = [float(10 * torch.tensor(shares[t] / (1 - shares[t])).log10()) for t in reference]
        own = signal_shares(self.architecture.schedule, self.architecture.timesteps)
        return tuple(dict.fromkeys(timesteps_at_snr(own, ratios)))

    @torch.inference_mode()
    def error(self, pictures: Tensor, timesteps: Sequence[int]) -> Tensor:
        """Measure the squared error of the predicted noise: the pixel's term of the variational bound, up to a factor.

        Args:
            pictures: (N, C, H, W) in [-1, 1], on the model's device.
            timesteps: Of this model; the mean over them is returned.

        Returns:
            (N, H, W) float32, the mean over the channels; NaN where the network's output was not finite.

        Source: Pinaya et al., Fast Unsupervised Brain Anomaly Detection and Segmentation with Diffusion Models, MICCAI
        2022, in pixels instead of latents.
        """
        bars = self._bars().to(pictures)
        total = torch.zeros_like(pictures[:, 0])
        for t in timesteps:
            generator = generator_for(SEED, t, what="denoising error")
            eps = torch.randn(pictures.shape[1:], generator=generator).to(pictures)
            xt = add_noise(pictures, float(bars[t]), eps)
            output, _ = network_output(self.unet, xt, t)
            _, found = predict_x0_and_noise(output, xt, bars[t], objective=self.architecture.objective)
            total += (found - eps).square().mean(1)
        return total / len(timesteps)

    def residual(self, pictures: Tensor, region: Tensor, begin: int) -> Tensor:
        """Redraw a region of images from noise, and measure how different it was.

        Args:
            pictures: (N, C, H, W) in [-1, 1], on the model's device.
            region: (N, H, W) bool, what to redraw; the rest is kept, so that it determines what belongs there.
            begin: Timestep of the noise.

        Returns:
            (N, H, W) float32, the absolute difference as a fraction of the range, the mean over the channels; 0 outside
            the region.
        """
        bars = self._bars()
        generator = generator_for(SEED, 0, what="redraw")
        drawn = redraw(
            self.unet,
            pictures,
            region[:, None],
            noises=iter(lambda: torch.randn(pictures.shape[1:], generator=generator).to(pictures), None),
            alpha_bars=bars,
            objective=self.architecture.objective,
            strength=begin / (len(bars) - 1),
            steps=REDRAW_STEPS,
        )
        return (drawn - pictures).abs().mean(1) / 2

    def _bars(self) -> Tensor:
        return alpha_bar(self.architecture.schedule, self.architecture.timesteps)
