"""Blocks of the backbone adm: the recipe section diffusion.adm."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from cytoseg.settings import RULES

_MAX_VALUE = 64


@dataclass(frozen=True)
class AdmSettings:
    """Blocks of the backbone adm; the defaults are those of the published 256 px networks."""

    __pydantic_config__ = RULES

    blocks: Annotated[int, Ge(1), Le(8)] = 2
    """Residual blocks of each resolution of the encoder; the decoder has one more."""
    attention: tuple[Annotated[int, Ge(1), Le(64)], ...] = (8, 16, 32)
    """Resolutions with self-attention, as the number of image pixels per value in each direction; [] for none, not even
    between encoder and decoder."""
    conditioning: Literal["add", "adagn"] = "adagn"
    """How a block receives the timestep: adagn scales and shifts after the norm, add adds it before."""
    block: Literal["resnet", "convnext"] = "resnet"
    """resnet has two 3x3 convolutions; convnext a depthwise 7x7 and two 1x1 convolutions, with fewer weights."""
    resample_in_blocks: bool = True
    """Halve and double the resolution inside residual blocks; false uses separate convolutions."""


AS_PUBLISHED = AdmSettings()
"""The blocks of the published networks."""


def adm_from_json(values: Mapping[str, Any]) -> AdmSettings:
    """Parse the blocks of a checkpoint.

    Raises:
        LookupError, TypeError, ValueError: If it is malformed.
    """
    found = AdmSettings(**{**values, "attention": tuple(values["attention"])})
    numbers = (found.blocks, *found.attention)
    words = {"add", "adagn"}, {"resnet", "convnext"}
    if (
        not all(type(number) is int and 0 < number <= _MAX_VALUE for number in numbers)
        or found.conditioning not in words[0]
        or found.block not in words[1]
        or type(found.resample_in_blocks) is not bool
    ):
        raise ValueError("not the blocks of a network")
    return found
