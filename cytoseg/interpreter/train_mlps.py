"""Training the ensemble: all members batched, each with its own pixels."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cytoseg.errors import LabelError
from cytoseg.features.pixel_rows import row_blocks
from cytoseg.features.pixel_table import PixelTable
from cytoseg.interpreter.calibrate import TemperatureFit, calibrate
from cytoseg.interpreter.etf import simplex
from cytoseg.interpreter.holdout import CHECK_STEPS, BestWeights, Folds, fold_by_slide
from cytoseg.interpreter.mlp import Ensemble, member_losses
from cytoseg.interpreter.settings import EnsembleSettings
from cytoseg.interpreter.train_reference import OnStep, train_by_reference
from cytoseg.seeds import generator_for, seed_for

MIN_STEPS = 400
"""Minimum number of steps for any table. In cross-validation fewer cost IoU of nuclei, and many more overfit."""


@dataclass(frozen=True)
class Trained:
    """Result of training.

    Attributes:
        ensemble: The ensemble in evaluation mode.
        kept_steps: The step whose weights each member kept; None without early stopping.
        calibration: Effect of the temperature; None if none was fitted.
    """

    ensemble: Ensemble
    kept_steps: tuple[int, ...] | None = None
    calibration: TemperatureFit | None = None


def train_ensemble(
    table: PixelTable,
    classes: int,
    *,
    slides: Sequence[str | None],
    settings: EnsembleSettings,
    device: torch.device,
    on_step: OnStep = lambda _step, _of, _loss: None,
) -> Trained:
    """Train M interpreters with cross entropy.

    For early stopping or calibration each member holds out some slides; every slide is used by most members.

    Args:
        table: The chosen pixels.
        classes: K.
        slides: The slide of each crop of the table.
        settings: Training settings.
        device: Training device.
        on_step: Called with the step, the number of steps, and the mean loss of the members.

    Returns:
        The ensemble and its held-out results. A class without pixels in the table is never predicted.

    Raises:
        LabelError: If fewer than two classes are labelled.
    """
    check_two_classes(table.classes.tolist())
    if settings.mode == "reference":
        m, seed = settings.members, settings.seed
        ensemble = train_by_reference(table, classes, members=m, seed=seed, device=device, on_step=on_step)
        ensemble.rule_out(_unseen(table, classes))
        return Trained(ensemble)
    passes = math.ceil(settings.passes * len(table.classes) / settings.batch_px)
    settings = replace(settings, steps=min(settings.steps, max(passes, MIN_STEPS)))
    holds_out = settings.early_stopping or settings.calibrate
    folds = fold_by_slide(table, slides, seed=settings.seed) if holds_out else None
    trained = _fit(table, classes, folds, settings=settings, device=device, on_step=on_step)
    if folds is None or not settings.calibrate:
        return trained
    calibration = calibrate(trained.ensemble, table, folds, seed=settings.seed)
    trained.ensemble.divide_scores(calibration.temperature)
    return replace(trained, calibration=calibration)


def _fit(
    table: PixelTable,
    classes: int,
    folds: Folds | None,
    *,
    settings: EnsembleSettings,
    device: torch.device,
    on_step: OnStep,
) -> Trained:
    """Train an ensemble; with folds each member trains without its held-out fold."""
    everything = torch.arange(len(table.classes))
    pools = [everything if folds is None else folds.training_pixels(m) for m in range(settings.members)]
    ensemble = Ensemble(settings.members, table.features.shape[1], classes, seed=settings.seed).to(device)
    _standardise(ensemble, table)
    best = None
    if folds is not None and settings.early_stopping:
        best = BestWeights(ensemble, table, folds, seed=settings.seed)
    ensemble.train()
    for step, loss in _steps(ensemble, table, pools, settings):
        on_step(step, settings.steps, loss)
        if best is not None and (step % CHECK_STEPS == 0 or step == settings.steps):
            best.check(step)
    if best is not None:
        best.restore()
    _undo_balance(ensemble.eval(), table, pools)
    ensemble.rule_out(_unseen(table, classes))
    return Trained(ensemble, None if best is None else tuple(best.steps))


def _steps(
    ensemble: Ensemble, table: PixelTable, pools: Sequence[Tensor], settings: EnsembleSettings
) -> Iterator[tuple[int, float]]:
    """Run the optimiser; yield the number of each step and the mean loss of the members."""
    device, optimiser, etf = ensemble.weight1.device, _optimiser(ensemble, settings), _Etf(ensemble, settings)
    hide = _Dropout(ensemble, settings)
    for step, batch in enumerate(_batches(pools, settings), start=1):
        for group in optimiser.param_groups:
            group["lr"] = settings.rate * 0.5 * (1.0 + math.cos(math.pi * (step - 1) / settings.steps))
        hidden = ensemble.hidden(hide(table.features[batch].to(device).float()))
        target = table.classes[batch].to(device)
        losses = member_losses(ensemble.scores(hidden), target)
        optimiser.zero_grad()
        etf.add(losses, hidden, target).sum().backward()  # type: ignore[no-untyped-call] # torch's annotation is missing
        optimiser.step()
        yield step, float(losses.detach().mean())


class _Dropout:
    """Feature dropout: dropped features become the mean, the others deviate more from it."""

    def __init__(self, ensemble: Ensemble, settings: EnsembleSettings) -> None:
        self._mean, self._shown = ensemble.mean, 1.0 - settings.dropout
        seed = seed_for(settings.seed, 0, what="dropout")
        self._generator = torch.Generator(ensemble.mean.device).manual_seed(seed)

    def __call__(self, features: Tensor) -> Tensor:
        """Change (M, B, D) features in place and return them."""
        if self._shown < 1.0:
            shown = torch.empty_like(features).bernoulli_(self._shown, generator=self._generator)
            features.sub_(self._mean).mul_(shown).div_(self._shown).add_(self._mean)
        return features


class _Etf:
    """The ETF regulariser: the hidden activations classified by the fixed vertices of a simplex."""

    def __init__(self, ensemble: Ensemble, settings: EnsembleSettings) -> None:
        self._weight = settings.etf_weight
        if self._weight:
            width = ensemble.weight3.shape[1]
            corners = [simplex(width, ensemble.classes, seed=settings.seed, member=m) for m in range(ensemble.members)]
            self._corners = torch.stack(corners).to(ensemble.weight3)

    def add(self, losses: Tensor, hidden: Tensor, target: Tensor) -> Tensor:
        """Return the (M,) losses including the regulariser."""
        if not self._weight:
            return losses
        return losses + self._weight * member_losses(torch.bmm(hidden, self._corners), target)


def _optimiser(ensemble: Ensemble, settings: EnsembleSettings) -> torch.optim.Optimizer:
    """Make AdamW without weight decay on biases and normalisation."""
    weights = [ensemble.weight1, ensemble.weight2, ensemble.weight3]
    others = [p for name, p in ensemble.named_parameters() if name not in ("weight1", "weight2", "weight3")]
    groups = [{"params": weights, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.rate)


def check_two_classes(labelled: Iterable[int | str]) -> None:
    """Refuse labels of fewer than two classes.

    Args:
        labelled: Ids or names of the classes with labelled pixels; repeats are allowed.

    Raises:
        LabelError: If there are fewer than two.
    """
    present = set(labelled)
    if len(present) < 2:
        shown = f"one class, {present.pop()!r}" if present else "no labelled pixel"
        raise LabelError(f"the train crops show {shown}; at least two classes are needed. Annotate more.")


def _unseen(table: PixelTable, classes: int) -> list[int]:
    return sorted(set(range(classes)) - set(table.classes.tolist()))


@torch.no_grad()
def _undo_balance(ensemble: Ensemble, table: PixelTable, pools: Sequence[Tensor]) -> None:
    """Correct the probabilities for the class-balanced draw.

    A draw with as many nucleus as glass pixels teaches that every third pixel is nucleus. Adding the logarithm of
    natural over drawn frequency to each class's logit corrects that exactly, while training still uses every nucleus.

    Source: Saerens et al., Adjusting the outputs of a classifier to new a priori probabilities, Neural Comput. 2002.
    """
    total = sum(table.counts.values())
    for m, pool in enumerate(pools):
        drawn = torch.bincount(table.classes[pool], minlength=ensemble.classes).tolist()
        for class_id, natural in table.counts.items():
            if drawn[class_id] > 0:
                ensemble.bias3[m, class_id] += math.log(natural / total) - math.log(drawn[class_id] / len(pool))


def _standardise(ensemble: Ensemble, table: PixelTable) -> None:
    """Set mean and scale of every channel from the chosen pixels, in blocks to avoid a full copy."""
    mean, square = (torch.zeros(ensemble.inputs, dtype=torch.float64) for _ in range(2))
    for block in row_blocks(table.features):
        mean += block.double().sum(0) / len(table.features)
    for block in row_blocks(table.features):
        square += (block.double() - mean).square().sum(0) / len(table.features)
    ensemble.mean.copy_(mean)
    # Half precision keeps ten bits: a channel that varies by less looks constant here, and dividing by almost 0 would
    # amplify its last bits when the features come in full precision.
    resolution = (mean.abs() * 2.0**-10).clamp_min(1e-6)
    ensemble.scale.copy_(torch.maximum(square.sqrt(), resolution))


def _batches(pools: Sequence[Tensor], settings: EnsembleSettings) -> Iterator[Tensor]:
    """Yield (M, B) pixel indices: each member has its own shuffles of its training pixels."""
    generators = [generator_for(settings.seed, m, what="batches") for m in range(settings.members)]
    queues = [torch.empty(0, dtype=torch.int64) for _ in generators]
    for _ in range(settings.steps):
        for m, (pool, generator) in enumerate(zip(pools, generators, strict=True)):
            while len(queues[m]) < settings.batch_px:
                queues[m] = torch.cat([queues[m], pool[torch.randperm(len(pool), generator=generator)]])
        yield torch.stack([queue[: settings.batch_px] for queue in queues])
        queues = [queue[settings.batch_px :] for queue in queues]
