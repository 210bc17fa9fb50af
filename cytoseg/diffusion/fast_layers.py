"""Faster equivalents of three layers of lucidrains' U-Net.

The original norm and linear attention took 40 % of a training step on a CPU, mostly in copies between memory layouts;
the original attention holds a weight for each pair of pixels.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytoseg.diffusion.import_lucidrains import Attention, LinearAttention, RMSNorm


def use_fast_layers(unet: nn.Module) -> None:
    """Replace the layers in place; weights, names and order are unchanged."""
    # Norms first: an attention layer keeps the norms inside it.
    for old, fast in ((RMSNorm, FastRMSNorm), (LinearAttention, FastLinearAttention), (Attention, FastAttention)):
        for parent in list(unet.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, old):
                    setattr(parent, name, fast(child))


class FastRMSNorm(nn.Module):
    """Scale each pixel's channels to length sqrt(channels), then multiply by a learned factor per channel.

    Args:
        norm: The package's layer, whose weights are reused.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        part = cast(Any, norm)
        self.g: nn.Parameter = part.g
        self.scale: float = part.scale

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W); the dtype is kept, the length is computed in float32."""
        length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32)
        return x * (self.scale / length.clamp_min(1e-12)).to(x.dtype) * self.g.to(x.dtype)


class FastLinearAttention(nn.Module):
    """Linear attention without layout changes of the preceding convolution's output.

    The softmax over pixels is normalised in the small channels x channels product, the learned memory pixels are summed
    separately instead of concatenated, and the last convolution is folded into that product.

    Args:
        attention: The package's layer, whose weights are reused.

    Source: Shen et al., Efficient Attention: Attention with Linear Complexities, WACV 2021.
    """

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        part = cast(Any, attention)
        self.heads: int = part.heads
        self.scale: float = part.scale
        self.norm: nn.Module = part.norm
        self.mem_kv: nn.Parameter = part.mem_kv
        self.to_qkv: nn.Conv2d = part.to_qkv
        self.to_out: nn.Sequential = part.to_out

    def forward(self, x: Tensor) -> Tensor:
        """Attend from every pixel of (N, C, H, W) to all pixels of its image; return the same shape."""
        count, _, height, width = x.shape
        pixels = self.to_qkv(self.norm(x)).permute(0, 2, 3, 1).reshape(count, height * width, -1)
        projection, norm = cast(nn.Conv2d, self.to_out[0]), self.to_out[1]
        with torch.autocast(x.device.type, enabled=False):
            q, k, v = pixels.chunk(3, dim=-1)
            by_head = q.reshape(count, height * width, self.heads, -1)
            q = by_head.softmax(-1).reshape(q.shape)
            product = self._context(k, v) @ projection.weight[:, :, 0, 0].T.float()
            out = torch.baddbmm(cast(Tensor, projection.bias).to(q.dtype), q, product.to(q.dtype))
        attended: Tensor = norm(out.reshape(count, height, width, -1).permute(0, 3, 1, 2))
        return attended

    def _context(self, k: Tensor, v: Tensor) -> Tensor:
        """Sum values over pixels, weighted by the softmax of keys; return (N, C, C) float32, zero between heads."""
        # (2, heads, channels of a head, memory pixels) -> (memory pixels, C) each
        memory_k, memory_v = self.mem_kv.to(k.dtype).flatten(1, 2).transpose(1, 2)
        highest = torch.maximum(k.detach().amax(1), memory_k.detach().amax(0))[:, None]
        weights, memory_weights = (k - highest).exp(), (memory_k - highest).exp()
        total = weights.sum(1, dtype=torch.float32) + memory_weights.sum(1, dtype=torch.float32)
        summed = (weights.transpose(1, 2) @ v).float() + memory_weights.transpose(1, 2).float() @ memory_v.float()
        head = torch.arange(k.shape[-1], device=k.device) // (k.shape[-1] // self.heads)
        context: Tensor = summed * (head[:, None] == head) * (self.scale / total[:, :, None])
        return context


class FastAttention(nn.Module):
    """Attention between all pixels, without storing the weight of each pair on a CPU.

    On a GPU the package's arithmetic is kept: the gradients of the fused kernels there vary from run to run.

    Args:
        attention: The package's layer, whose weights are reused.
    """

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        part = cast(Any, attention)
        self.heads: int = part.heads
        self.norm: nn.Module = part.norm
        self.attend: nn.Module = part.attend
        self.mem_kv: nn.Parameter = part.mem_kv
        self.to_qkv: nn.Conv2d = part.to_qkv
        self.to_out: nn.Conv2d = part.to_out

    def forward(self, x: Tensor) -> Tensor:
        """Attend from every pixel of (N, C, H, W) to all pixels of its image; return the same shape."""
        count, _, height, width = x.shape
        # Contiguous, or torch falls back to an implementation that stores the weights.
        pixels = self.to_qkv(self.norm(x)).permute(0, 2, 3, 1).contiguous()
        pixels = pixels.reshape(count, height * width, 3, self.heads, -1)
        q, k, v = pixels.permute(2, 0, 3, 1, 4)  # each (N, heads, pixels, channels of a head)
        memory = self.mem_kv.to(k.dtype)[:, None].expand(-1, count, -1, -1, -1)
        k, v = (torch.cat((learned, part), dim=-2) for learned, part in zip(memory, (k, v), strict=True))
        out = self.attend(q, k, v) if x.is_cuda else F.scaled_dot_product_attention(q, k, v)
        attended: Tensor = self.to_out(out.transpose(1, 2).reshape(count, height, width, -1).permute(0, 3, 1, 2))
        return attended
