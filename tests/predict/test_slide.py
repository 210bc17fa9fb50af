import hashlib
import signal
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from cytoseg.classes import IGNORE
from cytoseg.errors import PredictionError, SlideError
from cytoseg.geometry import Size
from cytoseg.predict.outputs import Destination, is_done
from cytoseg.predict.settings import SlideSettings
from cytoseg.predict.slide import Predictor, predict_slide
from cytoseg.slides.open import open_slide
from cytoseg.slides.tiling import TileGrid
from cytoseg.slides.tissue_mask import TissueMask
from tests.predict.slide_parts import SETTINGS, MakeSlide, cells, constant, results, unwatched


def test_a_constant_comes_out_constant(make_slide: MakeSlide, destination: Destination) -> None:
    slide = make_slide(cells(21, 30), mpp=0.5)
    predict_slide(slide, constant(0.75), destination, settings=SETTINGS, tissue=None, on_progress=unwatched)
    class_map, uncertainty, summary = results(destination.folder)
    np.testing.assert_array_equal(class_map, np.ones((21, 30), np.uint8))
    np.testing.assert_allclose(uncertainty, 0.25, rtol=0, atol=1e-6)
    assert summary.pop("seconds") >= summary.pop("computing_seconds") >= 0
    assert summary.pop("mean_disagreement") == pytest.approx(0.25)
    assert summary.pop("slide_sha256") == hashlib.sha256(slide.path.read_bytes()).hexdigest()
    assert summary.pop("versions")["numpy"] == np.__version__
    assert datetime.fromisoformat(summary.pop("made")) <= datetime.now(UTC)
    assert summary == {
        "format": 1,
        "slide": "slide.png",
        "slide_path": str(slide.path),
        "note": "read at its full resolution of 0.5 µm per pixel because the bundle does not specify one",
        "bundle": {"labels": "def"},
        "size": [30, 21],
        "mpp": 0.5,
        "classes": {
            "background": {"pixels": 0, "share": 0.0, "area_um2": 0.0},
            "cell": {"pixels": 630, "share": 1.0, "area_um2": 157.5},
        },
        "ignored": 0,
        "tiles": 20,
        "glass_tiles": 0,
        "files": ["class_map.ome.tif", "uncertainty.ome.tif", "preview.png"],
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
    predict_slide(make_slide(pixels), dark_is_cell, destination, settings=settings, tissue=None, on_progress=unwatched)
    class_map, uncertainty, summary = results(destination.folder)
    np.testing.assert_array_equal(class_map, pixels < 128)
    np.testing.assert_allclose(uncertainty, pixels / 255, rtol=0, atol=1e-6)
    assert summary["classes"]["cell"]["pixels"] == int((pixels < 128).sum())
    assert summary["classes"]["cell"]["area_um2"] is None


def looks_around(tiles: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
    """Two random 3 x 3 convolutions: each pixel's values depend on the 5 x 5 around it, and beyond a tile all is 0."""
    draws = torch.Generator().manual_seed(0)
    first, second = (torch.randn(shape, generator=draws) / 3 for shape in ((4, 3, 3, 3), (1, 4, 3, 3)))
    pictures = torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255
    hidden = torch.relu(functional.conv2d(pictures, first, padding=1))
    cell = torch.sigmoid(functional.conv2d(hidden, second, padding=1))
    return {"probabilities": torch.cat([1 - cell, cell], 1).numpy(), "disagreement": cell[:, 0].numpy()}


def test_what_is_predicted_in_tiles_is_what_is_predicted_whole(make_slide: MakeSlide, destination: Destination) -> None:
    """To 1e-5 where no tile's border is nearer than the predictor looks; at the seams to 0.05, half of it to 1e-3."""
    pixels, reach, settings = cells(120, 150), 2, replace(SETTINGS, tile_px=32, overlap_px=8, batch=3)
    slide = make_slide(pixels)
    predict_slide(slide, looks_around, destination, settings=settings, tissue=None, on_progress=unwatched)
    whole = looks_around(pixels[None, ..., None].repeat(3, axis=3))
    class_map, uncertainty, _ = results(destination.folder)
    near = np.zeros(pixels.shape, np.bool_)
    for row in TileGrid(Size(150, 120), 32, 8).rows():
        for tile in row:
            for edge in (tile.x, tile.x + 32):
                near[tile.y : tile.y + 32, max(0, edge - reach) : edge + reach] |= 0 < edge < 150
            for edge in (tile.y, tile.y + 32):
                near[max(0, edge - reach) : edge + reach, tile.x : tile.x + 32] |= 0 < edge < 120
    assert 0.3 < near.mean() < 0.7
    difference = np.abs(uncertainty - whole["disagreement"][0])
    assert difference[~near].max() < 1e-5
    assert 1e-3 < difference[near].max() < 0.05
    assert np.median(difference[near]) < 1e-3
    ids = whole["probabilities"][0].argmax(axis=0)
    np.testing.assert_array_equal(class_map[~near], ids[~near])
    assert 0 < (class_map != ids)[near].mean() < 0.01


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
        on_progress=lambda _what, done, total: seen.append((done, total)),
    )
    assert batches == [2, 1, 2, 1]
    assert list(dict.fromkeys(seen)) == [(0, 6), (2, 6), (3, 6), (5, 6), (6, 6)]


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
        on_progress=lambda _what, done, total: seen.append((done, total)),
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
        make_slide(np.zeros((8, 16))), constant(1), destination, settings=settings, tissue=tissue, on_progress=unwatched
    )
    _, uncertainty, summary = results(destination.folder)
    np.testing.assert_array_equal(uncertainty[0], [0.25] * 8 + [0] * 8)
    assert summary["mean_disagreement"] == pytest.approx(0.25)


