"""Distillation of an ensemble or decoder into a small, fast network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cytoseg.classes import IGNORE
from cytoseg.devices import seed_for
from cytoseg.features.extract import pad_to_multiple, to_input
from cytoseg.interpreter.augment import changes

WIDTHS = (32, 64, 128)
"""Channels at 1/2, 1/4 and 1/8 of the picture's resolution."""
MULTIPLE_PX = 8
BATCH, SIZE_PX, RATE = 16, 96, 2e-3
BLURRED = 0.25
UNCERTAINTY_WEIGHT = 1.0
TRUTH_SHARE = 0.5
"""Weight of the label in the target of a labelled pixel; the rest is the teacher's."""


class _Convs(nn.Sequential):
    """Two 3 x 3 convolutions with ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.ReLU(inplace=True),
        )


class Student(nn.Module):
    """A U-Net without normalisation, with pixel unshuffle (2 x 2) at the input and shuffle at the output.

    Args:
        classes: K.
        seed: Seed of the initial weights.
    """

    def __init__(self, classes: int, *, seed: int) -> None:
        super().__init__()
        self.classes = classes
        fine, middle, coarse = WIDTHS
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.down = nn.ModuleList([_Convs(12, fine), _Convs(fine, middle), _Convs(middle, coarse)])
            self.up = nn.ModuleList([_Convs(coarse + middle, middle), _Convs(middle + fine, fine)])
            self.head = nn.Conv2d(fine, 4 * (classes + 1), 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Compute class logits and, as the last channel, the predicted disagreement of the teacher.

        Args:
            pictures: (N, 3, H, W) float32 in [-1, 1], any size.

        Returns:
            (N, K + 1, H, W) float32; the last channel in nats.
        """
        height, width = pictures.shape[-2:]
        x = F.pixel_unshuffle(pad_to_multiple(pictures, MULTIPLE_PX), 2).contiguous(memory_format=torch.channels_last)
        fine = self.down[0](x)
        middle = self.down[1](F.max_pool2d(fine, 2))
        coarse = self.down[2](F.max_pool2d(middle, 2))
        found = self.up[0](torch.cat([F.interpolate(coarse, scale_factor=2.0), middle], dim=1))
        found = self.up[1](torch.cat([F.interpolate(found, scale_factor=2.0), fine], dim=1))
        scores = F.pixel_shuffle(self.head(found), 2)[:, :, :height, :width].float()
        return torch.cat([scores[:, :-1], F.softplus(scores[:, -1:])], dim=1)


@torch.inference_mode()
def student_maps(student: Student, pictures: Tensor, *, precision: str) -> tuple[Tensor, Tensor]:
    """Segment pictures in one pass.

    Args:
        student: In evaluation mode, on the device of the pictures.
        pictures: (N, 3, H, W) float32 in [-1, 1].
        precision: ``no`` (fp32) or ``bf16`` for the network.

    Returns:
        Probabilities (N, K, H, W) and disagreement in nats (N, H, W), float32.
    """
    with torch.autocast(pictures.device.type, torch.bfloat16, enabled=precision == "bf16"):
        found = student(pictures)
    return found[:, :-1].softmax(1), found[:, -1]


@dataclass(frozen=True)
class Lesson:
    """One picture with the teacher's prediction.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        probabilities: (K, H, W) float16.
        disagreement: (H, W) float16 in nats.
        label_map: (H, W) uint8 ids, 255 for ignore; None for an unlabelled picture.
    """

    picture: NDArray[np.uint8]
    probabilities: NDArray[np.float16]
    disagreement: NDArray[np.float16]
    label_map: NDArray[np.uint8] | None = None

    def target(self) -> Tensor:
        """Return the target, (K + 1, H, W) float32: probabilities mixed with the label where labelled; nats."""
        right = torch.from_numpy(self.probabilities.astype(np.float32))
        if self.label_map is not None:
            labels = torch.from_numpy(self.label_map.astype(np.int64))
            labelled = (labels != IGNORE)[None]
            truth = F.one_hot(torch.where(labels == IGNORE, 0, labels), len(right)).permute(2, 0, 1).float()
            right = torch.where(labelled, TRUTH_SHARE * truth + (1 - TRUTH_SHARE) * right, right)
        return torch.cat([right, torch.from_numpy(self.disagreement.astype(np.float32))[None]])


def distil(
    student: Student,
    lessons: Sequence[Lesson],
    *,
    steps: int,
    seed: int,
    device: torch.device,
    precision: str,
    on_step: Callable[[int, float], None] = lambda _step, _loss: None,
) -> Student:
    """Train the student on augmented random parts.

    Args:
        student: The student; trained in place.
        lessons: At least one.
        steps: Optimiser updates; the rate falls to zero along a cosine.
        seed: Seed of the random parts.
        device: Training device.
        precision: ``no`` (fp32) or ``bf16`` for the network.
        on_step: Called with the step and its loss.

    Returns:
        The student in evaluation mode.

    Source: Hinton et al., Distilling the knowledge in a neural network, 2015.
    """
    student.to(device).train()
    optimiser = torch.optim.AdamW(student.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.1)
    change = changes(SIZE_PX, BLURRED)
    for step in range(steps):
        x, target = (part.to(device) for part in _parts(lessons, change, seed, step))
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            found = student(x)
        loss = _loss(found, target)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch's annotation is missing
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        on_step(step + 1, loss.item())
    return student.eval()


def _parts(lessons: Sequence[Lesson], change: Callable[..., dict[str, Tensor]], seed: int, step: int) -> list[Tensor]:
    """Draw a step's (B, 3, size, size) pictures and (B, K + 1, size, size) targets."""
    rng = np.random.default_rng(seed_for(seed, step, what="lessons"))
    change.set_random_state(seed_for(seed, step, what="changes"))  # type: ignore[attr-defined] # MONAI's Compose
    drawn = [lessons[int(i)] for i in rng.integers(0, len(lessons), BATCH)]
    parts = [change({"picture": to_input(d.picture[None])[0], "labels": d.target()}) for d in drawn]
    return [torch.stack([torch.as_tensor(part[key]).float() for part in parts]) for key in ("picture", "labels")]


def _loss(found: Tensor, target: Tensor) -> Tensor:
    """Cross entropy with soft targets plus squared error of the disagreement; padded pixels are ignored."""
    inside = (target[:, 0] <= 1.0).float()
    errors = -(target[:, :-1] * found[:, :-1].log_softmax(1)).sum(1)
    errors = errors + UNCERTAINTY_WEIGHT * (found[:, -1] - target[:, -1]).square()
    loss: Tensor = (errors * inside).sum() / inside.sum().clamp_min(1.0)
    return loss
