"""Live refits of the MLPs: training, caching and refused input."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from cytoseg.caches import memory_cache
from cytoseg.classes import IGNORE, ClassList
from cytoseg.diffusion.architecture import Architecture
from cytoseg.errors import LabelError
from cytoseg.features.extract import FeatureExtractor, NativeFeatures
from cytoseg.features.settings import FeatureSettings
from cytoseg.interpreter import live
from cytoseg.interpreter.live import LiveInterpreter
from cytoseg.interpreter.settings import EnsembleSettings
from cytoseg.labels.index import CropName, LabelledCrop, write_crop

CLASSES = ClassList(("glass", "cell"), ((240, 240, 240), (0, 0, 200)), "glass")
SETTINGS = EnsembleSettings(
    mode="tuned",
    members=3,
    steps=60,
    passes=1e9,
    batch_px=32,
    rate=0.01,
    dropout=0.0,
    weight_decay=0.0,
    etf_weight=0.0,
    early_stopping=True,
    calibrate=True,
    seed=1,
)


class Counting(FeatureExtractor):
    """Image filters alone, counting how often they are computed."""

    def __init__(self) -> None:
        filters = FeatureSettings((), (), 1, 0, ("filters",))
        architecture = Architecture(dim=8, dim_mults=(1, 2), timesteps=10, schedule="cosine", objective="pred_noise")
        super().__init__(nn.Identity(), architecture, filters, device=torch.device("cpu"))
        self.computed = 0

    def __call__(self, pictures: torch.Tensor) -> NativeFeatures:
        self.computed += 1
        return super().__call__(pictures)


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def interpreter(counting: Counting) -> LiveInterpreter:
    return LiveInterpreter(counting, 2, SETTINGS, rule="soft", precision="no")


def _picture(dark: slice) -> NDArray[np.uint8]:
    """A bright image, dark between some columns."""
    picture = np.full((24, 32, 3), 230, np.uint8)
    picture[:, dark] = 60
    return picture


def _strokes() -> NDArray[np.uint8]:
    ids = np.full((24, 32), IGNORE, np.uint8)
    ids[4:20, 3:6], ids[4:20, 24:28] = 0, 1
    return ids


def _crop(folder: Path, name: str) -> LabelledCrop:
    named = CropName(name, "slide", f"{name}.json")
    return write_crop(folder, named, picture=_picture(slice(16, None)), label_map=_strokes(), classes=CLASSES)


def test_two_strokes_tell_the_rest_of_the_crop(interpreter: LiveInterpreter) -> None:
    seen = interpreter.view(_picture(slice(16, None)), _strokes(), [])
    expected = np.zeros((24, 32), np.uint8)
    expected[:, 16:] = 1
    assert np.mean(seen.class_map == expected) > 0.9
    assert seen.disagreement.shape == (24, 32)
    assert seen.disagreement.dtype == np.float32
    assert (seen.crops, seen.seconds > 0) == (1, True)


def test_the_same_strokes_give_the_same_view(interpreter: LiveInterpreter, counting: Counting) -> None:
    picture = _picture(slice(16, None))
    first, second = (interpreter.view(picture, _strokes(), []) for _ in range(2))
    np.testing.assert_array_equal(first.class_map, second.class_map)
    np.testing.assert_array_equal(first.disagreement, second.disagreement)
    assert counting.computed == 1


def test_features_of_other_crops_are_computed_once(
    interpreter: LiveInterpreter, counting: Counting, tmp_path: Path
) -> None:
    other, picture = _crop(tmp_path, "other"), _picture(slice(0, 10))
    for _ in range(3):
        seen = interpreter.view(picture, None, [other])
    assert (seen.crops, counting.computed) == (1, 2)
    expected = np.zeros((24, 32), np.uint8)
    expected[:, :10] = 1
    assert np.mean(seen.class_map == expected) > 0.9


def test_a_crop_that_is_for_testing_changes_nothing(interpreter: LiveInterpreter, tmp_path: Path) -> None:
    other, picture = _crop(tmp_path, "other"), _picture(slice(0, 10))
    nothing = np.full((24, 32), IGNORE, np.uint8)
    views: list[Any] = [interpreter.view(picture, marks, [other]).class_map for marks in (None, nothing)]
    np.testing.assert_array_equal(*views)


def test_waiting_crops_are_rated_by_the_disagreement_of_the_last_view(
    interpreter: LiveInterpreter, counting: Counting
) -> None:
    known, strange = _picture(slice(16, None)), np.full((24, 32, 3), (150, 40, 200), np.uint8)
    waiting = {"known": lambda: known, "strange": lambda: strange}
    assert interpreter.mean_disagreements(waiting, new=9) == {}  # nothing has been learned yet
    seen = interpreter.view(known, _strokes(), [])
    assert interpreter.mean_disagreements(waiting, new=1) == {
        "known": pytest.approx(float(seen.disagreement.mean()), rel=0.3)
    }
    rated = interpreter.mean_disagreements(waiting, new=1)
    assert 0 < rated["strange"] < rated["known"]  # one colour throughout
    assert counting.computed == 3
    assert interpreter.mean_disagreements(waiting, new=1) == rated
    assert counting.computed == 3


def test_what_was_not_used_for_long_is_let_go(
    interpreter: LiveInterpreter, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreter, "_maps", memory_cache(1, live._maps_bytes))
    for columns in (10, 12, 10):
        interpreter.view(_picture(slice(16, 16 + columns)), _strokes(), [])
    assert counting.computed == 3


def test_ratings_take_limited_memory(interpreter: LiveInterpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "ROWS_BYTES", 2 * live.PIXELS_PER_CROP * sum(interpreter._extractor.channels) * 2)
    interpreter = LiveInterpreter(interpreter._extractor, 2, SETTINGS, rule="soft", precision="no")
    known = _picture(slice(16, None))
    interpreter.view(known, _strokes(), [])
    assert list(interpreter.mean_disagreements(dict.fromkeys("abc", lambda: known), new=3)) == ["b", "c"]


@pytest.mark.parametrize("marked", [None, 0])
def test_one_class_is_not_enough(interpreter: LiveInterpreter, marked: int | None) -> None:
    ids = np.full((24, 32), IGNORE, np.uint8)
    if marked is not None:
        ids[:4] = marked
    with pytest.raises(LabelError, match="at least two classes are needed"):
        interpreter.view(_picture(slice(0, 4)), ids, [])
