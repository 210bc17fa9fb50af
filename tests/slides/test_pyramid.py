import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.geometry import Size
from cytoseg.slides import pyramid
from cytoseg.slides.pyramid import halve, level_sizes, write_pyramid


def levels_of(path: Path) -> list[NDArray[np.uint8]]:
    with tifffile.TiffFile(path) as tif:
        return [level.asarray() for level in tif.series[0].levels]


def test_levels_halve_until_the_longer_side_is_below_512() -> None:
    assert level_sizes(Size(511, 3)) == [Size(511, 3)]
    assert level_sizes(Size(1025, 3)) == [Size(1025, 3), Size(513, 2), Size(257, 1)]


def test_halve_means_four_pixels_and_repeats_an_odd_edge() -> None:
    pixels = np.array([[0, 2, 10], [4, 7, 20], [8, 8, 30]], np.uint8)
    np.testing.assert_array_equal(halve(pixels, categorical=False), [[3, 15], [8, 30]])
    np.testing.assert_array_equal(halve(pixels.astype(np.float32), categorical=False), [[3.25, 15], [8, 30]])


@pytest.mark.parametrize(
    ("four", "most"),
    [([1, 1, 2, 0], 1), ([0, 2, 2, 1], 2), ([0, 1, 2, 2], 2), ([0, 2, 2, 2], 2), ([1, 2, 1, 2], 1), ([0, 2, 1, 2], 2)],
)
def test_halve_takes_the_most_frequent_id(four: list[int], most: int) -> None:
    assert halve(np.array(four, np.uint8).reshape(2, 2), categorical=True).tolist() == [[most]]


@pytest.mark.parametrize("heights", [(600,), (1, 255, 300, 44), (257, 343)])
def test_bands_of_any_height_give_the_same_levels(tmp_path: Path, heights: tuple[int, ...]) -> None:
    ids = np.random.default_rng(0).integers(0, 3, (600, 530), np.uint8)
    edges = np.cumsum((0, *heights))
    bands = (ids[a:b] for a, b in itertools.pairwise(edges))
    write_pyramid(tmp_path / "ids.ome.tif", bands, size=Size(530, 600), mpp=None, categorical=True)
    finest, coarser = levels_of(tmp_path / "ids.ome.tif")
    np.testing.assert_array_equal(finest, ids)
    np.testing.assert_array_equal(coarser, halve(ids, categorical=True))


def test_instance_ids_beyond_16_bits_stay_what_they_are(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(2**31, 2**32, (16, 520), np.uint32)
    write_pyramid(tmp_path / "i.ome.tif", [ids], size=Size(520, 16), mpp=0.5, categorical=True)
    with tifffile.TiffFile(tmp_path / "i.ome.tif") as tif:
        assert 'Type="uint32"' in tif.ome_metadata
        finest, coarser = (level.asarray() for level in tif.series[0].levels)
    np.testing.assert_array_equal(finest, ids)
    assert np.isin(coarser, ids).all()
    assert finest.dtype == coarser.dtype == np.uint32


def test_the_same_pixels_give_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_pyramid(tmp_path / name / "x.ome.tif", [np.eye(600, dtype=np.uint8)], size=Size(600, 600), mpp=0.5)
    first, second = ((tmp_path / name / "x.ome.tif").read_bytes() for name in ("a", "b"))
    assert first == second
    with tifffile.TiffFile(tmp_path / "a" / "x.ome.tif") as tif:
        assert 'UUID="urn:uuid:' in tif.ome_metadata


def test_instance_ids_have_no_mean(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="uint32 bands hold instance ids"):
        write_pyramid(tmp_path / "i.ome.tif", [np.zeros((4, 4), np.uint32)], size=Size(4, 4), mpp=None)


def test_float_levels_are_exact_means(tmp_path: Path) -> None:
    values = np.arange(520 * 16, dtype=np.float32).reshape(16, 520)
    write_pyramid(tmp_path / "u.ome.tif", [values], size=Size(520, 16), mpp=1.0)
    finest, coarser = levels_of(tmp_path / "u.ome.tif")
    np.testing.assert_array_equal(finest, values)
    np.testing.assert_array_equal(coarser, values.reshape(8, 2, 260, 2).mean(axis=(1, 3)))


def test_constant_colour_stays_constant_on_every_level(tmp_path: Path) -> None:
    colour = np.full((700, 1030, 3), (200, 100, 150), np.uint8)
    write_pyramid(tmp_path / "c.ome.tif", [colour], size=Size(1030, 700), mpp=0.25)
    levels = levels_of(tmp_path / "c.ome.tif")
    assert [level.shape for level in levels] == [(700, 1030, 3), (350, 515, 3), (175, 258, 3)]
    for level in levels:
        # JPEG's colour space rounds once; what matters is that no border or seam shows.
        assert np.ptp(level, axis=(0, 1)).tolist() == [0, 0, 0]
        assert np.abs(level[0, 0].astype(int) - (200, 100, 150)).max() <= 2


def test_mpp_tiles_and_compression_are_written(tmp_path: Path) -> None:
    write_pyramid(tmp_path / "a.ome.tif", [np.zeros((600, 600, 3), np.uint8)], size=Size(600, 600), mpp=0.25)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        assert 'PhysicalSizeX="0.25" PhysicalSizeXUnit="µm"' in tif.ome_metadata
        assert 'PhysicalSizeY="0.25"' in tif.ome_metadata
        base, coarser = (level.pages[0] for level in tif.series[0].levels)
        assert (base.tilewidth, base.tilelength, base.compression.name) == (256, 256, "JPEG")
        assert base.get_resolution("MICROMETER") == pytest.approx((4, 4))
        assert coarser.get_resolution("MICROMETER") == pytest.approx((2, 2))
        assert not tif.is_bigtiff


def test_maps_are_compressed_as_far_as_zlib_can(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:256, :256]
    ids = (np.hypot(rows % 50 - 20, columns % 40 - 18) + np.random.default_rng(0).random(rows.shape) < 15).astype(
        np.uint8
    )
    tifffile.imwrite(tmp_path / "b.tif", ids, tile=(256, 256), compression="zlib", compressionargs={"level": 6})
    write_pyramid(tmp_path / "a.ome.tif", [ids], size=Size(256, 256), mpp=None, categorical=True)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as ours, tifffile.TiffFile(tmp_path / "b.tif") as usual:
        assert ours.pages.first.predictor == 1
        assert sum(ours.pages.first.databytecounts) < 0.95 * sum(usual.pages.first.databytecounts)


def test_without_mpp_no_size_is_claimed(tmp_path: Path) -> None:
    write_pyramid(tmp_path / "a.ome.tif", [np.zeros((4, 4), np.uint8)], size=Size(4, 4), mpp=None)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        assert "PhysicalSize" not in tif.ome_metadata


def test_large_slides_are_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyramid, "BIGTIFF_BYTES", 16)
    write_pyramid(tmp_path / "a.ome.tif", [np.ones((4, 4), np.uint8)], size=Size(4, 4), mpp=None)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        assert tif.is_bigtiff
        np.testing.assert_array_equal(tif.asarray(), np.ones((4, 4)))


