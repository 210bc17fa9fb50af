"""Building backbones and the diffusion process, and tapping decoders."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cytoseg.diffusion.architecture import TAP_PARTS, Architecture, split_tap
from cytoseg.diffusion.efficientnet import load_imagenet
from cytoseg.diffusion.fast_layers import use_fast_layers
from cytoseg.diffusion.loss import loss_weights
from cytoseg.diffusion.lucidrains import GaussianDiffusion, Unet
from cytoseg.diffusion.pretrained_unet import PretrainedUnet


def build_unet(architecture: Architecture, *, seed: int = 0) -> nn.Module:
    """Build the noise predictor with seeded weights; the global random state is unchanged."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if architecture.backbone == "pretrained":
            return PretrainedUnet(architecture.widths, mask_classes=architecture.mask_classes)
        unet: nn.Module = Unet(architecture.dim, dim_mults=architecture.dim_mults)
    use_fast_layers(unet)
    return unet


def start_from_imagenet(unet: nn.Module) -> None:
    """Load the ImageNet weights into the encoder of a ``pretrained`` backbone; other backbones are unchanged.

    Raises:
        CheckpointError: If the weights are not installed or have another hash.
    """
    if isinstance(unet, PretrainedUnet):
        load_imagenet(unet.encoder)


def build_diffusion(unet: nn.Module, architecture: Architecture, *, size_px: int) -> nn.Module:
    """Wrap the network in the diffusion process; crops must already be in [-1, 1]."""
    diffusion: nn.Module = GaussianDiffusion(
        unet,
        image_size=size_px,
        timesteps=architecture.timesteps,
        beta_schedule=architecture.schedule,
        objective=architecture.objective,
        auto_normalize=False,
    )
    diffusion.loss_weight = loss_weights(architecture)
    return diffusion


@contextlib.contextmanager
def tapped(unet: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the tapped tensors of every forward pass inside the block.

    The attention tap is the *input of the upsample module*: a hook on the attention module itself would see the branch
    before the residual is added.

    Args:
        unet: From ``build_unet``.
        names: Names from ``tap_names``.

    Yields:
        Tap name to (N, C, h, w), overwritten by each forward pass.
    """
    seen: dict[str, Tensor] = {}
    with contextlib.ExitStack() as hooks:
        for name in names:
            hooks.enter_context(_heard(unet, name, functools.partial(seen.__setitem__, name)))
        yield seen


def run_to_taps(unet: nn.Module, names: Sequence[str], xt: Tensor, times: Tensor) -> dict[str, Tensor]:
    """Run the network only up to the last tap.

    Args:
        unet: From ``build_unet``.
        names: Names from ``tap_names``, at least one.
        xt: (N, 3, H, W) noisy pictures.
        times: (N,) int64 timesteps.

    Returns:
        Tap name to (N, C, h, w).
    """
    parts = TAP_PARTS["pretrained" if isinstance(unet, PretrainedUnet) else "lucidrains"]
    last = max(names, key=lambda name: (split_tap(name)[0], parts.index(split_tap(name)[1])))
    # Hooks of a module run in registration order: the tap is stored, then the pass ends.
    with tapped(unet, names) as seen, _heard(unet, last, _end_here), contextlib.suppress(_LastTapError):
        unet(xt, times)
    return seen


class _LastTapError(Exception):
    """Ends the forward pass; never leaves ``run_to_taps``."""


def _end_here(_tap: Tensor) -> None:
    raise _LastTapError


@contextlib.contextmanager
def _heard(unet: nn.Module, name: str, listener: Callable[[Tensor], None]) -> Iterator[None]:
    """Call the listener with a tap's tensor whenever a forward pass inside the block reaches it."""
    block, part = split_tap(name)
    up: Any = unet.ups[block]  # type: ignore[index] # a module list, which nn.Module's attributes cannot say
    if isinstance(unet, PretrainedUnet):
        module = getattr(up, part)
    else:
        block1, block2, _attention, upsample = up
        module = {"block1": block1, "block2": block2, "attention": upsample, "upsample": upsample}[part]
    if part == "attention":
        handle = module.register_forward_pre_hook(lambda _module, inputs: listener(inputs[0]))
    else:
        handle = module.register_forward_hook(lambda _module, _inputs, output: listener(output))
    try:
        yield
    finally:
        handle.remove()
