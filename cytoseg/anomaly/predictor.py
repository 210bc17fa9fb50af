"""Class probabilities and anomaly scores of tiles, for the slide loop."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from cytoseg.anomaly.scores import RANGES, RESIDUAL
from cytoseg.anomaly.thresholds import Thresholds
from cytoseg.diffusion.channels import as_channels
from cytoseg.diffusion.denoising_error import Denoiser
from cytoseg.features.extract import to_input
from cytoseg.predict.slide import Predictor

BLUR_PX = 2.0
"""Standard deviation of the blur of a score: the error of a single pixel is mostly chance."""
BEGIN = 500
"""Timestep from which anomalous parts are redrawn, of 1000 on the linear schedule."""


class AnomalyPredictor:
    """Segments tiles and scores each pixel: (N, H, W, 3) uint8 in, named maps out.

    Args:
        segment: Gives ``probabilities`` and ``disagreement``.
        denoiser: The diffusion model.
        thresholds: Determine what is redrawn for the residual; None, for normal slides, omits the residual.
    """

    def __init__(self, segment: Predictor, denoiser: Denoiser, thresholds: Thresholds | None = None) -> None:
        self._segment, self._denoiser, self._thresholds = segment, denoiser, thresholds
        self._times = {name: denoiser.timesteps(reference) for name, reference in RANGES.items()}
        (self._begin,) = denoiser.timesteps([BEGIN])
        self.scores = (*RANGES, *(() if thresholds is None else (RESIDUAL,)))

    def __call__(self, tiles: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        """Predict tiles.

        Returns:
            What ``segment`` returns, and (N, H, W) float32 by the names of ``scores``.
        """
        maps = dict(self._segment(tiles))
        pictures = as_channels(to_input(tiles), self._denoiser.architecture.channels).to(self._denoiser.device)
        for name, times in self._times.items():
            error = self._denoiser.error(pictures, times).cpu().numpy()
            maps[name] = ndimage.gaussian_filter(error, (0, BLUR_PX, BLUR_PX))
        if self._thresholds is not None:
            maps[RESIDUAL] = self._residual(pictures, maps, self._thresholds)
        return maps

    def _residual(
        self, pictures: torch.Tensor, maps: Mapping[str, NDArray[np.float32]], thresholds: Thresholds
    ) -> NDArray[np.float32]:
        """Redraw the pixels above a threshold, in the tiles that have such pixels."""
        ids = maps["probabilities"].argmax(axis=1)
        region: NDArray[Any] = np.logical_or.reduce([thresholds.ratio(maps[name], ids, name) > 1 for name in RANGES])
        found = np.zeros(ids.shape, np.float32)
        some = np.flatnonzero(region.any(axis=(1, 2)))
        if some.size:
            chosen = torch.from_numpy(region[some]).to(pictures.device)
            part = pictures[torch.from_numpy(some).to(pictures.device)]
            found[some] = self._denoiser.residual(part, chosen, self._begin).cpu().numpy()
        weight: NDArray[np.float32] = ndimage.gaussian_filter(region.astype(np.float32), (0, BLUR_PX, BLUR_PX))
        return found * weight
