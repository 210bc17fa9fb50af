"""SegDiff: a diffusion model that draws class maps of a given image."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytoseg.devices import autocast
from cytoseg.diffusion.add_noise import alpha_bar
from cytoseg.diffusion.adm import AdmShape, AdmUnet
from cytoseg.diffusion.adm_settings import AdmSettings
from cytoseg.diffusion.sample import ddim
from cytoseg.features.extract import pad_to_multiple
from cytoseg.seeds import generator_for

TIMESTEPS, SCHEDULE, OBJECTIVE = 100, "linear", "pred_noise"
WIDTH, MULTS = 32, (1, 2, 2)
DENSE_BLOCKS, GROWTH = 2, 16
_MIN_SHARE = 1e-4
"""Probability given to a class that a draw rules out."""


class _DenseBlock(nn.Module):
    """Five convolutions, each of which sees all before it; a fifth of the result is added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(nn.Conv2d(channels + i * GROWTH, GROWTH, 3, padding=1) for i in range(4))
        self.last = nn.Conv2d(channels + 4 * GROWTH, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        found = x
        for step in self.steps:
            found = torch.cat([found, F.leaky_relu(step(found), 0.2)], dim=1)
        return x + 0.2 * cast(Tensor, self.last(found))


class SegDiff(nn.Module):
    """A noise predictor for class maps in [-1, 1], one channel for each class, conditioned on the image.

    The paper adds an encoding of the image to the first convolution of the noisy map. Here the map and the encoding
    are concatenated before that convolution, which is the same sum with a further convolution of the encoding.

    Args:
        classes: K.
        seed: Seed of the initial weights.
        votes: V, draws per image.
        draw_steps: Network evaluations per draw.

    Source: Amit et al., SegDiff: Image Segmentation with Diffusion Probabilistic Models, 2021. The encoder's dense
    blocks: Wang et al., ESRGAN, 2018.
    """

    def __init__(self, classes: int, *, seed: int, votes: int, draw_steps: int) -> None:
        super().__init__()
        self.classes, self.votes, self.draw_steps = classes, votes, draw_steps
        settings = AdmSettings(blocks=1, attention=(), conditioning="add", resample_in_blocks=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.first = nn.Conv2d(3, WIDTH, 3, padding=1)
            self.dense = nn.Sequential(*(_DenseBlock(WIDTH) for _ in range(DENSE_BLOCKS)))
            self.unet = AdmUnet(AdmShape(WIDTH, MULTS, classes, settings, in_channels=classes + WIDTH))
        self.multiple_px = 2 ** (len(MULTS) - 1)
        self.seen: Tensor
        self.register_buffer("seen", torch.ones(classes, dtype=torch.bool))

    def encode(self, pictures: Tensor) -> Tensor:
        """Encode images, once for all timesteps.

        Args:
            pictures: (N, 3, H, W) in [-1, 1]; sides are multiples of ``multiple_px``.

        Returns:
            (N, 32, H, W).
        """
        first = self.first(pictures)
        return F.leaky_relu(first + self.dense(first), 0.2)

    def forward(self, maps: Tensor, times: Tensor, encoding: Tensor) -> Tensor:
        """Predict the noise of class maps.

        Args:
            maps: (N, K, H, W), noisy.
            times: (N,) timesteps.
            encoding: (N, 32, H, W) from ``encode``.

        Returns:
            (N, K, H, W).
        """
        return cast(Tensor, self.unet(torch.cat([maps, encoding], dim=1), times))

    @torch.no_grad()
    def rule_out(self, classes: Sequence[int]) -> None:
        """Exclude classes without labels from prediction."""
        self.seen[list(classes)] = False


class _Conditioned(nn.Module):
    """The noise predictor of one batch of images, as samplers take it."""

    def __init__(self, model: SegDiff, encoding: Tensor, precision: str) -> None:
        super().__init__()
        self._model, self._encoding, self._precision = model, encoding, precision

    def forward(self, maps: Tensor, times: Tensor) -> Tensor:
        with autocast(maps.device, self._precision):
            return cast(Tensor, self._model(maps, times, self._encoding))


@torch.inference_mode()
def drawn_probabilities(model: SegDiff, pictures: Tensor, *, precision: str) -> Tensor:
    """Draw class maps, which vote like ensemble members; their disagreement measures uncertainty.

    Draw i begins with the same noise for every image of a size.

    Args:
        model: In evaluation mode, on the device of the images.
        pictures: (N, 3, H, W) float32 in [-1, 1], any size.
        precision: ``no`` (fp32) or ``bf16`` for the network.

    Returns:
        (V, N, K, H, W) float32 probabilities.
    """
    height, width = pictures.shape[-2:]
    padded = pad_to_multiple(pictures, model.multiple_px).contiguous(memory_format=torch.channels_last)
    with autocast(pictures.device, precision):
        predictor = _Conditioned(model, model.encode(padded), precision)
    bars, shape = alpha_bar(SCHEDULE, TIMESTEPS), (model.classes, *padded.shape[-2:])
    draws = []
    for vote in range(model.votes):
        noise = torch.randn(shape, generator=generator_for(0, vote, what="segdiff")).to(pictures.device)
        begin = noise.expand(len(pictures), -1, -1, -1)
        maps = ddim(predictor, begin, alpha_bars=bars, objective=OBJECTIVE, steps=model.draw_steps)
        shares = ((maps[:, :, :height, :width] + 1.0) / 2.0).clamp_min(_MIN_SHARE) * model.seen[:, None, None]
        draws.append(shares / shares.sum(1, keepdim=True))
    return torch.stack(draws)
