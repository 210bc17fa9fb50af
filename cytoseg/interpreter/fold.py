"""Applying the ensemble to a whole picture: the first layer at native resolution, its outputs upsampled and summed.

Bilinear upsampling and a linear layer commute, so this equals applying the layer to the full-size feature stack, which
is never built.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cytoseg.features.extract import NativeFeatures
from cytoseg.interpreter.mlp import Ensemble


@torch.inference_mode()
def member_probabilities(ensemble: Ensemble, features: NativeFeatures) -> Tensor:
    """Compute every member's class probabilities at every pixel.

    Args:
        ensemble: In evaluation mode, on the device of the features.
        features: Of N pictures.

    Returns:
        (M, N, K, H, W) float32.
    """
    weights, biases = ensemble.folded_first()
    groups = _by_resolution(features.maps)
    height, width = features.size
    members = []
    for m in range(ensemble.members):
        hidden = _first_layer(groups, weights[m], features.padded)[:, :, :height, :width] + biases[m, :, None, None]
        members.append(_rest(ensemble, hidden, m).softmax(1))
    return torch.stack(members)


def _by_resolution(maps: Sequence[Tensor]) -> list[tuple[Tensor, list[slice]]]:
    """Join the maps of equal size, and remember which inputs of the first layer each group holds."""
    groups: dict[tuple[int, ...], tuple[list[Tensor], list[slice]]] = {}
    start = 0
    for native in maps:
        tensors, places = groups.setdefault(tuple(native.shape[-2:]), ([], []))
        tensors.append(native)
        places.append(slice(start, start + native.shape[1]))
        start += native.shape[1]
    return [(torch.cat(tensors, dim=1), places) for tensors, places in groups.values()]


def _first_layer(groups: Sequence[tuple[Tensor, list[slice]]], weight: Tensor, padded: tuple[int, int]) -> Tensor:
    """Apply one member's (D, wide) weights per resolution; gives (N, wide, H, W) at the padded size."""
    total: Tensor | None = None
    for native, places in groups:
        kernel = torch.cat([weight[place] for place in places]).T[:, :, None, None]
        part = F.conv2d(native, kernel)
        if tuple(part.shape[-2:]) != padded:
            part = F.interpolate(part, padded, mode="bilinear", align_corners=False)
        total = part if total is None else total.add_(part)
    if total is None:
        raise ValueError("there are no feature maps")
    return total


def _rest(ensemble: Ensemble, hidden: Tensor, m: int) -> Tensor:
    """Apply member m's layers after the first to (N, wide, H, W); gives (N, K, H, W) logits."""
    for norm, weight, bias in (
        (ensemble.norm1, ensemble.weight2, ensemble.bias2),
        (ensemble.norm2, ensemble.weight3, ensemble.bias3),
    ):
        scale, shift = norm.affine()
        # The normalisation is affine here, so it folds into the layer behind it.
        kernel = (scale[m][:, None] * weight[m]).T[:, :, None, None]
        hidden = F.conv2d(F.relu(hidden), kernel, shift[m] @ weight[m] + bias[m])
    return hidden
