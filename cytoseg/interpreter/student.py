"""A small, fast network that imitates an ensemble or a tuned decoder."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cytoseg.devices import autocast
from cytoseg.features.extract import pad_to_multiple

WIDTHS = (32, 64, 128)
"""Channels at 1/2, 1/4 and 1/8 of the image's resolution."""
MULTIPLE_PX = 8
_SURE = -3.0
"""A disagreement of .05 nats before the softplus."""


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
    """A U-Net with pixel unshuffle (2 x 2) at the input and shuffle at the output.

    It has batch norms only between ``add_norms`` and ``fold_norms``, while it is trained.

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
        with torch.no_grad():  # initially as confident as for most pixels: from a higher value it would not recover
            cast(Tensor, self.head.bias)[-4:] = _SURE

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

    def add_norms(self) -> None:
        """Put a batch norm after each 3 x 3 convolution, for training: without them it learns more slowly."""
        for block in self._blocks():
            for index in (2, 0):
                convolution = cast(nn.Conv2d, block[index])
                block.insert(index + 1, nn.BatchNorm2d(convolution.out_channels).to(convolution.weight.device))

    def fold_norms(self) -> None:
        """Merge the batch norms into the convolutions: the same function in evaluation mode, without their cost."""
        self.eval()
        for block in self._blocks():
            for index in (4, 1):
                norm = cast(nn.BatchNorm2d, block.pop(index))
                block[index - 1] = fuse_conv_bn_eval(cast(nn.Conv2d, block[index - 1]), norm)

    def _blocks(self) -> list[_Convs]:
        return [cast(_Convs, block) for block in (*self.down, *self.up)]

    @torch.no_grad()
    def undo_weights(self, weights: Tensor) -> None:
        """Correct the probabilities for the class weights of the loss.

        Args:
            weights: (K,) positive.

        Source: Saerens et al., Adjusting the outputs of a classifier to new a priori probabilities, 2002.
        """
        # Pixel shuffle makes one class from four consecutive channels.
        cast(Tensor, self.head.bias)[:-4].sub_(weights.log().repeat_interleave(4))


@torch.inference_mode()
def student_maps(student: Student, pictures: Tensor, *, precision: str) -> tuple[Tensor, Tensor]:
    """Segment images in one pass.

    Args:
        student: In evaluation mode, on the device of the images.
        pictures: (N, 3, H, W) float32 in [-1, 1].
        precision: ``no`` (fp32) or ``bf16`` for the network.

    Returns:
        Probabilities (N, K, H, W) and disagreement in nats (N, H, W), float32.
    """
    with autocast(pictures.device, precision):
        found = student(pictures)
    return found[:, :-1].softmax(1), found[:, -1]