def test_openslide_reads_the_finest_level(tmp_path: Path) -> None:
    openslide = pytest.importorskip("openslide")
    ramp = np.broadcast_to(np.arange(600, dtype=np.uint8)[None, :, None] // 3, (520, 600, 3))
    write_pyramid(tmp_path / "a.ome.tif", [ramp], size=Size(600, 520), mpp=0.5)
    with openslide.OpenSlide(tmp_path / "a.ome.tif") as slide:
        assert slide.dimensions == (600, 520)
        seen = np.asarray(slide.read_region((0, 0), 0, (600, 520)))[..., :3]
    np.testing.assert_array_equal(seen, levels_of(tmp_path / "a.ome.tif")[0])


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    def interrupted() -> Iterator[NDArray[np.uint8]]:
        yield np.zeros((300, 600), np.uint8)
        raise KeyboardInterrupt

    target = tmp_path / "a.ome.tif"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_pyramid(target, interrupted(), size=Size(600, 600), mpp=None)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("side", [4, 256, 512])
def test_who_gives_the_bands_comes_to_an_end(tmp_path: Path, side: int) -> None:
    """What follows the last band, such as the removal of a file that it was read from, is done too."""
    ended = []

    def bands() -> Iterator[NDArray[np.uint8]]:
        yield np.zeros((side, side), np.uint8)
        ended.append(True)

    write_pyramid(tmp_path / "a.ome.tif", bands(), size=Size(side, side), mpp=None)
    assert ended == [True]


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile.TiffWriter, "write", full)
    with pytest.raises(SlideError, match=r"a\.ome\.tif: the slide could not be written \(No space left on device\)"):
        write_pyramid(tmp_path / "a.ome.tif", [np.zeros((4, 4), np.uint8)], size=Size(4, 4), mpp=None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ([], "no bands"),
        ([np.zeros((4, 4), np.int32)], r"a band is \(4, 4\) int32"),
        ([np.zeros((4, 4, 4), np.uint8)], r"a band is \(4, 4, 4\) uint8"),
        ([np.zeros((4, 5), np.uint8)], "4 wide"),
        ([np.zeros((2, 4), np.uint8), np.zeros((2, 4), np.float32)], "a band is .* float32"),
        ([np.zeros((3, 4), np.uint8)], "3 rows together, but the slide has 4"),
        ([np.zeros((4, 4), np.uint8), np.zeros((600, 4), np.uint8)], "604 rows together, but the slide has 4"),
    ],
)
def test_bands_that_do_not_fit_are_refused(tmp_path: Path, bands: list[NDArray[np.uint8]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_pyramid(tmp_path / "a.ome.tif", bands, size=Size(4, 4), mpp=None)
    assert list(tmp_path.iterdir()) == []