def test_glass_is_ignored_where_there_is_no_fill_class(make_slide: MakeSlide, destination: Destination) -> None:
    no_fill = replace(destination, classes=replace(destination.classes, fill=None))
    tissue = TissueMask(np.zeros((1, 1), np.bool_), downsample=16.0)
    predict_slide(
        make_slide(np.zeros((10, 16))), constant(1), no_fill, settings=SETTINGS, tissue=tissue, on_progress=unwatched
    )
    class_map, _, summary = results(destination.folder)
    np.testing.assert_array_equal(class_map, np.full((10, 16), IGNORE))
    assert (summary["ignored"], summary["mean_disagreement"]) == (160, None)


def test_a_slide_is_read_at_the_mpp_asked_for(
    make_slide: MakeSlide, destination: Destination, dark_is_cell: Predictor
) -> None:
    coarse = cells(9, 20)
    slide = make_slide(coarse.repeat(2, axis=0).repeat(2, axis=1), mpp=0.5)
    predict_slide(
        slide, dark_is_cell, destination, settings=replace(SETTINGS, mpp=1.0), tissue=None, on_progress=unwatched
    )
    class_map, _, summary = results(destination.folder)
    np.testing.assert_array_equal(class_map, coarse < 128)
    assert (summary["size"], summary["mpp"]) == ([20, 9], 1.0)
    assert summary["classes"]["cell"]["area_um2"] == int((coarse < 128).sum())


def test_an_assumed_mpp_serves_slides_that_do_not_say(make_slide: MakeSlide, destination: Destination) -> None:
    settings = replace(SETTINGS, mpp=1.0, assume_mpp=0.5)
    predict_slide(
        make_slide(cells(16, 16)), constant(1), destination, settings=settings, tissue=None, on_progress=unwatched
    )
    assert results(destination.folder)[2]["size"] == [8, 8]


def test_an_unknown_mpp_is_refused_when_one_is_asked_for(make_slide: MakeSlide, destination: Destination) -> None:
    with pytest.raises(SlideError, match="does not state its micrometres per pixel"):
        predict_slide(
            make_slide(cells(16, 16)),
            constant(1),
            destination,
            settings=replace(SETTINGS, mpp=1.0),
            tissue=None,
            on_progress=unwatched,
        )
    assert not destination.folder.parent.exists()


def test_a_slide_smaller_than_a_tile_is_filled_up_with_white(make_slide: MakeSlide, destination: Destination) -> None:
    tiles = []

    def predict(batch: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        tiles.append(batch)
        return constant(1)(batch)

    predict_slide(
        make_slide(np.zeros((3, 5))), predict, destination, settings=SETTINGS, tissue=None, on_progress=unwatched
    )
    expected = np.full((8, 8, 3), 255)
    expected[:3, :5] = 0
    np.testing.assert_array_equal(tiles, [[expected]])
    assert results(destination.folder)[0].shape == (3, 5)


def test_a_failing_predictor_leaves_no_results(make_slide: MakeSlide, destination: Destination) -> None:
    def predict(tiles: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        predict_slide(
            make_slide(cells(9, 9)), predict, destination, settings=SETTINGS, tissue=None, on_progress=unwatched
        )
    assert list(destination.folder.parent.iterdir()) == []


def test_ctrl_c_ends_after_the_batch_and_keeps_earlier_results(make_slide: MakeSlide, destination: Destination) -> None:
    slide = make_slide(cells(20, 20))
    predict_slide(slide, constant(1), destination, settings=SETTINGS, tissue=None, on_progress=unwatched)
    before = {p.name: p.read_bytes() for p in destination.folder.iterdir()}
    seen = []

    def press(_what: str, done: int, _total: int) -> None:
        seen.append(done)
        if done == 2:
            signal.raise_signal(signal.SIGINT)

    changed = replace(destination, provenance={"bundle": "other"})
    with pytest.raises(KeyboardInterrupt):
        predict_slide(slide, constant(0), changed, settings=SETTINGS, tissue=None, on_progress=press)
    assert seen == [0, 1, 2]
    assert {p.name: p.read_bytes() for p in destination.folder.iterdir()} == before
    assert sorted(path.name for path in destination.folder.parent.iterdir()) == [".slide.part", "slide"]
    assert is_done(destination.folder, destination.provenance)

    predict_slide(slide, constant(0), changed, settings=SETTINGS, tissue=None, on_progress=unwatched)
    assert not results(destination.folder)[0].any()
    assert is_done(destination.folder, {"bundle": "other"})


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
            make_slide(cells(9, 9)), lambda _: maps, destination, settings=SETTINGS, tissue=None, on_progress=unwatched
        )


def test_numbers_that_are_not_finite_are_refused(make_slide: MakeSlide, destination: Destination) -> None:
    with pytest.raises(PredictionError, match=r"slide\.png: the prediction contains NaN or infinite values.*x 0, y 0"):
        predict_slide(
            make_slide(cells(9, 9)),
            constant(float("nan")),
            destination,
            settings=SETTINGS,
            tissue=None,
            on_progress=unwatched,
        )


@pytest.mark.data
def test_a_real_scan(cytoseg_data: Path, destination: Destination, dark_is_cell: Predictor) -> None:
    settings = SlideSettings(tile_px=128, overlap_px=32, batch=4, mpp=2.0, assume_mpp=None)
    with open_slide(cytoseg_data / "wsi" / "CMU-1-Small-Region.svs") as slide:
        predict_slide(slide, dark_is_cell, destination, settings=settings, tissue=None, on_progress=unwatched)
    class_map, _, summary = results(destination.folder)
    assert class_map.shape == (740, 553)  # 2967 and 2220 pixels of 0.499 µm
    assert summary["mpp"] == 2.0
    assert 0.01 < summary["classes"]["cell"]["share"] < 0.9
