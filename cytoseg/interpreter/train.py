"""Training the ensemble: all members in one batched computation, each with its own weights and pixels."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from cytoseg.devices import generator_for
from cytoseg.errors import LabelError
from cytoseg.features.pixels import PixelTable
from cytoseg.features.rows import row_blocks
from cytoseg.interpreter.mlp import Ensemble


@dataclass(frozen=True)
class EnsembleSettings:
    """How the interpreters are trained.

    Attributes:
        members: M.
        steps: Optimiser updates of each.
        batch_px: Pixels per update and member.
        rate: Adam's learning rate at the start; it falls to zero along a cosine.
        seed: Of weights and batches.
    """

    members: int
    steps: int
    batch_px: int
    rate: float
    seed: int


def train_ensemble(
    table: PixelTable,
    classes: int,
    *,
    settings: EnsembleSettings,
    device: torch.device,
    on_step: Callable[[int, float], None] = lambda _step, _loss: None,
) -> Ensemble:
    """Train M interpreters with Adam on the cross entropy.

    Args:
        table: The chosen pixels.
        classes: K.
        settings: How to train.
        device: Where.
        on_step: Told the step and the mean loss of the members.

    Returns:
        The ensemble in evaluation mode.

    Raises:
        LabelError: If fewer than two classes are labelled: there is nothing to tell apart.
    """
    check_two_classes(table.classes.tolist())
    ensemble = Ensemble(settings.members, table.features.shape[1], classes, seed=settings.seed).to(device)
    _standardise(ensemble, table)
    optimiser = torch.optim.Adam(ensemble.parameters(), lr=settings.rate)
    ensemble.train()
    for step, batch in enumerate(_batches(len(table.classes), settings), start=1):
        for group in optimiser.param_groups:
            group["lr"] = settings.rate * 0.5 * (1.0 + math.cos(math.pi * (step - 1) / settings.steps))
        logits = ensemble(table.features[batch].to(device).float())
        target = table.classes[batch].to(device)
        # Summed over members: each is trained as if alone, whatever their number.
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten()) * settings.members
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch's annotation is missing
        optimiser.step()
        on_step(step, loss.item() / settings.members)
    _undo_balance(ensemble, table)
    return ensemble.eval()


def check_two_classes(labelled: Iterable[int | str]) -> None:
    """Refuse labels of fewer than two classes.

    Args:
        labelled: Ids or names of the classes that have labelled pixels; repeated as you like.

    Raises:
        LabelError: If there is nothing to tell apart.
    """
    present = len(set(labelled))
    if present < 2:
        raise LabelError(f"the train crops show {present} class, two are needed. Annotate more.")


@torch.no_grad()
def _undo_balance(ensemble: Ensemble, table: PixelTable) -> None:
    """Make the probabilities refer to the crops as they are, not to the class-balanced draw.

    A draw with as many nucleus as glass pixels teaches that every third pixel is nucleus. Adding the logarithm of
    natural over drawn frequency to each class's score takes that back exactly; the pixels still see every nucleus.

    Source: Saerens et al., Adjusting the outputs of a classifier to new a priori probabilities, Neural Comput. 2002.
    """
    total = sum(table.counts.values())
    for class_id, natural in table.counts.items():
        drawn = float((table.classes == class_id).sum())
        if drawn > 0:
            ensemble.bias3[:, class_id] += math.log(natural / total) - math.log(drawn / len(table.classes))


def _standardise(ensemble: Ensemble, table: PixelTable) -> None:
    """Set mean and scale of every channel from the chosen pixels, in blocks so that nothing is copied whole."""
    mean, square = (torch.zeros(ensemble.inputs, dtype=torch.float64) for _ in range(2))
    for block in row_blocks(table.features):
        mean += block.double().sum(0) / len(table.features)
    for block in row_blocks(table.features):
        square += (block.double() - mean).square().sum(0) / len(table.features)
    ensemble.mean.copy_(mean)
    # Half precision keeps ten bits: what varies by less looks constant here, and dividing by almost nothing would blow
    # its last bits up when the features come in full precision.
    resolution = (mean.abs() * 2.0**-10).clamp_min(1e-6)
    ensemble.scale.copy_(torch.maximum(square.sqrt(), resolution))


def _batches(pixels: int, settings: EnsembleSettings) -> Iterator[torch.Tensor]:
    """Yield (M, B) pixel numbers: each member goes through its own shuffles of all pixels."""
    generators = [generator_for(settings.seed, m, what="batches") for m in range(settings.members)]
    queues = [torch.empty(0, dtype=torch.int64) for _ in generators]
    for _ in range(settings.steps):
        for m, generator in enumerate(generators):
            while len(queues[m]) < settings.batch_px:
                queues[m] = torch.cat([queues[m], torch.randperm(pixels, generator=generator)])
        yield torch.stack([queue[: settings.batch_px] for queue in queues])
        queues = [queue[settings.batch_px :] for queue in queues]
