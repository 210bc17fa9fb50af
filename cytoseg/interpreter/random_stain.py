"""Random stain augmentation, so that networks do not depend on one lab's colours."""

import numpy as np
import torch
from torch import Tensor

_DARKEST = 1.0 / 255.0


def paint_random_stain(picture: Tensor, rng: np.random.Generator) -> Tensor:
    """Recolour an image with a synthetic stain: one hue each for glass, thin and dense material.

    The optical density of the grey image is kept up to a factor; by the Beer-Lambert law it darkens the colour of the
    glass, with different absorption at low and high density, like cytoplasm and nuclei.

    Args:
        picture: (3, H, W) float32 in [-1, 1]; its colours, if any, are lost.
        rng: Random generator.

    Returns:
        (3, H, W) float32 in [-1, 1].
    """
    grey = ((picture.mean(0) + 1.0) / 2.0).clamp(_DARKEST, 1.0)
    glass = torch.quantile(grey, 0.95).clamp_min(0.2)
    density = -(grey / glass).clamp(_DARKEST, 1.0).log() * float(rng.uniform(0.7, 1.5))
    thin, dense = 0.25 + 0.75 * 3 * rng.dirichlet([1.5] * 3), 0.35 + 0.65 * 3 * rng.dirichlet([3.0] * 3)
    share = ((density - float(rng.uniform(0.2, 0.6))) / 0.15).sigmoid()
    absorption = _colour(thin) * (1.0 - share) + _colour(dense) * share
    painted: Tensor = _colour(rng.uniform(0.7, 1.0, 3)) * (-density * absorption).exp()
    return painted * 2.0 - 1.0


def _colour(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> Tensor:
    return torch.from_numpy(values).float()[:, None, None]
