"""Mask loss of labelled sources in hybrid training."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from cytoseg.classes import IGNORE

OTHER = 254
"""Target id for a pixel of none of its source's classes."""


@dataclass(frozen=True)
class MaskParts:
    """Parts of labelled sources, one per crop of a step.

    Attributes:
        pictures: (N, 3, H, W) float32 in [-1, 1].
        targets: (N, H, W) int64: class ids, ``OTHER``, or 255 for ignore.
        known: (N, K) bool: the classes annotated in the part's source.
        weights: (N, K + 1) float32: loss weights of the classes and of ``OTHER``.
    """

    pictures: Tensor
    targets: Tensor
    known: Tensor
    weights: Tensor

    def to(self, device: torch.device) -> "MaskParts":
        """Move to a device."""
        return MaskParts(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


DrawMasks = Callable[[Tensor], MaskParts]
"""From (N,) int64 crop numbers to one part each, as a function of the seed and the number alone."""


def mask_losses(scores: Tensor, parts: MaskParts) -> Tensor:
    """Compute the weighted cross entropy of each part.

    For a pixel that is none of its source's classes, the target is the sum of all other classes.

    Args:
        scores: (N, K, H, W) logits of the mask head.
        parts: The targets.

    Returns:
        (N,) float32: mean over all pixels of the part; ignored ones count as 0, so that the sum does not depend on how
        a step is distributed.
    """
    logarithms = scores.float().log_softmax(1)
    others = logarithms.masked_fill(parts.known[:, :, None, None], -torch.inf)
    # A source with every class has no others: -inf there is never selected but would corrupt the gradient.
    has_others = ~parts.known.all(1)
    other = torch.where(has_others[:, None, None], others.logsumexp(1), torch.zeros_like(others[:, 0]))
    table = torch.cat([logarithms, other[:, None]], dim=1)
    scored = parts.targets != IGNORE
    columns = torch.where(scored, parts.targets.clamp_max(scores.shape[1]), 0)
    weights = torch.gather(parts.weights, 1, columns.flatten(1)).view_as(columns) * scored
    errors = -table.gather(1, columns[:, None])[:, 0]
    return (errors * weights).flatten(1).mean(1)
