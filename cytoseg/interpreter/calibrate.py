"""Temperature scaling of an ensemble on held-out slides."""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from cytoseg.features.pixel_table import PixelTable
from cytoseg.interpreter.holdout import Folds
from cytoseg.interpreter.mlp import Ensemble
from cytoseg.metrics.calibration import calibration_error, confidence_bins
from cytoseg.seeds import generator_for

MAX_PX = 20_000
"""Most held-out pixels for fitting the temperature."""
RANGE = (0.1, 10.0)
"""Range of temperatures."""


@dataclass(frozen=True)
class TemperatureFit:
    """Effect of the temperature on pixels seen neither by the voting members nor in its fit.

    Attributes:
        temperature: Divisor of the logits; above 1 if the members are overconfident.
        pixels: Number of pixels.
        ece_before: Expected calibration error without the temperature, 0 to 1.
        ece_after: The same with the temperature of the other folds.
        nll_before: Mean negative log-likelihood without the temperature, in nats.
        nll_after: The same with the temperature.
    """

    temperature: float
    pixels: int
    ece_before: float
    ece_after: float
    nll_before: float
    nll_after: float

    def as_json(self) -> dict[str, float | int]:
        """Return the values for JSON."""
        return asdict(self)

    def sentence(self) -> str:
        """Return the sentence for the user."""
        return (
            f"Calibration error (ECE) on held-out slides: {self.ece_before:.3f} before, "
            f"{self.ece_after:.3f} after temperature scaling (T = {self.temperature:.2f})."
        )


@dataclass(frozen=True)
class _Held:
    """Held-out pixels of one fold: (m, P, K) logits of the members that hold it out, (P,) classes and weights."""

    scores: Tensor
    classes: Tensor
    weights: Tensor

    def vote(self, temperature: float) -> Tensor:
        return (self.scores / temperature).softmax(2).mean(0)

    def loss(self, temperature: float) -> float:
        """Return the weighted sum of negative log-likelihoods."""
        of_truth = self.vote(temperature).gather(1, self.classes[:, None])[:, 0]
        return float(-(of_truth.clamp_min(1e-12).log() * self.weights).sum())


def calibrate(ensemble: Ensemble, table: PixelTable, folds: Folds, *, seed: int) -> TemperatureFit:
    """Fit the temperature that divides the logits, and measure its effect.

    Each pixel is evaluated by the soft vote of the members that hold out its slide, whatever the recipe's rule, and is
    weighted by the number of pixels of its crop and class that it represents. The temperature is the median over folds,
    because a single unusual slide can ask for twice as much as the others. The reported errors are cross-fitted: the
    temperature of a fold is the median of the other folds, or its own if no other fold has pixels.

    Args:
        ensemble: In evaluation mode; its members hold slides out.
        table: The chosen pixels.
        folds: Assignment of pixels to folds.
        seed: Seed of the choice of pixels.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    held = _held_out(ensemble, table, folds, seed=seed)
    asked = [_best(fold) for fold in held]
    crossed = [_middle([other for j, other in enumerate(asked) if j != i] or asked) for i in range(len(held))]
    total = sum(float(fold.weights.sum()) for fold in held)
    ones = [1.0] * len(held)
    return TemperatureFit(
        _middle(asked),
        sum(len(fold.classes) for fold in held),
        *(_ece(held, temperatures) for temperatures in (ones, crossed)),
        *(
            sum(fold.loss(t) for fold, t in zip(held, temperatures, strict=True)) / total
            for temperatures in (ones, crossed)
        ),
    )


@torch.no_grad()
def _held_out(ensemble: Ensemble, table: PixelTable, folds: Folds, *, seed: int) -> list[_Held]:
    """Compute the logits of held-out pixels; folds without pixels or that no member holds out are skipped."""
    device, weights = ensemble.weight1.device, _weights(table)
    chosen = torch.randperm(len(table.classes), generator=generator_for(seed, 0, what="calibration"))[:MAX_PX]
    held = []
    for fold in range(min(folds.count, ensemble.members)):
        pixels = chosen[folds.of_pixel[chosen] == fold].sort().values
        if not len(pixels):
            continue
        members = slice(fold, None, folds.count)
        blocks = [
            ensemble(table.features[block].to(device).float().expand(ensemble.members, -1, -1))[members].cpu()
            for block in ensemble.blocks(pixels)
        ]
        held.append(_Held(torch.cat(blocks, dim=1), table.classes[pixels], weights[pixels]))
    return held


def _weights(table: PixelTable) -> Tensor:
    """Return how many labelled pixels each pixel represents; by class only if counts by crop are missing."""
    if table.stands_for is not None:
        return table.stands_for
    drawn = torch.bincount(table.classes)
    natural = torch.tensor([float(table.counts.get(k, 0)) for k in range(len(drawn))])
    return (natural / drawn.clamp_min(1))[table.classes]


def _middle(temperatures: list[float]) -> float:
    """Return the median on a logarithmic scale, because temperatures are factors."""
    return float(np.exp(np.median(np.log(temperatures))))


def _best(fold: _Held) -> float:
    """Find the temperature with the lowest loss; the search is logarithmic because it is a factor."""
    found = minimize_scalar(
        lambda logarithm: fold.loss(float(np.exp(logarithm))),
        bounds=tuple(np.log(RANGE)),
        method="bounded",
    )
    return float(np.exp(found.x))


def _ece(held: list[_Held], temperatures: list[float]) -> float:
    bins = [
        confidence_bins(fold.vote(t).numpy(), fold.classes.numpy(), weights=fold.weights.numpy())
        for fold, t in zip(held, temperatures, strict=True)
    ]
    return calibration_error(np.sum(bins, axis=0))
