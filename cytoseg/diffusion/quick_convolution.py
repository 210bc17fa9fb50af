"""A convolution that learns faster on CPUs without AVX-512.

There the weight gradient of a 3 x 3 convolution takes two to three times as long from channels-last tensors as from
channels-first ones. Everything else in the networks is faster in channels-last, so only this gradient is computed on
copies.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_convolution_gradients = torch.ops.aten.convolution_backward


class QuickConv2d(nn.Conv2d):
    """``nn.Conv2d`` with zero padding and without groups; same weights and outputs, gradients equal up to rounding."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C, H, W)."""
        if not (torch.is_grad_enabled() and _channels_first_is_faster(x)):
            return super().forward(x)
        geometry = (self.stride, self.padding, self.dilation)
        out: Tensor = _Convolution.apply(x, self.weight, self.bias, *geometry)  # type: ignore[no-untyped-call] # torch's annotation is missing
        return out


def _channels_first_is_faster(x: Tensor) -> bool:
    """Tell whether the weight gradient is faster in channels-first: in fp32 on a CPU without AVX-512."""
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return x.device.type == "cpu" and x.dtype == torch.float32 and not wide and not torch.is_autocast_enabled("cpu")


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.bias_shape = geometry, None if bias is None else list(bias.shape)
        stride, padding, dilation = geometry
        return torch.conv2d(x, weight, bias, stride, padding, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_input, of_weight, of_bias = ctx.needs_input_grad[:3]
        shared = (ctx.bias_shape, *ctx.geometry, False, [0, 0], 1)
        found: list[Tensor | None] = [None] * 3
        if of_input:
            found[0] = _convolution_gradients(gradient, x, weight, *shared, [True, False, False])[0]
        if of_weight or of_bias:
            first = [tensor.contiguous() for tensor in (gradient, x, weight)]
            found[1:] = _convolution_gradients(*first, *shared, [False, of_weight, of_bias])[1:]
        return (*found, None, None, None)
