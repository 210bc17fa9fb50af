"""Labelled crops on disk, and features made so that what they tell is known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cytoseg.classes import ClassList
from cytoseg.features.extract import NativeFeatures
from cytoseg.labels.index import CropName, LabelledCrop, write_crop

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
    """Features that tell nothing: ``noise(seed)`` gives five channels of chance, other ones for each picture."""

    def of(seed: int) -> Extract:
        def extract(picture: Picture) -> NativeFeatures:
            rng = np.random.default_rng((seed, int(picture.sum())))
            return _channels(*rng.normal(0, 1, (5, *picture.shape[:2])))

        return extract

    return of
