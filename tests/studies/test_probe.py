from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cytoseg.errors import CheckpointError, LabelError
from cytoseg.features.extract import NativeFeatures
from cytoseg.labels.index import LabelledCrop
from cytoseg.studies import probe as module
from cytoseg.studies.probe import Extract, ProbePixels, draw_probe_pixels, probe, read_probe_pixels

Picture = NDArray[np.uint8]
Write = Callable[..., LabelledCrop]


def _scores(extract: Extract, pixels: ProbePixels) -> NDArray[np.float64]:
    return probe(read_probe_pixels(extract, pixels), pixels, classes=3)


def test_features_that_tell_classes_apart_score_high_and_noise_near_chance(
    write: Write, label_map: Picture, telling: Extract, noise: Callable[[int], Extract]
) -> None:
    crops = [write(f"{slide}_{i}", slide, np.roll(label_map, i, axis=1)) for slide in "abcde" for i in range(2)]
    pixels = draw_probe_pixels(crops, seed=0)
    high, low = _scores(telling, pixels), _scores(noise(0), pixels)
    assert high.shape == low.shape == (5,)
    assert high.min() > 0.98
    # Chance at best answers the commonest class always: half of the pixels right, of three classes.
    assert low.max() < 0.4
    np.testing.assert_array_equal(_scores(telling, draw_probe_pixels(crops, seed=0)), high)


def test_pixels_stand_for_all_of_their_class_and_crop(write: Write, label_map: Picture) -> None:
    pixels = draw_probe_pixels([write("a_0", "a", label_map), write("b_0", "b", np.roll(label_map, 3, axis=0))], seed=1)
    first = slice(0, len(pixels.places[0]))
    drawn = np.bincount(pixels.classes[first])
    # 200 of 240 labelled pixels: all 16 of the nucleus, the rest shared.
    assert drawn.tolist() == [92, 92, 16]
    for k, there in enumerate((120, 104, 16)):
        chosen = pixels.classes[first] == k
        assert pixels.weights[first][chosen].sum() == pytest.approx(there)
        assert len(np.unique(pixels.weights[first][chosen])) == 1
    x, y = pixels.places[0].T
    np.testing.assert_array_equal(label_map[y, x], pixels.classes[first])


def test_the_score_is_the_iou_of_whole_crops() -> None:
    """One of two glass pixels looks like the cell and stands for nine, the other for one; the cell's two for ten."""
    ids = np.array([0, 0, 1, 1] * 2)
    pixels = ProbePixels((), (), ids, np.array([9.0, 1, 5, 5] * 2), np.repeat([0, 1], 4), "slides")
    features = np.array([[1.0], [-1], [1], [1]] * 2, np.float32)
    # What looks like the cell is cell by 10 to 9. Glass is found by 1 in 10, cell is right in 10 of 19.
    np.testing.assert_allclose(probe(features, pixels, classes=2), [(1 / 10 + 10 / 19) / 2] * 2)


@pytest.mark.parametrize(
    ("names", "unit", "folds"),
    [
        (["a_0", "a_1", "b_0", "c_0"], "slides", 3),
        (["a_0", "a_1", "a_2"], "crops", 3),
        (["a_0"], "halves of the crop", 2),
        ([f"{slide}_0" for slide in "abcdefg"], "slides", 5),
    ],
)
def test_a_fold_leaves_whole_slides_out_or_crops_or_a_half(
    write: Write, label_map: Picture, names: list[str], unit: str, folds: int
) -> None:
    pixels = draw_probe_pixels([write(name, name[0], label_map) for name in names], seed=0)
    assert pixels.unit == unit
    assert np.unique(pixels.folds).tolist() == list(range(folds))
    left_out: dict[str, set[int]] = {}
    first = 0
    for crop, places in zip(pixels.crops, pixels.places, strict=True):
        inside = pixels.folds[first : first + len(places)]
        first += len(places)
        left_out.setdefault(crop.slide if unit == "slides" else crop.crop, set()).update(inside.tolist())
    if unit == "halves of the crop":
        x = pixels.places[0][:, 0]
        sides = sorted((x[pixels.folds == fold].min(), x[pixels.folds == fold].max()) for fold in (0, 1))
        assert sides[0][1] <= sides[1][0]
    else:
        assert all(len(found) == 1 for found in left_out.values())


def test_crops_are_spread_over_slides(write: Write, label_map: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CROPS", 4)
    unknown = np.full_like(label_map, 255)
    crops = [write(name, name[0], label_map) for name in ("a_0", "a_1", "a_2", "b_0", "b_1", "c_0")]
    pixels = draw_probe_pixels([write("d_0", "d", unknown), *crops], seed=0)
    assert [crop.crop for crop in pixels.crops] == ["a_0", "b_0", "c_0", "a_1"]


def test_a_class_that_a_fold_cannot_learn_is_not_found(write: Write, label_map: Picture, telling: Extract) -> None:
    glass = np.zeros_like(label_map)
    scores = _scores(telling, draw_probe_pixels([write("a_0", "a", label_map), write("b_0", "b", glass)], seed=0))
    # Taught on glass alone, everything is glass: 120 of 240 pixels, nothing of the two others.
    assert sorted(scores.round(3).tolist()) == [round(0.5 / 3, 3), 1.0]


def test_one_class_cannot_be_probed(write: Write, label_map: Picture) -> None:
    with pytest.raises(LabelError, match="the train crops show one class, 'glass'; at least two classes are needed"):
        draw_probe_pixels([write("a_0", "a", np.zeros_like(label_map))], seed=0)
    with pytest.raises(LabelError, match="the train crops show no labelled pixel"):
        draw_probe_pixels([write("a_0", "a", np.full_like(label_map, 255))], seed=0)


def test_every_crop_is_reported_and_features_that_are_not_finite_are_refused(
    write: Write, label_map: Picture, telling: Extract
) -> None:
    pixels = draw_probe_pixels([write("a_0", "a", label_map), write("b_0", "b", label_map)], seed=0)
    told = list[int]()
    assert read_probe_pixels(telling, pixels, on_crop=lambda: told.append(1)).shape == (400, 3)
    assert len(told) == 2

    def damaged(picture: Picture) -> NativeFeatures:
        found = telling(picture)
        return replace(found, maps=[torch.full_like(found.maps[0], torch.nan)])

    with pytest.raises(CheckpointError, match="a_0: the diffusion model produces NaN or infinite features"):
        read_probe_pixels(damaged, pixels)
