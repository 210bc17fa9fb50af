"""Candidate feature sets, and the pixels they are measured on."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytoseg.classes import IGNORE
from cytoseg.diffusion.architecture import TAP_PARTS
from cytoseg.features.pixel_table import choose_pixels
from cytoseg.features.settings import ExtractorName, Scale
from cytoseg.seeds import seed_for

Flip = tuple[bool, bool]
"""Flips up-down and left-right."""
_UNFLIPPED: Flip = (False, False)
_JOINED = {"filters": "filters", "pretrained": "ImageNet features"}
_ALL_FLIPS: tuple[Flip, ...] = (_UNFLIPPED, (False, True), (True, False), (True, True))


@dataclass(frozen=True)
class FeatureSet:
    """A candidate feature set: every tap at every timestep.

    Attributes:
        taps: Names from ``tap_names``, deepest first.
        timesteps: Noise levels, ascending.
        scale: Factor by which the input is resized.
        extractors: Feature extractors; without ddpm, taps, timesteps and scale are unused.
        noises: Number of noise tensors to average over.
        flips: Whether probabilities are averaged over the image and its three mirror images.
    """

    taps: tuple[str, ...]
    timesteps: tuple[int, ...]
    scale: Scale = 1
    extractors: tuple[ExtractorName, ...] = ("ddpm",)
    noises: int = 1
    flips: bool = False

    @property
    def has_taps(self) -> bool:
        """Whether it includes features of the diffusion model."""
        return "ddpm" in self.extractors

    @property
    def views(self) -> tuple[Flip, ...]:
        """The mirror images to predict."""
        return _ALL_FLIPS if self.flips else (_UNFLIPPED,)

    def text(self) -> str:
        """Describe the set: ``blocks 2, 3 at t = 0, 50 with filters``."""
        joined = " and ".join(text for name, text in _JOINED.items() if name in self.extractors)
        more = (
            (f", input enlarged {self.scale} times", self.scale > 1 and self.has_taps),
            (f", input reduced to {self.scale:g}", self.scale < 1 and self.has_taps),
            (f", mean over {self.noises} noises", self.noises > 1 and self.has_taps),
            (", mean over flips", self.flips),
        )
        taps = f"{self._taps_text()}{' with ' * bool(joined)}" if self.has_taps else ""
        return f"{taps}{joined}" + "".join(text for text, is_so in more if is_so)

    def _taps_text(self) -> str:
        blocks = sorted({tap.split(".")[0].removeprefix("block") for tap in self.taps}, key=int)
        found = {tap.split(".")[1] for tap in self.taps}
        whole = any(found == set(parts) and len(self.taps) == len(blocks) * len(parts) for parts in TAP_PARTS.values())
        taps = f"block{'s' * (len(blocks) > 1)} {', '.join(blocks)}" if whole else ", ".join(self.taps)
        return f"{taps} at t = {', '.join(map(str, self.timesteps))}"


@dataclass(frozen=True)
class ChosenPixels:
    """Chosen pixels without features, by crop.

    Attributes:
        places: Per crop (P, 2) int64 of (x, y).
        classes: (P of all crops,) int64.
        crops: (P of all crops,) int64, crop index.
        held_out: (P of all crops,) bool: True for scoring pixels, drawn at natural frequencies; the others are training
            pixels, drawn class-balanced.
        counts: Per crop: class id to the number of labelled pixels, chosen or not.
    """

    places: list[NDArray[np.int64]]
    classes: Tensor
    crops: Tensor
    held_out: Tensor
    counts: list[dict[int, int]]


def choose_both(label_maps: Iterable[NDArray[np.uint8]], *, train_px: int, held_out_px: int, seed: int) -> ChosenPixels:
    """Choose training and scoring pixels of every crop.

    Args:
        label_maps: (H, W) uint8 ids each, 255 for ignore.
        train_px: Class-balanced pixels per crop.
        held_out_px: Pixels per crop at natural frequencies; a crop is never used for both at the same time.
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
    """Flip an image and its pixel coordinates.

    Args:
        picture: (H, W, 3) uint8.
        xy: (P, 2) int64 of (x, y).
        flip: Up-down, left-right.
    """
    height, width = picture.shape[:2]
    x, y = xy.T
    places = np.stack([width - 1 - x if flip[1] else x, height - 1 - y if flip[0] else y], axis=1)
    return picture[:: -1 if flip[0] else 1, :: -1 if flip[1] else 1], places
