"""Sets of features that can be tried, and the pixels of labelled crops on which they are."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytoseg.classes import IGNORE
from cytoseg.devices import seed_for
from cytoseg.diffusion.architecture import TAP_PARTS
from cytoseg.features.pixels import choose_pixels
from cytoseg.features.settings import ExtractorName, Scale

Flip = tuple[bool, bool]
"""Mirrored up and down, and left and right."""
_UNFLIPPED: Flip = (False, False)
_JOINED = {"filters": "filters", "pretrained": "ImageNet features"}
_ALL_FLIPS: tuple[Flip, ...] = (_UNFLIPPED, (False, True), (True, False), (True, True))


@dataclass(frozen=True)
class FeatureSet:
    """A set of features that can be measured: every tap at every timestep.

    Attributes:
        taps: Names from ``tap_names``, deepest first.
        timesteps: Noise levels, rising.
        scale: How many times the input is enlarged.
        extractors: What features are of; without ddpm taps, timesteps and scale say nothing.
        noises: Features are averaged over so many noise tensors.
        flips: Whether probabilities are averaged over the picture and its three mirror images.
    """

    taps: tuple[str, ...]
    timesteps: tuple[int, ...]
    scale: Scale = 1
    extractors: tuple[ExtractorName, ...] = ("ddpm",)
    noises: int = 1
    flips: bool = False

    @property
    def has_taps(self) -> bool:
        """Whether it has features of the diffusion model."""
        return "ddpm" in self.extractors

    @property
    def views(self) -> tuple[Flip, ...]:
        """The mirror images that are predicted."""
        return _ALL_FLIPS if self.flips else (_UNFLIPPED,)

    def text(self) -> str:
        """Say for people what is in it: ``blocks 2, 3 at t = 0, 50 with filters``."""
        joined = " and ".join(text for name, text in _JOINED.items() if name in self.extractors)
        more = (
            (f", input enlarged {self.scale} times", self.scale > 1 and self.has_taps),
            (f", mean over {self.noises} noises", self.noises > 1 and self.has_taps),
            (", mean over flips", self.flips),
        )
        taps = f"{self._taps_text()}{' with ' * bool(joined)}" if self.has_taps else ""
        return f"{taps}{joined}" + "".join(text for text, is_so in more if is_so)

    def _taps_text(self) -> str:
        blocks = sorted({tap.split(".")[0].removeprefix("block") for tap in self.taps}, key=int)
        parts = TAP_PARTS["lucidrains" if any(tap.endswith("attention") for tap in self.taps) else "pretrained"]
        whole = len(self.taps) == len(blocks) * len(parts)
        taps = f"block{'s' * (len(blocks) > 1)} {', '.join(blocks)}" if whole else ", ".join(self.taps)
        return f"{taps} at t = {', '.join(map(str, self.timesteps))}"


@dataclass(frozen=True)
class ChosenPixels:
    """Pixels without their features, crop after crop.

    Attributes:
        places: Per crop (P, 2) int64 of (x, y).
        classes: (P of all crops,) int64.
        crops: Likewise, the number of the crop.
        held_out: Likewise, bool: True for those that only score, drawn as frequent as they are; the others only train,
            drawn with an equal share for each class.
        counts: Per crop: class id to its labelled pixels, chosen or not.
    """

    places: list[NDArray[np.int64]]
    classes: Tensor
    crops: Tensor
    held_out: Tensor
    counts: list[dict[int, int]]


def choose_both(label_maps: Iterable[NDArray[np.uint8]], *, train_px: int, held_out_px: int, seed: int) -> ChosenPixels:
    """Choose pixels of every crop to train on, and others to score on.

    Args:
        label_maps: (H, W) uint8 ids each, 255 for ignore.
        train_px: Class-balanced pixels per crop.
        held_out_px: Pixels per crop as they come; of one crop only one of the two kinds is ever used at a time.
        seed: Random seed.
    """
    places, classes, crops, held_out, counts = [], [], [], [], []
    for number, label_map in enumerate(label_maps):
        own = seed_for(seed, number, what="select-features")
        for is_held_out, count, balance in ((False, train_px, "classes"), (True, held_out_px, "none")):
            xy, ids = choose_pixels(label_map, count, balance=balance, seed=own)
            places.append(xy)
            classes.append(torch.from_numpy(ids))
            crops.append(torch.full((len(ids),), number))
            held_out.append(torch.full((len(ids),), is_held_out))
        ids, pixels = np.unique(label_map[label_map != IGNORE], return_counts=True)
        counts.append(dict(zip(ids.tolist(), pixels.tolist(), strict=True)))
    both = [np.concatenate(pair) for pair in zip(places[::2], places[1::2], strict=True)]
    return ChosenPixels(both, torch.cat(classes), torch.cat(crops), torch.cat(held_out), counts)


def flipped(
    picture: NDArray[np.uint8], xy: NDArray[np.int64], flip: Flip
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Mirror a picture, and pixels of it so that they stay on the same cells.

    Args:
        picture: (H, W, 3) uint8.
        xy: (P, 2) int64 of (x, y).
        flip: Up and down, left and right.
    """
    height, width = picture.shape[:2]
    x, y = xy.T
    places = np.stack([width - 1 - x if flip[1] else x, height - 1 - y if flip[0] else y], axis=1)
    return picture[:: -1 if flip[0] else 1, :: -1 if flip[1] else 1], places
