"""Labelled crops on disk, synthetic features with known content, and a selection question."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytoseg.classes import ClassList
from cytoseg.features.extract import NativeFeatures
from cytoseg.features.settings import EXTRACTORS, FeatureSettings
from cytoseg.labels.index import CropName, LabelledCrop, write_crop
from cytoseg.studies.feature_selection.pixels import FeatureSet
from cytoseg.studies.feature_selection.settings import Effort, Question

Picture = NDArray[np.uint8]
Extract = Callable[[Picture], NativeFeatures]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., LabelledCrop]:
    """Write a crop with a label map, as ``write("a_0", "a", label_map)``; its red channel is 80 times the class."""
    classes = ClassList(("glass", "cell", "nucleus"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))

    def make(crop: str, slide: str, label_map: Picture) -> LabelledCrop:
        noise = np.random.default_rng(len(crop)).integers(0, 256, (*label_map.shape, 3))
        picture = noise.astype(np.uint8)
        picture[:, :, 0] = 80 * np.minimum(label_map, 3)
        return write_crop(tmp_path, CropName(crop, slide, ""), picture=picture, label_map=label_map, classes=classes)

    return make


@pytest.fixture
def label_map() -> Picture:
    """16x16: glass above, cell below, in the middle a nucleus of 16 pixels; the last row is ignored."""
    ids = np.zeros((16, 16), np.uint8)
    ids[8:] = 1
    ids[6:10, 6:10] = 2
    ids[15] = 255
    return ids


def _channels(*maps: NDArray[np.floating]) -> NativeFeatures:
    stack = torch.from_numpy(np.stack(maps).astype(np.float32))[None]
    return NativeFeatures([stack], (stack.shape[2], stack.shape[3]), (stack.shape[2], stack.shape[3]))


@pytest.fixture
def telling() -> Extract:
    """Features that tell the classes apart: one channel for each, a little blurred by chance."""

    def extract(picture: Picture) -> NativeFeatures:
        noise = np.random.default_rng(1).normal(0, 0.05, (3, *picture.shape[:2]))
        return _channels(*((picture[:, :, 0] == 80 * k) + noise[k] for k in range(3)))

    return extract


@pytest.fixture
def noise() -> Callable[[int], Extract]:
    """Features that tell nothing: ``noise(seed)`` gives five channels of chance, other ones for each image."""

    def of(seed: int) -> Extract:
        def extract(picture: Picture) -> NativeFeatures:
            rng = np.random.default_rng((seed, int(picture.sum())))
            return _channels(*rng.normal(0, 1, (5, *picture.shape[:2])))

        return extract

    return of


NAMES = ("glass", "cell", "nucleus")
TAPS = ("block0.block1", "block1.block1")
EFFORT = Effort(members=2, steps=40, batch_px=32, rate=1e-2, train_px=60, held_out_px=100, seeds=2, folds=3)


@dataclass(frozen=True)
class MadeCrop:
    """16x16 px: glass on the left, a cell on the right with a nucleus of 4x4 px; red is cell, green is nucleus."""

    crop: str
    slide: str

    def picture(self) -> NDArray[np.uint8]:
        ids = self.label_map()
        grey = np.random.default_rng(sum(map(ord, self.crop))).integers(90, 110, ids.shape)
        return np.stack([grey + 100 * (ids > 0), grey + 100 * (ids == 2), grey], axis=-1).astype(np.uint8)

    def label_map(self) -> NDArray[np.uint8]:
        ids = np.zeros((16, 16), np.uint8)
        ids[:, 8:] = 1
        ids[4:8, 10:14] = 2
        return ids


class MadeExtractor:
    """Block 1 sees red at t = 5 and green at t = 1; block 0 sees blue, which tells nothing."""

    def __init__(self, settings: FeatureSettings, calls: list[FeatureSettings]) -> None:
        self.settings, self._calls = settings, calls
        self._has = dict.fromkeys(EXTRACTORS, False) | dict.fromkeys(settings.extractors, True)
        self.channels = [1] * len(settings.taps) * len(settings.timesteps) * self._has["ddpm"]
        self.channels += [72] * self._has["filters"] + [3, 3, 3, 3, 3] * self._has["pretrained"]

    def __call__(self, pictures: Tensor) -> NativeFeatures:
        self._calls.append(self.settings)
        sees = {("block1.block1", 5): 0, ("block1.block1", 1): 1}
        taps = self.settings.taps if self._has["ddpm"] else ()
        wanted = [sees.get((tap, t), 2) for t in self.settings.timesteps for tap in taps]
        maps = [pictures[:, k : k + 1] + self.settings.noise_seed for k in wanted]
        if self._has["filters"]:
            maps.append(pictures[:, 2:].expand(-1, 72, -1, -1))
        maps += [pictures] * 5 * self._has["pretrained"]
        size = (pictures.shape[2], pictures.shape[3])
        return NativeFeatures(maps, size, size)


@pytest.fixture(scope="session")
def made_question() -> Callable[..., Question]:
    """Make a question about four crops of three slides, changed as told."""

    def make(**changes: Any) -> Question:
        crops = [MadeCrop(f"{slide}_{n}", slide) for slide, n in (("a", 0), ("a", 1), ("b", 0), ("c", 0))]
        question = Question(
            crops=crops,
            classes=NAMES,
            taps=TAPS,
            timesteps=(1, 5),
            extractors=("ddpm", "filters"),
            present=FeatureSet(("block0.block1",), (5,)),
            rule="soft",
            seed=0,
            noise_seed=0,
            device=torch.device("cpu"),
            details={"labels": "12ab"},
            effort=EFFORT,
        )
        return replace(question, **changes)

    return make


@pytest.fixture
def calls() -> list[FeatureSettings]:
    """What the made extractors were called for, one entry per crop."""
    return []


@pytest.fixture
def extractor_of(calls: list[FeatureSettings]) -> Callable[[FeatureSettings], MadeExtractor]:
    """Make the extractor of some settings."""
    return lambda settings: MadeExtractor(settings, calls)
