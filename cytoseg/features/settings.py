"""Recipe section features, and feature counts per extractor."""

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from cytoseg.settings import RULES, checked_by

ExtractorName = Literal["ddpm", "filters", "pretrained"]
EXTRACTORS: tuple[ExtractorName, ...] = ("ddpm", "filters", "pretrained")
"""Extractors, in the order of concatenation."""
SIGMAS_PX = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Standard deviations of the blurs in pixels."""
SCALES = (0.25, 0.5, 1, 2, 4)
"""Factors by which the input of the diffusion model can be resized."""
PER_SCALE = 4
"""Blurred intensity, edge strength, and both eigenvalues of the Hessian."""
FILTERS_A_CHANNEL = len(SIGMAS_PX) * PER_SCALE
"""Responses per pixel and channel, from the finest to the coarsest scale."""


def _each_once(names: tuple[ExtractorName, ...]) -> tuple[ExtractorName, ...]:
    """Refuse an empty list and duplicates; sort in the order of concatenation."""
    if not names:
        raise ValueError(f"name at least one of {', '.join(EXTRACTORS)}")
    if repeated := [name for i, name in enumerate(names) if name in names[:i]]:
        raise ValueError(f"{repeated[0]} appears twice")
    return tuple(name for name in EXTRACTORS if name in names)


def _one_of_scales(scale: float) -> float:
    """Refuse other factors; keep whole ones as whole numbers, as older files have them."""
    if scale not in SCALES:
        raise ValueError(f"Input should be {', '.join(map(str, SCALES[:-1]))} or {SCALES[-1]}")
    return int(scale) if scale >= 1 else scale


Scale = Annotated[float, checked_by(_one_of_scales)]


@dataclass(frozen=True)
class FeatureInput:
    """The part of the section that does not depend on the network."""

    scale: Scale = 1
    """Factor by which the input of the diffusion model is resized, if its training had objects of another size: 2 for
    objects of a few pixels, at four times the cost; 0.5 for nuclei of 30 px with cytology-base, which knows 7 to 18."""
    noise_seed: Annotated[int, Ge(0), Lt(2**31)] = 0
    """Seed of the one noise tensor shared by all crops and timesteps."""
    extractors: Annotated[tuple[ExtractorName, ...], checked_by(_each_once)] = ("ddpm",)
    """Concatenated feature extractors: ddpm for taps of the diffusion model, filters for the 72 image filters of the
    random forest (24 of grey images), pretrained for the five stages of a frozen ImageNet network (training needs
    the extra pretrained)."""


@dataclass(frozen=True)
class _AskedTaps:
    taps: Literal["all"] | tuple[str, ...] = "all"
    """all, or names such as block3.attention: block 0 is the deepest; parts are block1, block2, attention, upsample."""
    timesteps: tuple[Annotated[int, Ge(0)], ...] | None = None
    """Noise levels of the features; null with snr_db null is 50, 100, 150. Without a line of its own, 0 for a network
    trained on labelled sources, such as cytology-base: its mask head saw no noise."""
    snr_db: tuple[float, ...] | None = None
    """Noise levels by signal-to-noise ratio in decibels, the same on every schedule; instead of timesteps."""


@dataclass(frozen=True)
class FeaturesSection(FeatureInput, _AskedTaps):  # the fields of the last base come first
    """Features of the interpreters."""

    __pydantic_config__ = RULES

    memory_gb: Annotated[float, Gt(0)] | None = None
    """Memory limit of train-interpreter in GB; pixel features that do not fit go to disk. null takes up to half of the
    free memory. Tuning of a decoder stops when it exceeds the limit. In compare and study it applies to MLPs and
    decoders, not to the forest and the U-Net."""

    def of_network(self, taps: tuple[str, ...], timesteps: tuple[int, ...]) -> "FeatureSettings":
        """Return the feature settings with the taps and timesteps of a network."""
        return FeatureSettings(taps, timesteps, *(getattr(self, field.name) for field in fields(FeatureInput)))


@dataclass(frozen=True)
class _Taps:
    taps: tuple[str, ...]
    timesteps: tuple[int, ...]


@dataclass(frozen=True)
class FeatureSettings(FeatureInput, _Taps):
    """Which features to extract.

    Attributes:
        taps: Names from ``tap_names``, for the extractor ddpm.
        timesteps: Noise levels, for the extractor ddpm.

    Raises:
        ValueError: If an extractor is unknown or appears twice, or there is none.
    """

    def __post_init__(self) -> None:
        in_order = tuple(name for name in EXTRACTORS if name in self.extractors)
        if not in_order or self.extractors != in_order:
            raise ValueError(f"extractors {self.extractors}: some of {EXTRACTORS}, in this order")
