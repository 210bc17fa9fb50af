"""Ensemble of per-pixel MLPs with stacked weights."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytoseg.features.pixel_rows import BLOCK_VALUES
from cytoseg.interpreter.settings import hidden_sizes
from cytoseg.seeds import generator_for

_NEVER = -1e6  # finite, so that non-finite weights still indicate damage


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
        """Normalise (M, B, width); batch statistics in training, running ones otherwise."""
        if self.training:
            # One call normalises all members: members and channels are folded into one channel axis.
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
        """Return the (M, width) scale and shift that evaluation applies."""
        scale = self.weight * torch.rsqrt(self.running_var + 1e-5)
        return scale, self.bias - self.running_mean * scale


class Ensemble(nn.Module):
    """M interpreters: Linear ReLU norm, Linear ReLU norm, Linear.

    Args:
        members: M.
        inputs: D, channels of the feature stack.
        classes: K.
        seed: Each member's initial weights depend on (seed, member).
        weight_std: Standard deviation of the initial weights. None takes 1 / sqrt(inputs) in each layer, which
            preserves the scale of standardised inputs; the published method uses one value for all layers.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, members: int, inputs: int, classes: int, *, seed: int, weight_std: float | None = None) -> None:
        super().__init__()
        wide, narrow = hidden_sizes(classes)
        self.members, self.inputs, self.classes = members, inputs, classes
        self.weight1, self.bias1 = _linear((members, inputs, wide), weight_std, seed=seed, layer=1)
        self.weight2, self.bias2 = _linear((members, wide, narrow), weight_std, seed=seed, layer=2)
        self.weight3, self.bias3 = _linear((members, narrow, classes), weight_std, seed=seed, layer=3)
        self.norm1, self.norm2 = MemberNorm(members, wide), MemberNorm(members, narrow)
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))

    def forward(self, features: Tensor) -> Tensor:
        """Compute class scores.

        Args:
            features: (M, B, D) float32, each member's own pixels, not standardised.

        Returns:
            (M, B, K) logits.
        """
        return self.scores(self.hidden(features))

    def hidden(self, features: Tensor) -> Tensor:
        """Compute the input of the last layer, (M, B, narrow), from (M, B, D) features."""
        standard = (features - self.mean) / self.scale
        return self._second(torch.baddbmm(self.bias1[:, None], standard, self.weight1))

    def scores(self, hidden: Tensor) -> Tensor:
        """Apply the last layer to (M, B, narrow); return (M, B, K) logits."""
        return torch.baddbmm(self.bias3[:, None], hidden, self.weight3)

    def _second(self, first: Tensor) -> Tensor:
        second = torch.baddbmm(self.bias2[:, None], self.norm1(F.relu(first)), self.weight2)
        normalised: Tensor = self.norm2(F.relu(second))
        return normalised

    @torch.no_grad()
    def divide_scores(self, temperature: float) -> None:
        """Fold a temperature into the last layer; above 1 makes the members less confident."""
        self.weight3.div_(temperature)
        self.bias3.div_(temperature)

    def blocks(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Split (..., P) pixel indices along the last axis so that all members' copies of a block stay small."""
        return torch.split(pixels, max(1, BLOCK_VALUES // (self.members * self.inputs)), dim=-1)

    @torch.no_grad()
    def rule_out(self, class_ids: Sequence[int]) -> None:
        """Exclude classes without training pixels from prediction."""
        self.bias3[:, list(class_ids)] = _NEVER

    def folded_first(self) -> tuple[Tensor, Tensor]:
        """Return the first layer with the standardisation folded in: weights (M, D, wide) and bias (M, wide)."""
        weight = self.weight1 / self.scale[None, :, None]
        return weight, self.bias1 - torch.einsum("d,mdw->mw", self.mean, weight)


def member_losses(logits: Tensor, target: Tensor) -> Tensor:
    """Compute each member's mean cross entropy: (M,) from (M, B, K) logits and (M, B) int64 ids.

    Minimising their sum trains each member independently.
    """
    each = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
    return each.view(target.shape).mean(1)


class MemberCopies:
    """Keeps copies of single members' weights from different training steps.

    Args:
        ensemble: The ensemble in training.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble = ensemble
        self._copies = {name: tensor.clone() for name, tensor in self._of_members()}

    def keep(self, which: Tensor) -> None:
        """Store the current weights of some members, replacing earlier copies.

        Args:
            which: (M,) bool.
        """
        if which.any():
            for name, tensor in self._of_members():
                self._copies[name][which] = tensor[which]

    def restore(self) -> None:
        """Restore the stored weights of all members."""
        self._ensemble.load_state_dict(self._copies, strict=False)

    def _of_members(self) -> list[tuple[str, Tensor]]:
        state: dict[str, Tensor] = self._ensemble.state_dict()
        return [(name, tensor) for name, tensor in state.items() if name not in ("mean", "scale")]


def _linear(
    shape: tuple[int, int, int], weight_std: float | None, *, seed: int, layer: int
) -> tuple[nn.Parameter, nn.Parameter]:
    """Draw (M, inputs, outputs) weights from a normal distribution, with zero bias."""
    members, inputs, outputs = shape
    drawn = [
        torch.randn(inputs, outputs, generator=generator_for(seed, 10 * member + layer, what="interpreter"))
        for member in range(members)
    ]
    weight = torch.stack(drawn) / math.sqrt(inputs) if weight_std is None else torch.stack(drawn) * weight_std
    return nn.Parameter(weight), nn.Parameter(torch.zeros(members, outputs))
