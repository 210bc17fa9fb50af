"""Feature extraction at native resolution: DDPM taps, filters, ImageNet stages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cytoseg.devices import autocast
from cytoseg.diffusion.add_noise import add_noise, alpha_bar
from cytoseg.diffusion.architecture import Architecture, tap_shapes
from cytoseg.diffusion.channels import as_channels
from cytoseg.diffusion.efficientnet import LiteEncoder
from cytoseg.diffusion.space import space_of
from cytoseg.diffusion.unet import run_to_taps
from cytoseg.errors import CheckpointError
from cytoseg.features.filters import filter_maps
from cytoseg.features.pretrained import PretrainedStages, imagenet_encoder
from cytoseg.features.settings import FILTERS_A_CHANNEL, FeatureSettings
from cytoseg.seeds import generator_for

TOGETHER_PX = 2**16
"""Pixels per network pass on a CPU: batching saves a third of the time for 64 px images but nothing for 256 px, where
activations would take six times the memory."""
PASSING_BYTES = 200
"""Bytes of activations per pixel and finest channel, measured in fp32."""


def describe_extractors(extractors: Sequence[str], *, channels: int = 3) -> str:
    """Describe the features: ``backbone features and 72 filters``; of grey images 24."""
    filters = f"{channels * FILTERS_A_CHANNEL} filters"
    named = {"ddpm": "backbone features", "pretrained": "frozen ImageNet features", "filters": filters}
    *first, last = (text for name, text in named.items() if name in extractors)
    return f"{', '.join(first)} and {last}" if first else last


@dataclass(frozen=True)
class NativeFeatures:
    """Features of images of one size, one tensor per timestep and tap (timestep-major), at native resolution.

    Attributes:
        maps: Each (N, C, h, w) float32; h and w are those of the padded input divided by the tap's downsample. Filters
            follow at the padded size, then the five stages of the frozen network.
        size: (H, W) of the images.
        padded: (H, W) after padding right and bottom to a multiple of the downsample; before enlarging.
    """

    maps: list[Tensor]
    size: tuple[int, int]
    padded: tuple[int, int]


def to_input(pictures: NDArray[np.uint8]) -> Tensor:
    """Convert (N, H, W, 3) uint8 to (N, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).float() / 127.5 - 1.0


class Extractor(Protocol):
    """One kind of features, for images with sides that are multiples of ``multiple_px``."""

    @property
    def multiple_px(self) -> int:
        """Required divisor of both sides."""
        ...

    @property
    def channels(self) -> list[int]:
        """Channels of each map."""
        ...

    def __call__(self, pictures: Tensor) -> list[Tensor]:
        """Compute the maps of (N, 3, H, W) images in [-1, 1]: each (N, C, h, w) float32."""
        ...


class FeatureExtractor:
    """Computes the features of images, concatenated over extractors.

    Args:
        unet: The noise predictor, in evaluation mode; not used without ddpm.
        architecture: Its architecture.
        settings: Feature settings.
        device: Where to compute.
        precision: ``no`` (fp32) or ``bf16`` for the networks; features are returned as float32.
        encoder: The frozen network of pretrained, in evaluation mode; None loads it from the installed package.

    Raises:
        CheckpointError: If the package is needed but not installed, or its weights have another hash.
    """

    def __init__(
        self,
        unet: nn.Module,
        architecture: Architecture,
        settings: FeatureSettings,
        *,
        device: torch.device,
        precision: str = "no",
        encoder: LiteEncoder | None = None,
    ) -> None:
        self.unet, self.architecture, self.settings, self.device = unet, architecture, settings, device
        self.encoder = None
        self._extractors: list[Extractor] = []
        if "ddpm" in settings.extractors:
            self._extractors.append(DdpmTaps(unet, architecture, settings, device=device, precision=precision))
        if "filters" in settings.extractors:
            self._extractors.append(ImageFilters(architecture.channels))
        if "pretrained" in settings.extractors:
            self.encoder = imagenet_encoder() if encoder is None else encoder
            self._extractors.append(PretrainedStages(self.encoder, device=device, precision=precision))
        self._multiple_px = math.lcm(*(extractor.multiple_px for extractor in self._extractors))

    @property
    def channels(self) -> list[int]:
        """Channels of each map of ``NativeFeatures.maps``."""
        return [channels for extractor in self._extractors for channels in extractor.channels]

    @torch.inference_mode()
    def __call__(self, pictures: Tensor) -> NativeFeatures:
        """Compute the features of images.

        Args:
            pictures: (N, 3, H, W) float32 in [-1, 1], any size.
        """
        return self.differentiable(pictures)

    def differentiable(self, pictures: Tensor) -> NativeFeatures:
        """Compute the same features with their gradient; filters have none."""
        height, width = pictures.shape[-2:]
        x0 = pad_to_multiple(pictures.to(self.device), self._multiple_px)
        maps = [native for extractor in self._extractors for native in extractor(x0)]
        return NativeFeatures(maps, (height, width), (x0.shape[-2], x0.shape[-1]))


class ImageFilters:
    """The extractor ``filters``.

    Args:
        channels: Of the images: 3, or 1 for grey ones.
    """

    multiple_px = 1

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self.channels = [channels * FILTERS_A_CHANNEL]

    def __call__(self, pictures: Tensor) -> list[Tensor]:
        """Filter the images; returns one map of their size."""
        constant = pictures.detach()
        return [filter_maps(as_channels(constant, 1) if self._channels == 1 else constant)]


