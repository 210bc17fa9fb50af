"""Reference training by the published rules, for comparison.

No scaling of features, no validation, and stopping by the training loss.

Source: Baranchuk et al., Label-Efficient Semantic Segmentation with Diffusion Models, ICLR 2022, and their code.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from cytoseg.features.pixel_table import PixelTable
from cytoseg.interpreter.mlp import Ensemble, MemberCopies, member_losses
from cytoseg.seeds import generator_for

OnStep = Callable[[int, int, float], None]
"""Called with the step, the number of steps, and the loss."""
EPOCHS = 100
"""Most epochs over the pixel table."""
FREE_EPOCHS = 4
"""Epochs before the stop rule applies."""
PATIENCE = 50
"""Batches without a new best loss before a member stops."""
BATCH_PX, RATE, WEIGHT_STD = 64, 1e-3, 0.02
"""Pixels per update, Adam's constant rate, standard deviation of the initial weights."""


class StopRule:
    """Early stopping per member: after more than ``PATIENCE`` consecutive batches without a new best loss.

    Args:
        members: M.
        device: Device of the losses.
    """

    def __init__(self, members: int, device: torch.device) -> None:
        self.stopped = torch.zeros(members, dtype=torch.bool, device=device)
        self._best = torch.full((members,), 1e7, device=device)
        self._in_vain = torch.zeros(members, dtype=torch.int64, device=device)

    def see(self, epoch: int, losses: Tensor) -> Tensor:
        """Process the (M,) losses of one batch, epochs counted from 0; return which members, (M,) bool, stop now."""
        if epoch < FREE_EPOCHS:
            return torch.zeros_like(self.stopped)
        better = losses < self._best
        self._best = torch.where(better, losses, self._best)
        self._in_vain = torch.where(better, 0, self._in_vain + 1)
        now = (self._in_vain > PATIENCE) & ~self.stopped
        self.stopped = self.stopped | now
        return now


def train_by_reference(
    table: PixelTable,
    classes: int,
    *,
    members: int,
    seed: int,
    device: torch.device,
    on_step: OnStep = lambda _step, _of, _loss: None,
) -> Ensemble:
    """Train M interpreters like the published code, each with its own weights, pixel order and stopping time.

    Two differences: a single pixel left over at the end of an epoch is dropped, because it cannot be normalised, and
    ties between votes are broken differently (see ``vote``).

    Args:
        table: All labelled pixels.
        classes: K.
        members: M.
        seed: Seed of weights and pixel orders.
        device: Training device.
        on_step: Called with the step, the estimated number of steps, and the mean loss of the members still in
            training.

    Returns:
        The ensemble in evaluation mode.
    """
    ensemble = Ensemble(members, table.features.shape[1], classes, seed=seed, weight_std=WEIGHT_STD).to(device)
    optimiser = torch.optim.Adam(ensemble.parameters(), lr=RATE)
    rule, copies = StopRule(members, device), MemberCopies(ensemble)
    ensemble.train()
    likely = _likely_steps(len(table.classes))
    for step, (epoch, batch) in enumerate(_batches(len(table.classes), members, seed), start=1):
        features = table.features[batch].to(device, ensemble.weight1.dtype)
        losses = member_losses(ensemble(features), table.classes[batch].to(device))
        optimiser.zero_grad()
        losses.sum().backward()  # type: ignore[no-untyped-call] # torch's annotation is missing
        optimiser.step()
        on_step(step, max(step, likely), float(losses.detach()[~rule.stopped].mean()))
        # Stopped members are still computed and their updates discarded: a few batches among thousands.
        copies.keep(rule.see(epoch, losses.detach()))
        if bool(rule.stopped.all()):
            break
    copies.keep(~rule.stopped)
    copies.restore()
    return ensemble.eval()


def _likely_steps(pixels: int) -> int:
    """Estimate the number of batches: most members stop soon after the minimum."""
    return FREE_EPOCHS * -(-pixels // BATCH_PX) + 2 * PATIENCE


def _batches(pixels: int, members: int, seed: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the epoch and (M, B) pixel indices: each member has its own shuffles of all pixels."""
    generators = [generator_for(seed, m, what="batches") for m in range(members)]
    for epoch in range(EPOCHS):
        orders = torch.stack([torch.randperm(pixels, generator=generator) for generator in generators])
        for batch in torch.split(orders, BATCH_PX, dim=1):
            if batch.shape[1] > 1:
                yield epoch, batch
