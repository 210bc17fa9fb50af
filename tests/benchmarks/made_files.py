"""Files that the benchmarks read: JPEG pyramids of any size from 256 distinct tiles, and folders of PNG fields."""

from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from cytoseg.geometry import Size
from cytoseg.slides.pyramid import TILE_PX, level_sizes
from cytoseg.synthetic.draw import make_scene
from cytoseg.synthetic.generate import draw_bands
from cytoseg.synthetic.stains import STAINS

SIDE_TILES = 16  # tiles per side of the repeated image: 256 distinct tiles
FIELD = Size(1280, 960)
DISTINCT_FIELDS = 64
MPP = 0.5
JPEG_QUALITY, JPEG_COLOUR = 75, "420"  # as `vips tiffsave --compression jpeg` writes it


def draw_picture(side_px: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Draw one synthetic smear, (side, side, 3) uint8."""
    scene = make_scene(seed, mpp=MPP, stain=next(iter(STAINS)))
    return np.concatenate([band for band, _ in draw_bands(scene, Size(side_px, side_px))])


def draw_labelled(side_px: int, *, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one synthetic smear with its exact label map."""
    scene = make_scene(seed, mpp=MPP, stain=next(iter(STAINS)))
    bands = list(draw_bands(scene, Size(side_px, side_px)))
    return np.concatenate([band for band, _ in bands]), np.concatenate([labels for _, labels in bands])


def encode_tiles(picture: NDArray[np.uint8]) -> list[list[bytes]]:
    """Cut an image into tiles and encode each as JPEG; return rows of columns."""
    rows, columns = (length // TILE_PX for length in picture.shape[:2])
    return [
        [_jpeg(picture[y * TILE_PX : (y + 1) * TILE_PX, x * TILE_PX : (x + 1) * TILE_PX]) for x in range(columns)]
        for y in range(rows)
    ]


def write_big_pyramid(path: Path, side_px: int, tiles: list[list[bytes]]) -> None:
    """Write a square BigTIFF pyramid, one level a page as in SVS files, by repeating encoded tiles.

    The coarser levels have the right sizes but repeat the same tiles, because no benchmark reads them.
    """
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for index, size in enumerate(level_sizes(Size(side_px, side_px))):
            resolution = 1e4 / (MPP * 2**index)
            writer.write(
                _repeat(tiles, size),
                shape=(size.height, size.width, 3),
                dtype=np.uint8,
                tile=(TILE_PX, TILE_PX),
                photometric="ycbcr",
                compression="jpeg",
                subsampling=(2, 2),
                subfiletype=1 if index else 0,
                resolution=(resolution, resolution),
                resolutionunit="CENTIMETER",
                metadata=None,
            )


def write_fields(folder: Path, count: int, picture: NDArray[np.uint8]) -> None:
    """Write PNG fields as a microscope camera would, cut from one image; they repeat after 64."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    distinct = []
    for number in range(DISTINCT_FIELDS):
        turned = np.rot90(picture, number % 4)
        y, x = (int(random.integers(turned.shape[i] - side)) for i, side in enumerate((FIELD.height, FIELD.width)))
        field = np.ascontiguousarray(turned[y : y + FIELD.height, x : x + FIELD.width])
        distinct.append(imagecodecs.png_encode(field, level=6))
    for number in range(count):
        (folder / f"field_{number:04d}.png").write_bytes(distinct[number % DISTINCT_FIELDS])


def _repeat(tiles: list[list[bytes]], size: Size) -> Iterator[bytes]:
    for row in range(-(-size.height // TILE_PX)):
        for column in range(-(-size.width // TILE_PX)):
            yield tiles[row % len(tiles)][column % len(tiles[0])]


def _jpeg(tile: NDArray[np.uint8]) -> bytes:
    pixels = np.ascontiguousarray(tile)
    return bytes(imagecodecs.jpeg8_encode(pixels, level=JPEG_QUALITY, subsampling=JPEG_COLOUR))
