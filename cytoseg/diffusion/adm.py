"""ADM, the U-Net of Dhariwal and Nichol, with the module names of guided-diffusion's files."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cytoseg.diffusion.adm_settings import AdmSettings
from cytoseg.diffusion.architecture import Architecture

_HEAD_CHANNELS = 64
_TIME_BASE = 10_000
_FIRST = "input_blocks.0.0.weight"


@dataclass(frozen=True)
class AdmShape:
    """Everything that determines the shapes of the network's weights.

    Attributes:
        width: Channels that ``mults`` multiply.
        mults: Channel multiplier of each resolution, finest first.
        out_channels: Channels of the output; twice those of the image where the variance is learned.
        settings: Its blocks.
        in_channels: Channels of the image and of its conditioning.
        classes: Number of classes that the network can be conditioned on; 0 for none.
        map_channels: Channels of a class map or small image as conditioning, the last for unknown; 0 for none.
    """

    width: int
    mults: tuple[int, ...]
    out_channels: int
    settings: AdmSettings
    in_channels: int = 3
    classes: int = 0
    map_channels: int = 0


class AdmUnet(nn.Module):
    """ADM: residual and attention blocks, conditioned on the timestep in each.

    The tensors have guided-diffusion's names and shapes, so its files load with ``load_state_dict(strict=True)``.

    Source: Dhariwal and Nichol, Diffusion Models Beat GANs on Image Synthesis, NeurIPS 2021. ConvNeXt blocks: Liu et
    al., A ConvNet for the 2020s, CVPR 2022.
    """

    # Required by lucidrains' GaussianDiffusion.
    self_condition = False
    random_or_learned_sinusoidal_cond = False

    def __init__(self, shape: AdmShape) -> None:
        """Make the network with weights drawn from torch's random state; the last layer of each block is zero."""
        super().__init__()
        self.width, self.map_channels = shape.width, shape.map_channels
        self.channels = self.out_dim = shape.in_channels
        embedding = 4 * shape.width
        self.time_embed = nn.Sequential(nn.Linear(shape.width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.label_emb = nn.Embedding(shape.classes, embedding) if shape.classes else None
        maker = _BlockMaker(shape.settings, embedding)
        self.input_blocks, skips = _encoder(shape, maker)
        deepest = skips[-1]
        attention = Attention(deepest) if shape.settings.attention else nn.Identity()
        self.middle_block = _Stage(maker.block(deepest, deepest), attention, maker.block(deepest, deepest))
        self.output_blocks = _decoder(shape, maker, skips)
        finest = shape.width * shape.mults[0]
        self.out = nn.Sequential(
            GroupNorm(finest), nn.SiLU(), _zeroed(nn.Conv2d(finest, shape.out_channels, 3, padding=1))
        )

    def forward(
        self, x: Tensor, times: Tensor, classes: Tensor | None = None, class_map: Tensor | None = None
    ) -> Tensor:
        """Predict the noise.

        Args:
            x: (N, C, H, W) in [-1, 1]; sides are multiples of 2 ** (levels - 1).
            times: (N,) timesteps.
            classes: (N,) int64 classes, for a network with class conditioning.
            class_map: (N, map_channels, H, W) from ``class_map.one_hot_map`` or ``upsampling.upsampling_input``, for a
                network conditioned on it; None if it is unknown everywhere.

        Returns:
            (N, out_channels, H, W).

        Raises:
            ValueError: If classes are given to a network without them, or not given to one with them.
        """
        if (classes is None) != (self.label_emb is None):
            raise ValueError("classes must be given if and only if the network is conditioned on them")
        embedding = self.time_embed(sinusoids(times, self.width).to(x.dtype))
        if self.label_emb is not None:
            embedding = embedding + self.label_emb(classes)
        if self.map_channels:
            x = torch.cat([x, self._unknown(x) if class_map is None else class_map.to(x.dtype)], dim=1)
        skips: list[Tensor] = []
        for stage in self.input_blocks:
            x = stage(x, embedding)
            skips.append(x)
        x = self.middle_block(x, embedding)
        for stage in self.output_blocks:
            x = stage(torch.cat([x, skips.pop()], dim=1), embedding)
        output: Tensor = self.out(x)
        return output

    def _unknown(self, x: Tensor) -> Tensor:
        unknown = x.new_zeros(len(x), self.map_channels, *x.shape[2:])
        unknown[:, -1] = 1.0
        return unknown


def adm_shape(architecture: Architecture) -> AdmShape:
    """Return the shape of the network that an architecture describes."""
    channels = architecture.diffused_channels
    return AdmShape(
        architecture.dim,
        architecture.dim_mults,
        2 * channels if architecture.learn_variance else channels,
        architecture.adm,
        in_channels=channels,
        map_channels=architecture.given_channels,
    )


def with_map_channels(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Widen the first convolution of an unconditional network by channels of weight 0, which do not change its output.

    Args:
        weights: Weights of the network to start from.
        own: Weights of the network that takes them.
    """
    found = dict(weights)
    if _FIRST in weights and _FIRST in own and (missing := own[_FIRST].shape[1] - weights[_FIRST].shape[1]) > 0:
        found[_FIRST] = functional.pad(weights[_FIRST], (0, 0, 0, 0, 0, missing))
    return found


def sinusoids(times: Tensor, width: int) -> Tensor:
    """Embed timesteps as ``width / 2`` cosines, then as many sines, (N, width) float32."""
    half = width // 2
    frequencies = torch.exp(-math.log(_TIME_BASE) * torch.arange(half, device=times.device) / half)
    angles = times[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class GroupNorm(nn.GroupNorm):
    """Group norm of up to 32 groups, computed in float32 whatever the precision of its input."""

    def __init__(self, channels: int) -> None:
        """Use 32 groups as the published networks do; fewer in a network too narrow for them.

        A group of a single channel would remove what ``conditioning: add`` adds to that channel.
        """
        groups = 32 if channels % 32 == 0 and channels > 32 else math.gcd(32, max(1, channels // 4))
        super().__init__(groups, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, ...)."""
        return super().forward(x.float()).to(x.dtype)


class Attention(nn.Module):
    """Self-attention over all positions, with heads of 64 channels, added to its input."""

    def __init__(self, channels: int) -> None:
        """Make the layers; a number of channels that is not a multiple of 64 gets a single head."""
        super().__init__()
        self.heads = channels // _HEAD_CHANNELS if channels % _HEAD_CHANNELS == 0 else 1
        self.norm = GroupNorm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = _zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, H, W), of an input of that shape."""
        n, channels, height, width = x.shape
        flat = x.reshape(n, channels, height * width)
        # guided-diffusion's order of the rows: head 0's queries, keys and values, then head 1's, and so on.
        heads = self.qkv(self.norm(flat)).reshape(n, self.heads, 3, channels // self.heads, height * width)
        query, key, value = heads.transpose(-1, -2).unbind(2)
        seen = functional.scaled_dot_product_attention(query, key, value)
        mixed = self.proj_out(seen.transpose(-1, -2).reshape(n, channels, height * width))
        return torch.as_tensor(flat + mixed).reshape(x.shape)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with the timestep between them; may halve or double the resolution."""

    def __init__(self, channels: int, out: int, embedding: int, *, resample: nn.Module, settings: AdmSettings) -> None:
        """Make the block; ``resample`` is applied to both branches."""
        super().__init__()
        self.scales = settings.conditioning == "adagn"
        self.resample = resample
        self.in_layers = nn.Sequential(GroupNorm(channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * out if self.scales else out))
        last = _zeroed(nn.Conv2d(out, out, 3, padding=1))
        # guided-diffusion has a dropout in third place, without weights.
        self.out_layers = nn.Sequential(GroupNorm(out), nn.SiLU(), nn.Identity(), last)
        self.skip_connection = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Return (N, out, H', W')."""
        norm, silu, convolution = self.in_layers
        inside = convolution(self.resample(silu(norm(x))))
        norm, *rest = self.out_layers
        inside = _conditioned(norm, inside, self.emb_layers(embedding), scales=self.scales)
        for layer in rest:
            inside = layer(inside)
        return torch.as_tensor(self.skip_connection(self.resample(x)) + inside)


class ConvNextBlock(nn.Module):
    """A depthwise 7x7 convolution, then two 1x1 of four times the width; may halve or double the resolution."""

    def __init__(self, channels: int, out: int, embedding: int, *, resample: nn.Module, settings: AdmSettings) -> None:
        """Make the block; ``resample`` is applied to both branches."""
        super().__init__()
        self.scales = settings.conditioning == "adagn"
        self.resample = resample
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = GroupNorm(channels)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * channels if self.scales else channels))
        last = _zeroed(nn.Conv2d(4 * out, out, 1))
        self.out_layers = nn.Sequential(nn.Conv2d(channels, 4 * out, 1), nn.GELU(), nn.Identity(), last)
        self.skip_connection = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Return (N, out, H', W')."""
        x = self.resample(x)
        inside = _conditioned(self.norm, self.depthwise(x), self.emb_layers(embedding), scales=self.scales)
        return torch.as_tensor(self.skip_connection(x) + self.out_layers(inside))


def _conditioned(norm: nn.Module, x: Tensor, condition: Tensor, *, scales: bool) -> Tensor:
    """Normalise and add the timestep: scaling and shifting after the norm (AdaGN), or adding it before."""
    condition = condition[:, :, None, None]
    if not scales:
        return torch.as_tensor(norm(x + condition))
    scale, shift = condition.chunk(2, dim=1)
    return torch.as_tensor(norm(x) * (1 + scale) + shift)


class _Halve(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, 2)


class _Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=2, mode="nearest")


class _Downsample(nn.Module):
    """A convolution of stride 2, for networks that do not resample inside their blocks."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.op(x))


class _Upsample(nn.Module):
    """Nearest neighbours, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.conv(functional.interpolate(x, scale_factor=2, mode="nearest")))


