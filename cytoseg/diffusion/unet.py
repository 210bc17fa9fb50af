"""The backbone: lucidrains' U-Net and Gaussian diffusion, and the places where its decoder can be tapped."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cytoseg.diffusion.lean import make_lean
from cytoseg.diffusion.package import GaussianDiffusion, Unet
from cytoseg.errors import CheckpointError, RecipeError

TAP_PARTS = ("block1", "block2", "attention", "upsample")
"""The four tensors of a decoder block that can be tapped, in the order in which they are computed."""


@dataclass(frozen=True)
class Architecture:
    """What decides the shapes and meaning of the weights.

    Attributes:
        dim: Channels at the finest resolution.
        dim_mults: Channel multiplier of each resolution, finest first.
        timesteps: T.
        schedule: ``linear``, ``cosine`` or ``sigmoid``.
        objective: ``pred_noise``, ``pred_x0`` or ``pred_v``.
        backbone: ``lucidrains``.
    """

    dim: int
    dim_mults: tuple[int, ...]
    timesteps: int
    schedule: str
    objective: str
    backbone: str = "lucidrains"

    def as_json(self) -> dict[str, Any]:
        """Give the values as JSON holds them."""
        return {**asdict(self), "dim_mults": list(self.dim_mults)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Architecture":
        """Read back what ``as_json`` gave."""
        return cls(**{**values, "dim_mults": tuple(values["dim_mults"])})

    @property
    def multiple_px(self) -> int:
        """Height and width of the input must be multiples of this many pixels."""
        return int(2 ** (len(self.dim_mults) - 1))


def check_same(found: Architecture, wanted: Architecture, *, where: str) -> None:
    """Compare a checkpoint's architecture with the recipe's.

    Raises:
        CheckpointError: If they differ; names each value that does.
    """
    a, b = found.as_json(), wanted.as_json()
    differ = [f"{k} {a[k]} there, {b[k]} in the recipe" for k in b if a[k] != b[k]]
    if differ:
        raise CheckpointError(
            f"{where}: a checkpoint of another architecture ({'; '.join(differ)}). "
            "Use its recipe or another run folder."
        )


def build_unet(architecture: Architecture, *, seed: int = 0) -> nn.Module:
    """Make the noise predictor with weights drawn from a seed; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet: nn.Module = Unet(architecture.dim, dim_mults=architecture.dim_mults)
    make_lean(unet)
    return unet


def build_diffusion(unet: nn.Module, architecture: Architecture, *, size_px: int) -> nn.Module:
    """Wrap the network in the diffusion process; crops are expected in [-1, 1] already."""
    diffusion: nn.Module = GaussianDiffusion(
        unet,
        image_size=size_px,
        timesteps=architecture.timesteps,
        beta_schedule=architecture.schedule,
        objective=architecture.objective,
        auto_normalize=False,
    )
    return diffusion


def tap_names(architecture: Architecture) -> tuple[str, ...]:
    """Name every tap, deepest block first: ``block0.block1``, ..., ``block3.upsample``."""
    return tuple(f"block{i}.{part}" for i in range(len(architecture.dim_mults)) for part in TAP_PARTS)


def tap_shapes(architecture: Architecture, names: Sequence[str]) -> list[tuple[int, int]]:
    """Give (channels, downsample) of each tap; downsample 8 means one value per 8x8 input pixels.

    Raises:
        RecipeError: If a name is not a tap of this architecture.
    """
    known = tap_names(architecture)
    unknown = [n for n in names if n not in known]
    if unknown:
        raise RecipeError(f"features.taps: {', '.join(unknown)} not in this network. It has {', '.join(known)}.")
    channels = [architecture.dim * m for m in reversed((1, *architecture.dim_mults))]
    depth = len(architecture.dim_mults)
    shapes = []
    for name in names:
        block, part = int(name.split(".")[0].removeprefix("block")), name.split(".")[1]
        last = block == depth - 1
        up = part == "upsample"
        shapes.append((channels[block + up], 2 ** (depth - 1 - block - (up and not last))))
    return shapes


@contextlib.contextmanager
def tapped(unet: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect tapped tensors of every forward pass made inside the block.

    The attention tap is the *input of the upsample module*: a hook on the attention module itself would see the branch
    before the residual is added.

    Args:
        unet: As ``build_unet`` makes it.
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
    """Run the network no further than the last tap: what comes behind it is not computed.

    Args:
        unet: As ``build_unet`` makes it.
        names: Names from ``tap_names``, at least one.
        xt: (N, 3, H, W) noisy pictures.
        times: (N,) int64 timesteps.

    Returns:
        Tap name to (N, C, h, w).
    """
    last = max(names, key=lambda name: (name.split(".")[0], TAP_PARTS.index(name.split(".")[1])))
    # Hooks of one module are called in the order they came: the tap is kept, and then the pass ends.
    with tapped(unet, names) as seen, _heard(unet, last, _end_here), contextlib.suppress(_LastTapError):
        unet(xt, times)
    return seen


class _LastTapError(Exception):
    """Leaves the forward pass; never seen outside ``run_to_taps``."""


def _end_here(_tap: Tensor) -> None:
    raise _LastTapError


@contextlib.contextmanager
def _heard(unet: nn.Module, name: str, listener: Callable[[Tensor], None]) -> Iterator[None]:
    """Tell the listener the tensor of a tap whenever a forward pass made inside the block reaches it."""
    ups: Any = unet.ups  # a list of lists of modules, which nn.Module's attributes cannot say
    block, part = name.split(".")
    block1, block2, _attention, upsample = ups[int(block.removeprefix("block"))]
    if part == "attention":
        handle = upsample.register_forward_pre_hook(lambda _module, inputs: listener(inputs[0]))
    else:
        module = {"block1": block1, "block2": block2, "upsample": upsample}[part]
        handle = module.register_forward_hook(lambda _module, _inputs, output: listener(output))
    try:
        yield
    finally:
        handle.remove()
