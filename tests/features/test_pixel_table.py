from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.unet import build_unet
from cytoseg.errors import RecipeError
from cytoseg.features.extract import FeatureExtractor, NativeFeatures, gather, to_input
from cytoseg.features.pixel_rows import DiskRows, MemoryLimits
from cytoseg.features.pixel_table import PixelDraw, PixelTable, choose_pixels, gather_pixels
from cytoseg.features.settings import FeatureSettings
from cytoseg.seeds import seed_for


@pytest.fixture
def label_map() -> NDArray[np.uint8]:
    """6x8: 30 pixels of glass, 12 of cell, 3 of nucleus, 3 ignored."""
    ids = np.repeat(np.array([0, 1, 2, 255], np.uint8), [30, 12, 3, 3])
    return np.random.default_rng(0).permutation(ids).reshape(6, 8)


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    tiny = Architecture(dim=8, dim_mults=(1, 2), timesteps=1000, schedule="linear", objective="pred_noise")
    settings = FeatureSettings(("block0.block2", "block1.block1"), (50,), scale=1, noise_seed=0)
    return FeatureExtractor(build_unet(tiny, seed=1).eval(), tiny, settings, device=torch.device("cpu"))


def _picture(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def _gathered(extractor: FeatureExtractor, maps: list[NDArray[np.uint8]], count: int = 9) -> PixelTable:
    return gather_pixels(extractor, [(_picture(0), m) for m in maps], PixelDraw(count, "classes", seed=5))


@pytest.mark.parametrize(
    ("count", "shares"),
    [
        (9, [3, 3, 3]),
        (21, [9, 9, 3]),  # all three of the nucleus; the 18 others shared
        (40, [25, 12, 3]),  # all of the cell as well
        (1000, [30, 12, 3]),
    ],
)
def test_rare_classes_give_all_they_have(label_map: NDArray[np.uint8], count: int, shares: list[int]) -> None:
    _, ids = choose_pixels(label_map, count, balance="classes", seed=0)
    assert np.bincount(ids, minlength=3).tolist() == shares


@pytest.mark.parametrize("balance", ["classes", "none"])
@pytest.mark.parametrize("count", [7, 1000])
def test_pixels_are_different_ones_never_ignored_and_carry_their_class(
    label_map: NDArray[np.uint8], balance: str, count: int
) -> None:
    pixels, ids = choose_pixels(label_map, count, balance=balance, seed=0)
    assert pixels.shape == (min(count, 45), 2)
    assert pixels.dtype == ids.dtype == np.int64
    assert len(np.unique(pixels, axis=0)) == len(pixels)
    np.testing.assert_array_equal(label_map[pixels[:, 1], pixels[:, 0]], ids)
    assert 255 not in ids


def test_without_balance_classes_are_drawn_as_frequent_as_they_are(label_map: NDArray[np.uint8]) -> None:
    draws = [choose_pixels(label_map, 15, balance="none", seed=i)[1] for i in range(300)]
    shares = np.bincount(np.concatenate(draws), minlength=3) / (300 * 15)
    np.testing.assert_allclose(shares, [30 / 45, 12 / 45, 3 / 45], atol=0.02)


def test_the_seed_decides(label_map: NDArray[np.uint8]) -> None:
    first, again, other = (choose_pixels(label_map, 12, balance="classes", seed=s)[0] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first[:4].tolist() == [[3, 0], [1, 2], [0, 4], [5, 0]]
    assert other[:4].tolist() == [[3, 0], [1, 2], [0, 4], [6, 1]]


@pytest.mark.parametrize("balance", ["classes", "none"])
def test_a_crop_of_which_nothing_is_known_gives_nothing(balance: str) -> None:
    pixels, ids = choose_pixels(np.full((4, 5), 255, np.uint8), 10, balance=balance, seed=0)
    assert pixels.shape == (0, 2)
    assert ids.shape == (0,)


def test_the_table_holds_the_features_of_the_chosen_pixels(
    extractor: FeatureExtractor, label_map: NDArray[np.uint8]
) -> None:
    table = _gathered(extractor, [label_map, label_map])
    expected = []
    for number in range(2):
        pixels, ids = choose_pixels(label_map, 9, balance="classes", seed=seed_for(5, number, what="pixels"))
        expected.append(gather(extractor(to_input(_picture(0)[None])), pixels).half())
        assert table.classes[9 * number : 9 * number + 9].tolist() == ids.tolist()
    assert table.features.dtype == torch.float16
    torch.testing.assert_close(table.features, torch.cat(expected), atol=0, rtol=0)
    # The same crop twice, but each draws its own pixels.
    assert not torch.equal(*expected)


def test_rows_are_the_same_on_disk(
    extractor: FeatureExtractor, label_map: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = _gathered(extractor, [label_map, label_map])
    monkeypatch.setattr("cytoseg.features.pixel_table.GATHERED_PX", 4)  # nine rows a crop in three parts
    monkeypatch.setattr("cytoseg.features.pixel_rows.available_bytes", lambda: 0)
    crops = [(_picture(0), label_map)] * 2
    on_disk = gather_pixels(extractor, crops, PixelDraw(9, "classes", seed=5), room=MemoryLimits(tmp_path))
    assert isinstance(in_memory.features, Tensor)
    assert isinstance(on_disk.features, DiskRows)
    assert torch.equal(on_disk.features[torch.arange(18)], in_memory.features)
    assert torch.equal(on_disk.classes, in_memory.classes)


def test_the_largest_crop_is_computed_first_and_rows_keep_their_order(extractor: FeatureExtractor) -> None:
    maps = [np.full(size, i, np.uint8) for i, size in enumerate([(2, 4), (6, 8), (4, 4), (6, 8)])]
    seen: list[tuple[int, int]] = []
    crops = [(_picture(0)[: m.shape[0], : m.shape[1]], m) for m in maps]

    class Recorder(FeatureExtractor):
        def __call__(self, pictures: Tensor) -> NativeFeatures:
            seen.append((pictures.shape[2], pictures.shape[3]))
            return super().__call__(pictures)

    recorder = Recorder(extractor.unet, extractor.architecture, extractor.settings, device=extractor.device)
    table = gather_pixels(recorder, crops, PixelDraw(2, "none", seed=0))
    assert seen == [(6, 8), (6, 8), (2, 4), (4, 4)]
    assert table.crops.tolist() == table.classes.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    one_by_one = [gather_pixels(extractor, [crop], PixelDraw(48, "none", seed=0)).features for crop in crops]
    for number, found in zip(table.crops.tolist(), table.features[torch.arange(8)], strict=True):
        of_crop = one_by_one[number]
        assert isinstance(of_crop, Tensor)
        assert (of_crop == found).all(1).any()


def test_too_little_memory_is_reported_after_one_crop(
    extractor: FeatureExtractor, label_map: NDArray[np.uint8]
) -> None:
    done: list[int] = []
    room = MemoryLimits(Path("nowhere"), ceiling_gb=0.001, trained="3 interpreters")
    crops = [(_picture(i), label_map) for i in range(3)]
    with pytest.raises(RecipeError, match=r"0\.001 is too little: the largest crop \(8 x 6 px\) and 3 interp"):
        gather_pixels(extractor, crops, PixelDraw(4, "none", seed=0), room=room, on_crop=done.append)
    assert done == []


def test_no_crops_give_no_pixels(extractor: FeatureExtractor) -> None:
    table = gather_pixels(extractor, [], PixelDraw(4, "none", seed=0))
    assert table.features.shape == (0, sum(extractor.channels))
    assert len(table.classes) == len(table.crops) == 0


def test_counts_are_of_all_labelled_pixels_whatever_was_chosen(
    extractor: FeatureExtractor, label_map: NDArray[np.uint8]
) -> None:
    unknown = np.full((6, 8), 255, np.uint8)
    cells = np.ones((6, 8), np.uint8)
    table = _gathered(extractor, [label_map, unknown, cells], count=6)
    assert table.counts == {0: 30, 1: 12 + 48, 2: 3}
    assert table.classes.bincount().tolist() == [2, 2 + 6, 2]
    assert len(table.features) == 12
    assert table.crops.tolist() == [0] * 6 + [2] * 6


def test_each_pixel_stands_for_those_of_its_crop_and_class(
    extractor: FeatureExtractor, label_map: NDArray[np.uint8]
) -> None:
    glass = np.zeros_like(label_map)
    table = _gathered(extractor, [label_map, glass])  # 30, 12 and 3 pixels of the classes; 48 of glass
    assert table.stands_for is not None
    for crop, class_id, labelled, chosen in ((0, 0, 30, 3), (0, 1, 12, 3), (0, 2, 3, 3), (1, 0, glass.size, 9)):
        of_both = table.stands_for[(table.crops == crop) & (table.classes == class_id)]
        assert of_both.tolist() == pytest.approx([labelled / chosen] * chosen)


def test_progress_is_reported_after_each_crop(extractor: FeatureExtractor, label_map: NDArray[np.uint8]) -> None:
    done: list[int] = []
    crops = [(_picture(i), label_map) for i in range(3)]
    gather_pixels(extractor, crops, PixelDraw(4, "none", seed=0), on_crop=done.append)
    assert done == [1, 2, 3]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 2), (7, 12)])
def test_crops_of_any_size_are_read_as_if_their_edges_went_on(
    extractor: FeatureExtractor, size: tuple[int, int]
) -> None:
    height, width = size
    picture = np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8)
    small = np.zeros(size, np.uint8)
    table = gather_pixels(
        extractor,
        [(picture, small), (_picture(0), np.zeros((6, 8), np.uint8))],
        PixelDraw(99, "none", 0),
    )
    edge = np.pad(picture, [(0, height % 2), (0, width % 2), (0, 0)], mode="edge")  # this network halves once
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    expected = gather(extractor(to_input(edge[None])), np.stack([x.ravel(), y.ravel()], axis=1)).half()
    assert len(table.features) == height * width + 48
    torch.testing.assert_close(table.features[: height * width], expected, atol=0, rtol=0)
