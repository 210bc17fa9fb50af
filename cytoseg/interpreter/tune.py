"""Tuning the decoder on the labelled crops."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from ema_pytorch import EMA
from numpy.typing import NDArray
from torch import Tensor, nn

from cytoseg.classes import IGNORE
from cytoseg.devices import generator_for
from cytoseg.features.extract import to_input
from cytoseg.interpreter.augment import PartDraw, class_weights
from cytoseg.interpreter.decoder import Decoder

EMA_DECAY = 0.99
CHECKS = 20
"""How often in a training the held-out crops are looked at."""
LEAST_SLIDES = 5
"""With fewer slides none is held out: every crop counts more for learning than for stopping."""
_LATE = ("unet.ups", "unet.final_res_block", "head")


@dataclass(frozen=True)
class TuneSettings:
    """How the network is tuned.

    Attributes:
        steps: Optimiser updates.
        batch: Parts of crops per step.
        size_px: Side of a part.
        rate: Highest learning rate of the decoder; it rises at first and falls to zero along a cosine.
        early: The rate of all before the decoder, as a share of ``rate``; 0 leaves it as it is.
        seed: Of the held-out slides and what is drawn.
        precision: ``no`` (fp32) or ``bf16``, of the network's arithmetic.
    """

    steps: int
    batch: int
    size_px: int
    rate: float
    early: float
    seed: int
    precision: str


@dataclass(frozen=True)
class LabelledPictures:
    """What is learnt from.

    Attributes:
        pictures: Crops, each (H, W, 3) uint8 RGB.
        label_maps: One per crop, (H, W) uint8 ids, 255 for ignore.
        slides: The slide of each crop.
    """

    pictures: Sequence[NDArray[np.uint8]]
    label_maps: Sequence[NDArray[np.uint8]]
    slides: Sequence[str]

    def only(self, numbers: Sequence[int]) -> "LabelledPictures":
        """Keep some of the crops."""
        return replace(
            self,
            pictures=[self.pictures[i] for i in numbers],
            label_maps=[self.label_maps[i] for i in numbers],
            slides=[self.slides[i] for i in numbers],
        )


@dataclass(frozen=True)
class Tuned:
    """What a training gave.

    Attributes:
        decoder: With averaged weights, in evaluation mode.
        step: After which step they were taken.
        held_out: Slides that decided it; none if there were too few.
    """

    decoder: Decoder
    step: int
    held_out: tuple[str, ...]


def tune_decoder(
    decoder: Decoder,
    labelled: LabelledPictures,
    classes: int,
    *,
    settings: TuneSettings,
    device: torch.device,
    on_step: Callable[[int, float], None] = lambda _step, _loss: None,
) -> Tuned:
    """Tune on augmented parts of the labelled crops, and keep the weights that held-out slides are seen best with.

    AdamW on the cross entropy, classes weighing by one over the square root of their share, ignored pixels by nothing.
    An average of the network's weights is what is judged and kept, with probabilities that refer to the crops as they
    are: what weighing the classes did is taken back.

    Args:
        decoder: To start from; its weights change.
        labelled: The crops.
        classes: K.
        settings: How to tune.
        device: Where.
        on_step: Told the step and its loss.

    Raises:
        LabelError: If no pixel is labelled.
    """
    weights = class_weights(labelled.label_maps, classes).to(device)
    held = held_out_slides(labelled.slides, seed=settings.seed)
    learnt = labelled.only([i for i, slide in enumerate(labelled.slides) if slide not in held])
    judged = labelled.only([i for i, slide in enumerate(labelled.slides) if slide in held])
    decoder = decoder.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs lack this keyword
    averaging: dict[str, Any] = {"update_after_step": 0, "update_every": 1, "include_online_model": False}
    average = EMA(decoder, beta=EMA_DECAY, use_foreach=True, **averaging)
    averaged = cast(Decoder, average.ema_model)
    draw = PartDraw(
        learnt.pictures, learnt.label_maps, size_px=settings.size_px, batch=settings.batch, seed=settings.seed
    )
    update = _Update(decoder, weights, settings)
    best = _Best()
    for step in range(settings.steps):
        on_step(step + 1, update(step, *draw(step)))
        average.update()
        if held and (step + 1) % max(1, settings.steps // CHECKS) == 0:
            best.offer(step + 1, _loss_of(averaged, judged, weights, settings.precision), averaged)
    if best.weights is not None:
        averaged.load_state_dict(best.weights)
    averaged.undo_weights(torch.where(weights > 0, weights, 1.0))
    averaged.rule_out(torch.nonzero(weights == 0)[:, 0].tolist())
    return Tuned(averaged.eval(), best.step or settings.steps, held)


def held_out_slides(slides: Sequence[str], *, seed: int) -> tuple[str, ...]:
    """Choose a fifth of the slides to decide when to stop; none where there are fewer than five.

    Args:
        slides: The slide of each crop.
        seed: Decides which.
    """
    different = sorted(set(slides))
    order = torch.randperm(len(different), generator=generator_for(seed, 0, what="held-out slides")).tolist()
    return tuple(sorted(different[i] for i in order[: len(different) // LEAST_SLIDES]))


class _Update:
    """One optimiser update after another."""

    def __init__(self, decoder: Decoder, weights: Tensor, settings: TuneSettings) -> None:
        late: list[nn.Parameter] = []
        early: list[nn.Parameter] = []
        for name, tensor in decoder.named_parameters():
            (late if name.startswith(_LATE) else early).append(tensor)
        groups: list[dict[str, Any]] = [{"params": late, "share": 1.0}]
        if settings.early > 0:
            groups.append({"params": early, "share": settings.early})
        else:
            for tensor in early:
                tensor.requires_grad_(False)
        self._optimiser = torch.optim.AdamW(groups, lr=settings.rate)
        self._decoder, self._weights, self._settings = decoder, weights, settings

    def __call__(self, step: int, x: Tensor, target: Tensor) -> float:
        """Learn from (B, 3, H, W) and (B, H, W); gives the loss, 0 where nothing is labelled."""
        if not (target != IGNORE).any():
            return 0.0
        device, s = self._weights.device, self._settings
        warm = min(1.0, (step + 1) / max(1, s.steps // 20))
        for group in self._optimiser.param_groups:
            group["lr"] = s.rate * group["share"] * warm * 0.5 * (1.0 + math.cos(math.pi * step / s.steps))
        with torch.autocast(device.type, torch.bfloat16, enabled=s.precision == "bf16"):
            scores = self._decoder.train()(x.to(device))
        loss = F.cross_entropy(scores, target.to(device), weight=self._weights, ignore_index=IGNORE)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch's annotation is missing
        nn.utils.clip_grad_norm_(self._decoder.parameters(), 1.0)
        self._optimiser.step()
        return loss.item()


@dataclass
class _Best:
    """The weights with the lowest loss so far."""

    loss: float = math.inf
    step: int = 0
    weights: dict[str, Tensor] | None = None

    def offer(self, step: int, loss: float, decoder: Decoder) -> None:
        if loss < self.loss:
            self.loss, self.step = loss, step
            self.weights = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}


@torch.no_grad()
def _loss_of(decoder: Decoder, judged: LabelledPictures, weights: Tensor, precision: str) -> float:
    """Average the weighted cross entropy over the labelled pixels of whole crops."""
    decoder.eval()
    total, weight = 0.0, 0.0
    for picture, label_map in zip(judged.pictures, judged.label_maps, strict=True):
        with torch.autocast(weights.device.type, torch.bfloat16, enabled=precision == "bf16"):
            scores = decoder(to_input(picture[None]).to(weights.device))
        target = torch.from_numpy(label_map.astype(np.int64))[None].to(weights.device)
        total += F.cross_entropy(scores, target, weight=weights, ignore_index=IGNORE, reduction="sum").item()
        weight += weights[target[target != IGNORE]].sum().item()
    return total / max(weight, 1e-12)
