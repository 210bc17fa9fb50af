"""One temperature for an ensemble, from slides that the voting members have not learnt from."""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from cytoseg.devices import generator_for
from cytoseg.features.pixels import PixelTable
from cytoseg.interpreter.holdout import Folds
from cytoseg.interpreter.mlp import Ensemble
from cytoseg.metrics.calibration import calibration_error, confidence_bins

MOST_PX = 20_000
"""Held-out pixels that the temperature is fitted on."""
RANGE = (0.1, 10.0)
"""Temperatures considered."""


@dataclass(frozen=True)
class Calibration:
    """What the temperature did, on pixels that neither the voting members nor the temperature had seen.

    Attributes:
        temperature: By which the scores are to be divided; above 1 the members are too sure of themselves.
        pixels: How many were looked at.
        ece_before: Expected calibration error without it, 0 to 1.
        ece_after: With the temperature that the other folds ask for.
        nll_before: Mean negative logarithm of the true class's probability without it, in nats.
        nll_after: With it.
    """

    temperature: float
    pixels: int
    ece_before: float
    ece_after: float
    nll_before: float
    nll_after: float

    def as_json(self) -> dict[str, float | int]:
        """Return the numbers for a file."""
        return asdict(self)

    def sentence(self) -> str:
        """Say it to the user."""
        return (
            f"Calibration error (ECE) on held-out slides: {self.ece_before:.3f} before, "
            f"{self.ece_after:.3f} after temperature scaling (T = {self.temperature:.2f})."
        )


@dataclass(frozen=True)
class _Held:
    """Held-out pixels of one fold: (m, P, K) scores of the members that hold it out, (P,) classes and weights."""

    scores: Tensor
    classes: Tensor
    weights: Tensor

    def vote(self, temperature: float) -> Tensor:
        return (self.scores / temperature).softmax(2).mean(0)

    def loss(self, temperature: float) -> float:
        """Sum of the weighted negative log-likelihood."""
        of_truth = self.vote(temperature).gather(1, self.classes[:, None])[:, 0]
        return float(-(of_truth.clamp_min(1e-12).log() * self.weights).sum())


def calibrate(ensemble: Ensemble, table: PixelTable, folds: Folds, *, seed: int) -> Calibration:
    """Fit the temperature by which scores are to be divided, and tell what it does.

    Each pixel is judged by the soft vote of the members that hold out its slide, whatever rule the recipe votes by, and
    counts for all those of its crop and class that it was chosen from. Each fold asks for a temperature of its own, and
    the middle one is taken: a single odd slide asks for twice as much as the others, and would decide for all of them
    (of two folds, with two members, both do). The errors told are cross-fitted: the temperature for a fold is the
    middle one of the other folds, or its own where no other has a pixel.

    Args:
        ensemble: In evaluation mode; its members hold slides out.
        table: The chosen pixels.
        folds: Who holds out what.
        seed: Of the choice of pixels.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    held = _held_out(ensemble, table, folds, seed=seed)
    asked = [_best(fold) for fold in held]
    crossed = [_middle([other for j, other in enumerate(asked) if j != i] or asked) for i in range(len(held))]
    total = sum(float(fold.weights.sum()) for fold in held)
    ones = [1.0] * len(held)
    return Calibration(
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
    """Compute the scores of held-out pixels; folds that no member holds out or that have no pixel are left out."""
    device, weights = ensemble.weight1.device, _weights(table)
    chosen = torch.randperm(len(table.classes), generator=generator_for(seed, 0, what="calibration"))[:MOST_PX]
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
    """Tell for how many labelled pixels each pixel stands; by its class alone where nobody counted by crop."""
    if table.stands_for is not None:
        return table.stands_for
    drawn = torch.bincount(table.classes)
    natural = torch.tensor([float(table.counts.get(k, 0)) for k in range(len(drawn))])
    return (natural / drawn.clamp_min(1))[table.classes]


def _middle(temperatures: list[float]) -> float:
    """Return the median; between logarithms, for temperatures are factors."""
    return float(np.exp(np.median(np.log(temperatures))))


def _best(fold: _Held) -> float:
    """Find the temperature of the least loss; looked for among logarithms, for it is a factor."""
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
