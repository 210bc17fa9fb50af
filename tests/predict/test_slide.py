import errno
import json
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from cytoseg.classes import IGNORE
from cytoseg.errors import PredictionError, SlideError
from cytoseg.predict.outputs import Destination, is_done
from cytoseg.predict.slide import Predictor, SlideSettings, predict_slide
from cytoseg.slides.background import TissueMask
from cytoseg.slides.open import open_slide
from cytoseg.slides.slide import Slide

MakeSlide = Callable[..., Slide]
SETTINGS = SlideSettings(tile_px=8, overlap_px=2, batch=1, mpp=None, assume_mpp=None)


def unwatched(done: int, total: int) -> None:
    """Nobody wants to know how far it is."""


def results(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32], dict[str, Any]]:
    class_map = tifffile.imread(folder / "class_map.ome.tif")
    uncertainty = tifffile.imread(folder / "uncertainty.ome.tif")
    return class_map, uncertainty, json.loads((folder / "summary.json").read_text())


def cells(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).choice(np.array([0, 40, 180, 255], np.uint8), (height, width))


def constant(probability: float) -> Predictor:
    def predict(tiles: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        shape = tiles.shape[:3]
        cell = np.full(shape, probability, np.float32)
        return {
            "probabilities": np.stack([1 - cell, cell], axis=1),
            "disagreement": np.full(shape, 0.25, np.float32),
        }

    return predict


def test_a_constant_comes_out_constant(make_slide: MakeSlide, destination: Destination) -> None:
    slide = make_slide(cells(21, 30), mpp=0.5)
    predict_slide(slide, constant(0.75), destination, settings=SETTINGS, tissue=None, on_tile=unwatched)
    class_map, uncertainty, summary = results(destination.folder)
    np.testing.assert_array_equal(class_map, np.ones((21, 30), np.uint8))
    np.testing.assert_allclose(uncertainty, 0.25, rtol=0, atol=1e-6)
    assert summary.pop("seconds") >= 0
    assert summary.pop("mean_disagreement") == pytest.approx(0.25)
    assert summary == {
        "format": 1,
        "slide": "slide.png",
        "size": [30, 21],
        "mpp": 0.5,
        "classes": {
            "background": {"pixels": 0, "share": 0.0, "area_um2": 0.0},
            "cell": {"pixels": 630, "share": 1.0, "area_um2": 157.5},
        },
        "ignored": 0,
        "tiles": 20,
        "glass_tiles": 0,
        "provenance": {"bundle": "abc", "tile_px": 8},
    }
    assert sorted(p.name for p in destination.folder.iterdir()) == [
        "class_map.ome.tif",
        "preview.png",
        "summary.json",
        "uncertainty.ome.tif",
    ]


@pytest.mark.parametrize(("overlap_px", "batch"), [(0, 1), (3, 1), (4, 3), (2, 50)])
def test_tiled_equals_whole(
    make_slide: MakeSlide, destination: Destination, dark_is_cell: Predictor, overlap_px: int, batch: int
) -> None:
    pixels = cells(37, 53)
    settings = replace(SETTINGS, overlap_px=overlap_px, batch=batch)
    predict_slide(make_slide(pixels), dark_is_cell, destination, settings=settings, tissue=None, on_tile=unwatched)
    class_map, uncertainty, summary = results(destination.folder)
    np.testing.assert_array_equal(class_map, pixels < 128)
    np.testing.assert_allclose(uncertainty, pixels / 255, rtol=0, atol=1e-6)
    assert summary["classes"]["cell"]["pixels"] == int((pixels < 128).sum())
    assert summary["classes"]["cell"]["area_um2"] is None


def test_tiles_go_to_the_predictor_in_batches_and_are_counted(make_slide: MakeSlide, destination: Destination) -> None:
    batches, seen = [], []

    def predict(tiles: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        batches.append(len(tiles))
        return constant(1.0)(tiles)

    settings = replace(SETTINGS, overlap_px=0, batch=2)
    predict_slide(
        make_slide(cells(16, 24)),
        predict,
        destination,
        settings=settings,
        tissue=None,
        on_tile=lambda done, total: seen.append((done, total)),
    )
    assert batches == [2, 1, 2, 1]
    assert list(dict.fromkeys(seen)) == [(2, 6), (3, 6), (5, 6), (6, 6)]


def test_glass_is_not_computed(make_slide: MakeSlide, destination: Destination, dark_is_cell: Predictor) -> None:
    """A row of tiles at 0, 6, 12, 16: tissue from 20 on lies in the last only, whose pixels from 16 on are kept."""
    seen: list[tuple[int, int]] = []
    tissue = TissueMask(np.arange(24)[None].repeat(8, axis=0) >= 20, downsample=1.0)
    predict_slide(
        make_slide(np.zeros((8, 24))),
        dark_is_cell,
        destination,
        settings=SETTINGS,
        tissue=tissue,
        on_tile=lambda done, total: seen.append((done, total)),
    )
    class_map, uncertainty, summary = results(destination.folder)
    np.testing.assert_array_equal(class_map, np.arange(24)[None].repeat(8, axis=0) >= 16)
    assert not uncertainty.any()
    assert (summary["tiles"], summary["glass_tiles"], summary["ignored"]) == (4, 3, 0)
    assert seen[-1] == (4, 4)


def test_the_mean_disagreement_is_that_of_computed_pixels(make_slide: MakeSlide, destination: Destination) -> None:
    settings = replace(SETTINGS, overlap_px=0)
    tissue = TissueMask(np.array([[True, False]]), downsample=8.0)
    predict_slide(
        make_slide(np.zeros((8, 16))), constant(1), destination, settings=settings, tissue=tissue, on_tile=unwatched
    )
    _, uncertainty, summary = results(destination.folder)
    np.testing.assert_array_equal(uncertainty[0], [0.25] * 8 + [0] * 8)
    assert summary["mean_disagreement"] == pytest.approx(0.25)


def test_glass_is_ignored_where_there_is_no_fill_class(make_slide: MakeSlide, destination: Destination) -> None:
    no_fill = replace(destination, classes=replace(destination.classes, fill=None))
    tissue = TissueMask(np.zeros((1, 1), np.bool_), downsample=16.0)
    predict_slide(
        make_slide(np.zeros((10, 16))), constant(1), no_fill, settings=SETTINGS, tissue=tissue, on_tile=unwatched
    )
    class_map, _, summary = results(destination.folder)
    np.testing.assert_array_equal(class_map, np.full((10, 16), IGNORE))
    assert (summary["ignored"], summary["mean_disagreement"]) == (160, None)


def test_a_slide_is_read_at_the_mpp_asked_for(
    make_slide: MakeSlide, destination: Destination, dark_is_cell: Predictor
) -> None:
    coarse = cells(9, 20)
    slide = make_slide(coarse.repeat(2, axis=0).repeat(2, axis=1), mpp=0.5)
    predict_slide(slide, dark_is_cell, destination, settings=replace(SETTINGS, mpp=1.0), tissue=None, on_tile=unwatched)
    class_map, _, summary = results(destination.folder)
    np.testing.assert_array_equal(class_map, coarse < 128)
    assert (summary["size"], summary["mpp"]) == ([20, 9], 1.0)
    assert summary["classes"]["cell"]["area_um2"] == int((coarse < 128).sum())


def test_an_assumed_mpp_serves_slides_that_do_not_say(make_slide: MakeSlide, destination: Destination) -> None:
    settings = replace(SETTINGS, mpp=1.0, assume_mpp=0.5)
    predict_slide(
        make_slide(cells(16, 16)), constant(1), destination, settings=settings, tissue=None, on_tile=unwatched
    )
    assert results(destination.folder)[2]["size"] == [8, 8]


def test_an_unknown_mpp_is_refused_when_one_is_asked_for(make_slide: MakeSlide, destination: Destination) -> None:
    with pytest.raises(SlideError, match="does not say its micrometres per pixel"):
        predict_slide(
            make_slide(cells(16, 16)),
            constant(1),
            destination,
            settings=replace(SETTINGS, mpp=1.0),
            tissue=None,
            on_tile=unwatched,
        )
    assert not destination.folder.parent.exists()


def test_a_slide_smaller_than_a_tile_is_filled_up_with_white(make_slide: MakeSlide, destination: Destination) -> None:
    tiles = []

    def predict(batch: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        tiles.append(batch)
        return constant(1)(batch)

    predict_slide(make_slide(np.zeros((3, 5))), predict, destination, settings=SETTINGS, tissue=None, on_tile=unwatched)
    expected = np.full((8, 8, 3), 255)
    expected[:3, :5] = 0
    np.testing.assert_array_equal(tiles, [[expected]])
    assert results(destination.folder)[0].shape == (3, 5)


def test_outputs_are_pyramids_with_a_physical_size(
    make_slide: MakeSlide, destination: Destination, dark_is_cell: Predictor
) -> None:
    settings = replace(SETTINGS, tile_px=256, overlap_px=32)
    slide = make_slide(np.full((300, 600), 51), mpp=0.25)
    predict_slide(slide, dark_is_cell, destination, settings=settings, tissue=None, on_tile=unwatched)
    for name, dtype, value in (("class_map", np.uint8, 1), ("uncertainty", np.float32, 0.2)):
        with tifffile.TiffFile(destination.folder / f"{name}.ome.tif") as tif:
            levels = tif.series[0].levels
            assert [level.shape for level in levels] == [(300, 600), (150, 300)]
            assert all(level.dtype == dtype and level.pages[0].is_tiled for level in levels)
            np.testing.assert_allclose(levels[1].asarray(), value, rtol=0, atol=1e-6)
            assert 'PhysicalSizeX="0.25"' in str(tif.ome_metadata)
    with open_slide(destination.folder / "class_map.ome.tif") as opened:
        assert opened.mpp == 0.25


def test_a_failing_predictor_leaves_nothing(make_slide: MakeSlide, destination: Destination) -> None:
    def predict(tiles: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        predict_slide(make_slide(cells(9, 9)), predict, destination, settings=SETTINGS, tissue=None, on_tile=unwatched)
    assert list(destination.folder.parent.iterdir()) == []


def test_ctrl_c_ends_after_the_batch_and_keeps_earlier_results(make_slide: MakeSlide, destination: Destination) -> None:
    slide = make_slide(cells(20, 20))
    predict_slide(slide, constant(1), destination, settings=SETTINGS, tissue=None, on_tile=unwatched)
    before = {p.name: p.read_bytes() for p in destination.folder.iterdir()}
    seen = []

    def press(done: int, total: int) -> None:
        seen.append(done)
        if done == 2:
            signal.raise_signal(signal.SIGINT)

    changed = replace(destination, provenance={"bundle": "other"})
    with pytest.raises(KeyboardInterrupt):
        predict_slide(slide, constant(0), changed, settings=SETTINGS, tissue=None, on_tile=press)
    assert seen == [1, 2]
    assert {p.name: p.read_bytes() for p in destination.folder.iterdir()} == before
    assert list(destination.folder.parent.iterdir()) == [destination.folder]
    assert is_done(destination.folder, destination.provenance)

    predict_slide(slide, constant(0), changed, settings=SETTINGS, tissue=None, on_tile=unwatched)
    assert not results(destination.folder)[0].any()
    assert is_done(destination.folder, {"bundle": "other"})


def test_a_full_disk_is_reported_in_one_line(
    make_slide: MakeSlide, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tifffile.TiffWriter, "write", full)
    wanted = r"slide: cannot be written \(No space left on device\); what was there is unchanged"
    with pytest.raises(PredictionError, match=wanted) as raised:
        predict_slide(
            make_slide(cells(9, 9)), constant(1), destination, settings=SETTINGS, tissue=None, on_tile=unwatched
        )
    assert "\n" not in str(raised.value)
    assert list(destination.folder.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("probabilities", "disagreement"), [((1, 3, 8, 8), (1, 8, 8)), ((1, 2, 4, 4), (1, 8, 8)), ((1, 2, 8, 8), (8, 8))]
)
def test_maps_of_another_shape_are_a_mistake_of_ours(
    make_slide: MakeSlide,
    destination: Destination,
    probabilities: tuple[int, ...],
    disagreement: tuple[int, ...],
) -> None:
    maps = {"probabilities": np.ones(probabilities, np.float32), "disagreement": np.ones(disagreement, np.float32)}
    with pytest.raises(ValueError, match="for 1 tiles of 8 px and 2 classes"):
        predict_slide(
            make_slide(cells(9, 9)), lambda _: maps, destination, settings=SETTINGS, tissue=None, on_tile=unwatched
        )


def test_numbers_that_are_not_finite_are_refused(make_slide: MakeSlide, destination: Destination) -> None:
    with pytest.raises(
        PredictionError, match=r"slide\.png: the prediction holds numbers that are not finite.*x 0, y 0"
    ):
        predict_slide(
            make_slide(cells(9, 9)),
            constant(float("nan")),
            destination,
            settings=SETTINGS,
            tissue=None,
            on_tile=unwatched,
        )


@pytest.mark.data
def test_a_real_scan(cytoseg_data: Path, destination: Destination, dark_is_cell: Predictor) -> None:
    settings = SlideSettings(tile_px=128, overlap_px=32, batch=4, mpp=2.0, assume_mpp=None)
    with open_slide(cytoseg_data / "wsi" / "CMU-1-Small-Region.svs") as slide:
        predict_slide(slide, dark_is_cell, destination, settings=settings, tissue=None, on_tile=unwatched)
    class_map, _, summary = results(destination.folder)
    assert class_map.shape == (740, 553)  # 2967 and 2220 pixels of 0.499 µm
    assert summary["mpp"] == 2.0
    assert 0.01 < summary["classes"]["cell"]["share"] < 0.9
