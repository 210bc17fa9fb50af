import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cytoseg.errors import LabelError
from cytoseg.interpreter import unet_baseline
from cytoseg.interpreter.part_draw import PartDraw
from cytoseg.interpreter.unet_baseline import ScratchUnet, fit_scratch, scratch_px

CPU = torch.device("cpu")
COLOURS = np.array([[240, 240, 250], [130, 180, 200], [60, 20, 90]], np.uint8)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unet_baseline, "CHANNELS", (8, 16, 16, 16))
    monkeypatch.setattr(unet_baseline, "CROP_PX", 32)


@pytest.fixture
def label_map() -> NDArray[np.uint8]:
    """40x28: glass, a cell and in it a nucleus."""
    ids = np.zeros((40, 28), np.uint8)
    ids[8:32, 4:24] = 1
    ids[16:24, 10:18] = 2
    return ids


def _fit(maps: list[NDArray[np.uint8]], label_map: NDArray[np.uint8], *, steps: int, seed: int = 0) -> ScratchUnet:
    return fit_scratch([COLOURS[label_map]] * len(maps), maps, classes=3, seed=seed, device=CPU, steps=steps)


@pytest.mark.slow
def test_learns_what_colour_tells_on_pictures_of_any_size(label_map: NDArray[np.uint8]) -> None:
    turned = label_map[::-1, :-3]
    found = _fit([label_map], label_map, steps=120).predict(COLOURS[turned])
    assert found.dtype == np.uint8
    assert found.shape == turned.shape
    assert (found == turned).mean() > 0.95


@pytest.mark.parametrize(
    ("sides", "wanted"), [([(256, 300)], 128), ([(256, 256), (70, 300)], 64), ([(64, 64)], 64), ([(9, 200)], 32)]
)
def test_parts_are_no_larger_than_the_smallest_crop(
    sides: list[tuple[int, int]], wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unet_baseline, "CROP_PX", 128)
    assert scratch_px([np.zeros((*side, 3), np.uint8) for side in sides]) == wanted


def test_the_seed_decides_and_the_global_state_does_not(label_map: NDArray[np.uint8]) -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = _fit([label_map], label_map, steps=2).network.state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    again = _fit([label_map], label_map, steps=2).network.state_dict()
    other = _fit([label_map], label_map, steps=2, seed=1).network.state_dict()
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_ignored_pixels_are_never_used_for_training(label_map: NDArray[np.uint8]) -> None:
    without = label_map.copy()
    without[:, :14] = 255
    taught = [np.where(without == 255, wrong, label_map).astype(np.uint8) for wrong in (0, 1, 255)]
    # What is under an ignored pixel decides nothing, what is under a labelled one does.
    found = [_fit([labels], label_map, steps=3).network.state_dict() for labels in (without, *taught)]
    torch.testing.assert_close(found[0], found[3], rtol=0, atol=0)
    assert any(not torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_class_that_was_never_shown_is_never_predicted(label_map: NDArray[np.uint8]) -> None:
    without = np.where(label_map == 2, 255, label_map).astype(np.uint8)
    fitted = _fit([without], label_map, steps=1)
    assert fitted.unseen == (2,)
    assert set(np.unique(fitted.predict(COLOURS[label_map]))) <= {0, 1}


def test_batches_without_a_label_are_passed_over(label_map: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = np.full_like(label_map, 255)
    # Crop 1 has no label: the mean over no pixel would be NaN.
    draws = iter([0, 1, 0, 1])
    monkeypatch.setattr(PartDraw, "_numbers", lambda _self, _step: [next(draws)])
    weights = _fit([label_map, nothing], label_map, steps=4).network.state_dict()
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())
    assert next(draws, None) is None


def test_nothing_labelled_is_refused(label_map: NDArray[np.uint8]) -> None:
    with pytest.raises(LabelError, match="no pixel of the 1 training crops is labelled"):
        _fit([np.full_like(label_map, 255)], label_map, steps=1)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (9, 17), (16, 40)])
def test_crops_of_any_size_are_predicted(label_map: NDArray[np.uint8], size: tuple[int, int]) -> None:
    fitted = _fit([label_map], label_map, steps=1)
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = fitted.predict(picture)
    missing = [max(16, side + -side % 8) - side for side in size]
    padded = fitted.predict(np.pad(picture, [(0, missing[0]), (0, missing[1]), (0, 0)], mode="edge"))
    np.testing.assert_array_equal(found, padded[: size[0], : size[1]])