class DdpmTaps:
    """The extractor ``ddpm``: runs the network at each timestep, batched as memory allows.

    Args:
        unet: The noise predictor, in evaluation mode.
        architecture: Its architecture.
        settings: Feature settings.
        device: Where to compute.
        precision: ``no`` (fp32) or ``bf16`` for the network.
    """

    def __init__(
        self,
        unet: nn.Module,
        architecture: Architecture,
        settings: FeatureSettings,
        *,
        device: torch.device,
        precision: str,
    ) -> None:
        # The channels-last layout suits convolutions on GPU and CPU.
        self.unet = unet.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs lack this keyword
        self.architecture, self.settings, self.device = architecture, settings, device
        self._reduced = max(1, round(1 / settings.scale))
        self.multiple_px = architecture.multiple_px * self._reduced
        self._precision = precision
        self._alpha_bars = alpha_bar(architecture.schedule, architecture.timesteps)

    @property
    def channels(self) -> list[int]:
        """Channels of each tap, timestep-major."""
        return [c for c, _ in tap_shapes(self.architecture, self.settings.taps)] * len(self.settings.timesteps)

    def __call__(self, pictures: Tensor) -> list[Tensor]:
        """Compute the taps, timestep-major."""
        x0 = as_channels(pictures, 1) if self.architecture.channels == 1 else pictures
        if self.settings.scale > 1:
            x0 = F.interpolate(x0, scale_factor=self.settings.scale, mode="bilinear", align_corners=False)
        elif self._reduced > 1:
            x0 = F.avg_pool2d(x0, self._reduced)
        x0 = space_of(self.unet).encode(x0)
        eps = shared_noise(self.settings.noise_seed, *x0.shape[-2:], channels=x0.shape[1]).to(self.device)
        return [tap for times in self._passes(x0) for tap in self._taps_at(times, x0, eps)]

    def _passes(self, x0: Tensor) -> list[tuple[int, ...]]:
        """Split the timesteps into batches."""
        room = pixels_per_pass(self.architecture, self.device)
        together, times = max(1, room // x0[:, 0].numel()), self.settings.timesteps
        return [times[start : start + together] for start in range(0, len(times), together)]

    def _taps_at(self, times: Sequence[int], x0: Tensor, eps: Tensor) -> list[Tensor]:
        """Compute the taps of (N, C, H, W) images at some timesteps in one pass: each (N, C, h, w), times first."""
        noisy = torch.cat([add_noise(x0, float(self._alpha_bars[t]), eps) for t in times])
        xt = noisy.contiguous(memory_format=torch.channels_last)
        at = torch.tensor(times, device=self.device).repeat_interleave(len(x0))
        with autocast(self.device, self._precision):
            seen = run_to_taps(self.unet, self.settings.taps, xt, at)
        by_time = (torch.split(seen[name], len(x0)) for name in self.settings.taps)
        return [tap.float() for taps in zip(*by_time, strict=True) for tap in taps]


def pixels_per_pass(architecture: Architecture, device: torch.device) -> int:
    """Return how many pixels fit in one pass: by free memory of a GPU, by caches of a CPU."""
    if device.type != "cuda":
        return TOGETHER_PX
    free, _ = torch.cuda.mem_get_info(device)
    return free // 2 // (PASSING_BYTES * architecture.finest_channels)


def pad_to_multiple(pictures: Tensor, multiple: int) -> Tensor:
    """Pad (N, C, H, W) at the bottom and right by replication until both sides are multiples."""
    height, width = pictures.shape[-2:]
    return F.pad(pictures, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def shared_noise(seed: int, height: int, width: int, *, channels: int = 3) -> Tensor:
    """Draw the (C, H, W) standard normal noise shared by all images of one size and all timesteps.

    It is drawn on the CPU, so that features are the same on every device.
    """
    generator = generator_for(seed, height * 100_003 + width, what="features")
    return torch.randn(channels, height, width, generator=generator)


def gather(
    features: NativeFeatures, pixels: Sequence[tuple[int, int]] | NDArray[np.int64], *, picture: int = 0
) -> Tensor:
    """Sample the feature stack at chosen pixels of one image without building it at full size.

    Equivalent to bilinear upsampling (``align_corners=False``) of every map to the padded size and indexing.

    Args:
        features: From ``FeatureExtractor``.
        pixels: (P, 2) of (x, y) in the image.
        picture: Index of the image.

    Returns:
        (P, D) float32, where D is the total number of channels.
    """
    height, width = features.padded
    xy = torch.as_tensor(np.asarray(pixels), dtype=torch.float32)
    grid = torch.stack([(2 * xy[:, 0] + 1) / width - 1, (2 * xy[:, 1] + 1) / height - 1], dim=-1)
    columns = []
    for native in features.maps:
        at = grid.to(native).view(1, 1, -1, 2)
        read = F.grid_sample(native[picture : picture + 1], at, "bilinear", "border", align_corners=False)
        columns.append(read[0, :, 0].T)
    return torch.cat(columns, dim=1)


def check_finite(features: Tensor, *, crop: str) -> None:
    """Refuse NaN or infinite features before training on them.

    Args:
        features: (P, D) of one crop.
        crop: Its id, for the message.

    Raises:
        CheckpointError: If one is NaN or infinite.
    """
    if not bool(features.isfinite().all()):
        raise CheckpointError(
            f"{crop}: the diffusion model produces NaN or infinite features. Its weights are damaged, or too large "
            "for half precision: move the newest checkpoint away to use an older one, or train the model again."
        )
