"""Building backbones and the diffusion process, and tapping decoders."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from cytoseg.diffusion.add_noise import alpha_bar
from cytoseg.diffusion.adm import AdmUnet, adm_shape
from cytoseg.diffusion.architecture import TAP_PARTS, Architecture, split_tap
from cytoseg.diffusion.autoencoder_training import AutoencoderTraining
from cytoseg.diffusion.efficientnet import load_imagenet
from cytoseg.diffusion.fast_layers import use_fast_layers
from cytoseg.diffusion.import_lucidrains import GaussianDiffusion, Unet
from cytoseg.diffusion.network_output import loss_weights
from cytoseg.diffusion.pretrained_unet import PretrainedUnet
from cytoseg.diffusion.space import build_space, space_of

_ORDER = tuple(dict.fromkeys(part for parts in TAP_PARTS.values() for part in parts))
"""The parts of a block of any backbone, in order of computation."""
_HOOKING = threading.Lock()
"""Held while a hook is registered: PyTorch numbers hooks with a counter that is not locked."""


def build_unet(architecture: Architecture, *, seed: int = 0) -> nn.Module:
    """Build the noise predictor with seeded weights; the global random state is unchanged."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = _backbone(architecture)
        unet.space = build_space(architecture.space, architecture.channels)
    return unet


def build_network(architecture: Architecture, *, seed: int = 0) -> nn.Module:
    """Build what is trained: the noise predictor, or the autoencoder of its space."""
    if architecture.part == "unet":
        return build_unet(architecture, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoencoderTraining(architecture.space, architecture.channels)


def _backbone(architecture: Architecture) -> nn.Module:
    if architecture.backbone == "pretrained":
        return PretrainedUnet(architecture.widths, mask_classes=architecture.mask_classes)
    if architecture.backbone == "adm":
        return AdmUnet(adm_shape(architecture))
    unet: nn.Module = Unet(architecture.dim, dim_mults=architecture.dim_mults, channels=architecture.diffused_channels)
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
        image_size=size_px // architecture.space.downsample,
        timesteps=architecture.timesteps,
        beta_schedule=architecture.schedule,
        objective=architecture.objective,
        auto_normalize=False,
    )
    diffusion.space = cast(nn.Module, space_of(unet))
    diffusion.loss_weight = loss_weights(architecture)
    # The package's own table is of float32, in which the noise of the first timesteps is inexact.
    diffusion.alpha_bars = alpha_bar(architecture.schedule, architecture.timesteps)
    return diffusion


@contextlib.contextmanager
def tapped(unet: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the tapped tensors of every forward pass of this thread inside the block.

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
            hooks.enter_context(_listening_to_tap(unet, name, functools.partial(seen.__setitem__, name)))
        yield seen


def run_to_taps(unet: nn.Module, names: Sequence[str], xt: Tensor, times: Tensor) -> dict[str, Tensor]:
    """Run the network only up to the last tap.

    Args:
        unet: From ``build_unet``.
        names: Names from ``tap_names``, at least one.
        xt: (N, C, H, W) noisy images.
        times: (N,) int64 timesteps.

    Returns:
        Tap name to (N, C, h, w).
    """
    last = max(names, key=lambda name: (split_tap(name)[0], _ORDER.index(split_tap(name)[1])))
    # Hooks of a module run in registration order: the tap is stored, then the pass ends.
    with tapped(unet, names) as seen, _listening_to_tap(unet, last, _end_here), contextlib.suppress(_LastTapError):
        unet(xt, times)
    return seen


class _LastTapError(Exception):
    """Ends the forward pass; never leaves ``run_to_taps``."""


def _end_here(_tap: Tensor) -> None:
    raise _LastTapError


@contextlib.contextmanager
def _listening_to_tap(unet: nn.Module, name: str, listener: Callable[[Tensor], None]) -> Iterator[None]:
    """Call the listener with a tap's tensor whenever a forward pass of this thread inside the block reaches it."""
    block, part = split_tap(name)
    module, thread = _tapped_module(unet, block, part), threading.get_ident()

    def hear(tap: Tensor) -> None:
        if threading.get_ident() == thread:  # the hooks see the passes of all threads through one network
            listener(tap)

    with _HOOKING:
        if part == "attention":
            handle = module.register_forward_pre_hook(lambda _module, inputs: hear(inputs[0]))
        else:
            handle = module.register_forward_hook(lambda _module, _inputs, output: hear(output))
    try:
        yield
    finally:
        handle.remove()


def _tapped_module(unet: nn.Module, block: int, part: str) -> nn.Module:
    """Return the module whose output is the tap, or whose input if the tap is the attention."""
    if isinstance(unet, AdmUnet):
        return unet.output_blocks[block]
    up: Any = unet.ups[block]  # type: ignore[index] # a module list, which nn.Module's attributes cannot say
    if isinstance(unet, PretrainedUnet):
        return cast(nn.Module, getattr(up, part))
    block1, block2, _attention, upsample = up
    modules: dict[str, nn.Module] = {"block1": block1, "block2": block2, "attention": upsample, "upsample": upsample}
    return modules[part]


def without_last_convolution(unet: nn.Module) -> None:
    """Let a network return the features that its last convolution would read."""
    if isinstance(unet, AdmUnet):
        unet.out[-1] = nn.Identity()
    else:
        unet.final_conv = nn.Identity()
