"""Ensemble inference on whole images with the first layer at native resolution.

Its outputs are upsampled and summed. Bilinear upsampling and a linear layer commute, so this equals applying the layer
to the full-size feature stack, which is never built.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cytoseg.devices import working_precision
from cytoseg.features.extract import NativeFeatures
from cytoseg.interpreter.mlp import Ensemble


@torch.inference_mode()
def member_probabilities(ensemble: Ensemble, features: NativeFeatures, *, precision: str = "no") -> Tensor:
    """Compute every member's class probabilities at every pixel.

    Args:
        ensemble: In evaluation mode, on the device of the features.
        features: Features of N images.
        precision: Precision of the first layer: ``no`` is fp32; ``bf16`` for features of a bf16 network, whose own
            error is larger than the loss here.

    Returns:
        (M, N, K, H, W) float32.
    """
    return differentiable_probabilities(ensemble, features, precision=precision)


def differentiable_probabilities(ensemble: Ensemble, features: NativeFeatures, *, precision: str = "no") -> Tensor:
    """Compute what ``member_probabilities`` computes, with the gradient with respect to the features."""
    maps, (weights, biases) = features.maps, ensemble.folded_first()
    if working_precision(precision, ensemble.weight1.device) == "bf16":
        maps, weights, biases = _standardised(ensemble, maps), ensemble.weight1.bfloat16(), ensemble.bias1
    groups = _by_resolution(maps)
    height, width = features.size
    members = []
    for m in range(ensemble.members):
        hidden = _first_layer(groups, weights[m], biases[m], padded=features.padded)
        members.append(_rest(ensemble, hidden[:, :, :height, :width], m).softmax(1))
    return torch.stack(members)


def _standardised(ensemble: Ensemble, maps: Sequence[Tensor]) -> list[Tensor]:
    """Standardise each map before rounding to bfloat16, because values far from zero would lose their variation."""
    sizes = [native.shape[1] for native in maps]
    parts = zip(maps, torch.split(ensemble.mean, sizes), torch.split(ensemble.scale, sizes), strict=True)
    return [((native - mean[:, None, None]) / scale[:, None, None]).bfloat16() for native, mean, scale in parts]


def _by_resolution(maps: Sequence[Tensor]) -> list[tuple[Tensor, list[slice]]]:
    """Concatenate maps of equal size, with the first-layer inputs that each group feeds.

    The finest maps come first, in channels-last layout.
    """
    groups: dict[tuple[int, ...], tuple[list[Tensor], list[slice]]] = {}
    start = 0
    for native in maps:
        tensors, places = groups.setdefault(tuple(native.shape[-2:]), ([], []))
        tensors.append(native.contiguous(memory_format=torch.channels_last))
        places.append(slice(start, start + native.shape[1]))
        start += native.shape[1]
    finest_first = sorted(groups, reverse=True)
    return [(torch.cat(groups[size][0], dim=1), groups[size][1]) for size in finest_first]


def _first_layer(
    groups: Sequence[tuple[Tensor, list[slice]]], weight: Tensor, bias: Tensor, *, padded: tuple[int, int]
) -> Tensor:
    """Apply one member's (D, wide) weights per resolution; return (N, wide, H, W) at the padded size."""
    if not groups:
        raise ValueError("there are no feature maps")
    # Upsampling keeps a constant, so the bias is added with the finest maps at no cost.
    parts = [
        _at_each_pixel(native, torch.cat([weight[place] for place in places]), None if i else bias).float()
        for i, (native, places) in enumerate(groups)
    ]
    grown = (
        part if tuple(part.shape[-2:]) == padded else F.interpolate(part, padded, mode="bilinear", align_corners=False)
        for part in parts
    )
    total = next(grown)
    for part in grown:
        total += part
    return total


def _rest(ensemble: Ensemble, hidden: Tensor, m: int) -> Tensor:
    """Apply member m's remaining layers to (N, wide, H, W), overwritten in place; return (N, K, H, W) logits."""
    for norm, weight, bias in (
        (ensemble.norm1, ensemble.weight2, ensemble.bias2),
        (ensemble.norm2, ensemble.weight3, ensemble.bias3),
    ):
        scale, shift = norm.affine()
        # The normalisation is affine here, so it is folded into the next layer.
        hidden = _at_each_pixel(hidden.relu_(), scale[m][:, None] * weight[m], shift[m] @ weight[m] + bias[m])
    return hidden


def _at_each_pixel(maps: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a linear layer, (inputs, outputs), to the channels of (N, inputs, h, w).

    Rows are treated as separate images: from a batch of 16 torch uses oneDNN for a 1 x 1 convolution with any number
    of threads; its single-threaded fallback for fewer is half as fast on non-Intel processors.
    """
    count, _, height, width = maps.shape
    rows = maps.permute(0, 2, 3, 1).reshape(count * height, 1, width, -1).permute(0, 3, 1, 2)
    out = F.conv2d(rows, weight.T[:, :, None, None], None if bias is None else bias.to(weight.dtype))
    return out.permute(0, 2, 3, 1).reshape(count, height, width, -1).permute(0, 3, 1, 2)