class _Stage(nn.Sequential):
    """A sequence of layers; those that take the timestep get its embedding."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:  # type: ignore[override] # takes two where its base takes one
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, ResidualBlock | ConvNextBlock) else layer(x)
        return x


@dataclass(frozen=True)
class _BlockMaker:
    settings: AdmSettings
    embedding: int

    def block(self, channels: int, out: int, resample: nn.Module | None = None) -> nn.Module:
        kind = ConvNextBlock if self.settings.block == "convnext" else ResidualBlock
        resample = nn.Identity() if resample is None else resample
        return kind(channels, out, self.embedding, resample=resample, settings=self.settings)

    def with_attention(self, channels: int, out: int, downsample: int) -> list[nn.Module]:
        attention = [Attention(out)] if downsample in self.settings.attention else []
        return [self.block(channels, out), *attention]

    def down(self, channels: int) -> nn.Module:
        return self.block(channels, channels, _Halve()) if self.settings.resample_in_blocks else _Downsample(channels)

    def up(self, channels: int) -> nn.Module:
        return self.block(channels, channels, _Double()) if self.settings.resample_in_blocks else _Upsample(channels)


def _encoder(shape: AdmShape, maker: _BlockMaker) -> tuple[nn.ModuleList, list[int]]:
    """Make the stages down to the coarsest resolution; also return the output channels of each."""
    channels = shape.width * shape.mults[0]
    stages = [_Stage(nn.Conv2d(shape.in_channels + shape.map_channels, channels, 3, padding=1))]
    skips = [channels]
    for level, mult in enumerate(shape.mults):
        for _ in range(shape.settings.blocks):
            stages.append(_Stage(*maker.with_attention(channels, mult * shape.width, 2**level)))
            channels = mult * shape.width
            skips.append(channels)
        if level < len(shape.mults) - 1:
            stages.append(_Stage(maker.down(channels)))
            skips.append(channels)
    return nn.ModuleList(stages), skips


def _decoder(shape: AdmShape, maker: _BlockMaker, skips: Sequence[int]) -> nn.ModuleList:
    """Make the stages up to the image's resolution; each takes the output of one encoder stage, last first."""
    left, channels = list(skips), skips[-1]
    stages = []
    for level, mult in reversed(list(enumerate(shape.mults))):
        for i in range(shape.settings.blocks + 1):
            layers = maker.with_attention(channels + left.pop(), mult * shape.width, 2**level)
            channels = mult * shape.width
            if level and i == shape.settings.blocks:
                layers.append(maker.up(channels))
            stages.append(_Stage(*layers))
    return nn.ModuleList(stages)


def _zeroed(layer: nn.Module) -> nn.Module:
    """Set a layer's weights to zero, so that a block is initially its skip connection."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
