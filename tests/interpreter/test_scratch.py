import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cytoseg.errors import LabelError
from cytoseg.interpreter import scratch
from cytoseg.interpreter.scratch import ScratchUnet, fit_scratch

CPU = torch.device("cpu")
COLOURS = np.array([[240, 240, 250], [130, 180, 200], [60, 20, 90]], np.uint8)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "CHANNELS", (8, 16, 16, 16))
    monkeypatch.setattr(scratch, "CROP_PX", 32)


@pytest.fixture
def label_map() -> NDArray[np.uint8]:
    """40x28: glass, a cell and in it a nucleus."""
    ids = np.zeros((40, 28), np.uint8)
    ids[8:32, 4:24] = 1
    ids[16:24, 10:18] = 2
    return ids


def _fit(maps: list[NDArray[np.uint8]], label_map: NDArray[np.uint8], *, steps: int, seed: int = 0) -> ScratchUnet:
    return fit_scratch([COLOURS[label_map]] * len(maps), maps, classes=3, seed=seed, device=CPU, steps=steps)


def test_learns_what_colour_tells_on_pictures_of_any_size(label_map: NDArray[np.uint8]) -> None:
    turned = label_map[::-1, :-3]
    found = _fit([label_map], label_map, steps=150).predict(COLOURS[turned])
    assert found.dtype == np.uint8
    assert found.shape == turned.shape
    assert (found == turned).mean() > 0.95


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


def test_ignored_pixels_are_never_learnt_from(label_map: NDArray[np.uint8]) -> None:
    without = np.where(label_map == 2, 255, label_map).astype(np.uint8)
    found = _fit([without], label_map, steps=40).predict(COLOURS[label_map])
    assert set(np.unique(found)) <= {0, 1}


def test_parts_without_a_label_are_passed_over(label_map: NDArray[np.uint8]) -> None:
    nothing = np.full_like(label_map, 255)
    weights = _fit([label_map, nothing], label_map, steps=4).network.state_dict()
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())
    with pytest.raises(LabelError, match="no pixel of the 1 training crops is labelled"):
        _fit([nothing], label_map, steps=1)
