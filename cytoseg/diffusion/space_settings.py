"""Recipe section space: pixels, or the latents of an autoencoder."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MultipleOf

from cytoseg.settings import RULES

LATENT_CHANNELS = 4
"""Values of a latent: at factor 2 an image shrinks to a third, at factor 4 to a twelfth."""
_MAX_DIM = 512


@dataclass(frozen=True)
class SpaceShape:
    """The part of the section that determines the shapes and meaning of the weights."""

    __pydantic_config__ = RULES

    kind: Literal["pixel", "kl", "vq"] = "pixel"
    """What the diffusion model denoises: pixels, or latents of an autoencoder that train-autoencoder trains first. kl
    has continuous latents; vq rounds each to one of 1,024 codes when it draws an image."""
    factor: Literal[2, 4] = 2
    """Pixels that one latent stands for in each direction. 4 suits large crops; small nuclei need 2."""
    dim: Annotated[int, Ge(8), Le(_MAX_DIM), MultipleOf(8)] = 64
    """Channels of the autoencoder at the finest resolution; 32 trains on a CPU."""

    @property
    def is_latent(self) -> bool:
        """Whether there is an autoencoder."""
        return self.kind != "pixel"

    @property
    def downsample(self) -> int:
        """Pixels that one value of the space stands for in each direction."""
        return self.factor if self.is_latent else 1


@dataclass(frozen=True)
class SpaceSection(SpaceShape):
    """The space in which the diffusion model works; other settings, such as batch and seed, are those of training."""

    crops: Annotated[int, Ge(1)] = 500_000
    """Length of the autoencoder's training in crops seen."""
    rate: Annotated[float, Gt(0), Le(0.1)] = 2e-4
    """Highest learning rate of the autoencoder."""
    adversarial_from: Annotated[int, Ge(0)] | None = None
    """Crops after which a discriminator joins, for sharper images; null never."""

    @property
    def shape(self) -> SpaceShape:
        """The part that determines the weights; that of pixels is always the same."""
        if not self.is_latent:
            return PIXELS
        return SpaceShape(*(getattr(self, field.name) for field in fields(SpaceShape)))


PIXELS = SpaceShape()
"""No autoencoder."""


def space_from_json(values: Mapping[str, Any]) -> SpaceShape:
    """Parse the space of a checkpoint.

    Raises:
        TypeError, ValueError: If it is malformed.
    """
    found = SpaceShape(**values)
    whole = type(found.dim) is int and 0 < found.dim <= _MAX_DIM and found.dim % 8 == 0
    if found.kind not in ("kl", "vq") or type(found.factor) is not int or found.factor not in (2, 4) or not whole:
        raise ValueError("not the space of a network")
    return found
