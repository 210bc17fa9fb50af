"""Which features are taken, and how many each extractor gives."""

from dataclasses import dataclass

EXTRACTORS = ("ddpm", "filters", "pretrained")
"""What features can be taken of, in the order in which they are joined."""
SIGMAS_PX = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Standard deviations of the filters' blurs."""
PER_SCALE = 4
"""Blurred intensity, edge strength, and the larger and the smaller eigenvalue of the Hessian."""
CHANNELS = 3
FILTERS = CHANNELS * len(SIGMAS_PX) * PER_SCALE
"""Responses per pixel, channel by channel, in each from the finest scale to the coarsest."""


@dataclass(frozen=True)
class FeatureSettings:
    """Which features are taken.

    Attributes:
        taps: Names from ``tap_names``, of the extractor ddpm.
        timesteps: Noise levels, of the same.
        scale: How many times the input is enlarged before the diffusion model.
        noise_seed: Of the one noise tensor per size.
        extractors: Names from ``EXTRACTORS``, in their order: ddpm for the taps of the diffusion model, filters for
            those of ``filters.py``, pretrained for the frozen network of ``pretrained.py``.

    Raises:
        ValueError: If an extractor is unknown or appears twice, or there is none.
    """

    taps: tuple[str, ...]
    timesteps: tuple[int, ...]
    scale: int
    noise_seed: int
    extractors: tuple[str, ...] = ("ddpm",)

    def __post_init__(self) -> None:
        in_order = tuple(name for name in EXTRACTORS if name in self.extractors)
        if not in_order or self.extractors != in_order:
            raise ValueError(f"extractors {self.extractors}: some of {EXTRACTORS}, in this order")
