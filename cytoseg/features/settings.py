"""Feature settings and feature counts per extractor."""

from dataclasses import dataclass

EXTRACTORS = ("ddpm", "filters", "pretrained")
"""Extractors, in the order of concatenation."""
SIGMAS_PX = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Standard deviations of the blurs in pixels."""
PER_SCALE = 4
"""Blurred intensity, edge strength, and both eigenvalues of the Hessian."""
CHANNELS = 3
FILTERS = CHANNELS * len(SIGMAS_PX) * PER_SCALE
"""Responses per pixel: by channel, then from the finest to the coarsest scale."""


@dataclass(frozen=True)
class FeatureSettings:
    """Which features to extract.

    Attributes:
        taps: Names from ``tap_names``, for the extractor ddpm.
        timesteps: Noise levels, for the extractor ddpm.
        scale: Factor of input enlargement before the diffusion model.
        noise_seed: Seed of the one noise tensor per size.
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
