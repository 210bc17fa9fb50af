"""The ensemble of per-pixel MLPs, held as stacked weights so that all members compute together."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytoseg.devices import generator_for


def hidden_sizes(classes: int) -> tuple[int, int]:
    """Give the widths of the two hidden layers: 128 and 32, or 256 and 128 from 30 classes on.

    Source: Baranchuk et al., Label-Efficient Semantic Segmentation with Diffusion Models, ICLR 2022.
    """
    return (256, 128) if classes >= 30 else (128, 32)


class MemberNorm(nn.Module):
    """Batch normalisation over the pixels of each member's own batch.

    Args:
        members: M.
        width: Channels.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, width))
        self.bias = nn.Parameter(torch.zeros(members, width))
        self.register_buffer("running_mean", torch.zeros(members, width))
        self.register_buffer("running_var", torch.ones(members, width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (M, B, width); batch statistics while training, running ones otherwise."""
        if self.training:
            # One call normalises all members: members and channels are folded into one axis of channels.
            members, batch, width = x.shape
            flat = x.transpose(0, 1).reshape(batch, members * width)
            flat = F.batch_norm(
                flat,
                self.running_mean.view(-1),
                self.running_var.view(-1),
                self.weight.view(-1),
                self.bias.view(-1),
                training=True,
            )
            return flat.view(batch, members, width).transpose(0, 1)
        scale, shift = self.affine()
        return x * scale[:, None] + shift[:, None]

    def affine(self) -> tuple[Tensor, Tensor]:
        """Give the (M, width) scale and shift that evaluation applies."""
        scale = self.weight * torch.rsqrt(self.running_var + 1e-5)
        return scale, self.bias - self.running_mean * scale


class Ensemble(nn.Module):
    """M interpreters: Linear ReLU norm, Linear ReLU norm, Linear.

    Args:
        members: M.
        inputs: D, channels of the feature stack.
        classes: K.
        seed: Each member's first weights come from (seed, member).
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, members: int, inputs: int, classes: int, *, seed: int) -> None:
        super().__init__()
        wide, narrow = hidden_sizes(classes)
        self.members, self.inputs, self.classes = members, inputs, classes
        self.weight1, self.bias1 = _linear(members, inputs, wide, seed=seed, layer=1)
        self.weight2, self.bias2 = _linear(members, wide, narrow, seed=seed, layer=2)
        self.weight3, self.bias3 = _linear(members, narrow, classes, seed=seed, layer=3)
        self.norm1, self.norm2 = MemberNorm(members, wide), MemberNorm(members, narrow)
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))

    def forward(self, features: Tensor) -> Tensor:
        """Compute class scores.

        Args:
            features: (M, B, D) float32, each member's own pixels, not yet standardised.

        Returns:
            (M, B, K) logits.
        """
        standard = (features - self.mean) / self.scale
        return self.after_first(torch.baddbmm(self.bias1[:, None], standard, self.weight1))

    def after_first(self, hidden: Tensor) -> Tensor:
        """Finish from the (M, B, wide) output of the first linear layer; gives (M, B, K) logits."""
        hidden = self.norm1(F.relu(hidden))
        hidden = self.norm2(F.relu(torch.baddbmm(self.bias2[:, None], hidden, self.weight2)))
        return torch.baddbmm(self.bias3[:, None], hidden, self.weight3)

    def folded_first(self) -> tuple[Tensor, Tensor]:
        """Give the first layer with standardisation folded in: weights (M, D, wide) and bias (M, wide)."""
        weight = self.weight1 / self.scale[None, :, None]
        return weight, self.bias1 - torch.einsum("d,mdw->mw", self.mean, weight)


def _linear(members: int, inputs: int, outputs: int, *, seed: int, layer: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Draw weights N(0, 1/inputs), which keeps the size of standardised inputs, and zero bias."""
    drawn = [
        torch.randn(inputs, outputs, generator=generator_for(seed, 10 * member + layer, what="interpreter"))
        for member in range(members)
    ]
    return nn.Parameter(torch.stack(drawn) / math.sqrt(inputs)), nn.Parameter(torch.zeros(members, outputs))
