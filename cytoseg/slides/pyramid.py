"""Writing tiled pyramidal OME-TIFFs from row bands with constant memory."""

import itertools
import os
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.geometry import Size
from cytoseg.slides.raw_map import RawMap
from cytoseg.writing import temporary_beside

TILE_PX = 256
COARSEST_PX = 512
"""Levels are added until the longer side is below this."""
BLOCK_PX = 4096
"""Columns of a tile row in memory at once; a multiple of the tile width."""
JPEG_QUALITY = 90
ZLIB_LEVEL = 9
BIGTIFF_BYTES = 2**31
"""Raw size from which BigTIFF is used: a classic TIFF cannot exceed 4 GB."""

Pixels = NDArray[Any]
"""(h, W, 3) uint8, (h, W) uint8, (h, W) uint32 or (h, W) float32."""

_Block = tuple[int, int, Pixels]
"""Left and upper edge of a block within one row of tiles, and its pixels."""

_KINDS = {(3, "uint8"), (2, "uint8"), (2, "uint32"), (2, "float32")}


@dataclass(frozen=True, eq=False)
class About:
    """Metadata of a written file.

    Attributes:
        identity: Unique identity of the file. Its UUID is derived from this alone, so that the same pixels with the
            same identity give the same bytes.
        name: Image name shown by viewers.
        channel: Channel name shown by viewers; empty for RGB.
        notes: Namespace to names and values, stored as OME map annotations.
        palette: (256, 3) uint8, colours of (h, W) uint8 ids; None shows greys.
    """

    identity: str = ""
    name: str = ""
    channel: str = ""
    notes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    palette: NDArray[np.uint8] | None = None


def write_pyramid(
    path: Path,
    bands: Iterable[Pixels],
    *,
    size: Size,
    mpp: float | None,
    categorical: bool = False,
    about: About | None = None,
) -> None:
    """Write row bands as a tiled OME-TIFF with SubIFD levels, each half the size of the previous one.

    RGB is compressed as JPEG, everything else losslessly. Only one band and a few tiles are in memory; the rest waits
    in a temporary folder beside the target. The file is written atomically.

    Args:
        path: Where to write; its folder is made. An existing file is replaced.
        bands: Consecutive row bands from top to bottom, of any height and the full width: (h, W, 3) uint8 RGB,
            (h, W) uint8, (h, W) uint32 instance ids (categorical only) or (h, W) float32.
        size: Width and height of level 0 in pixels.
        mpp: Micrometres per level-0 pixel, or None if unknown.
        categorical: True for class and instance ids: a coarser pixel takes the most frequent of four ids; otherwise
            the mean.
        about: Metadata; None writes none.

    Raises:
        SlideError: If the file cannot be written, for example because the disk is full.
        ValueError: If the bands do not add up to the size or have another shape or dtype.
    """
    try:
        with temporary_beside(path) as folder:
            part = folder / path.name
            _write_levels(part, bands, size=size, mpp=mpp, categorical=categorical, about=about or About())
            os.replace(part, path)
    except OSError as error:
        raise SlideError(
            f"{path}: the slide could not be written ({error.strerror or error}); no partial file was left. "
            "Free some space or choose another folder."
        ) from error


def level_sizes(size: Size) -> list[Size]:
    """List the sizes of all levels, finest first: halved (rounded up) until the longer side is below 512 px."""
    sizes = [size]
    while max(sizes[-1].width, sizes[-1].height) >= COARSEST_PX:
        sizes.append(Size((sizes[-1].width + 1) // 2, (sizes[-1].height + 1) // 2))
    return sizes


def halve(pixels: Pixels, *, categorical: bool) -> Pixels:
    """Halve height and width (rounded up; an odd last row or column counts twice).

    Args:
        pixels: (h, W, 3) uint8, (h, W) uint8, (h, W) uint32 (categorical only) or (h, W) float32.
        categorical: True takes the most frequent of each four (the upper left on a tie), False their mean.

    Returns:
        The same dtype, (ceil(h / 2), ceil(W / 2)) in size.
    """
    odd_edges = [(0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2)] + [(0, 0)] * (pixels.ndim - 2)
    even = np.pad(pixels, odd_edges, mode="edge") if any(n % 2 for n in pixels.shape[:2]) else pixels
    a, b, c, d = even[::2, ::2], even[::2, 1::2], even[1::2, ::2], even[1::2, 1::2]
    if categorical:
        rest: Pixels = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
        most: Pixels = np.where((a == b) | (a == c) | (a == d), a, rest)
        return most
    if pixels.dtype == np.uint8:
        mean: Pixels = (a.astype(np.uint16) + b + c + d + 2) >> 2
        return mean.astype(np.uint8)
    average: Pixels = (a + b + c + d) * np.float32(0.25)
    return average


def peek(bands: Iterable[Pixels], *, categorical: bool) -> tuple[Pixels, Iterator[Pixels]]:
    """Inspect the first band and check that its shape and dtype can be written.

    Returns:
        A template pixel, (1, 1, 3) or (1, 1), and all bands.

    Raises:
        ValueError: If there is none, or ``write_pyramid`` does not support its shape or dtype.
    """
    iterator = iter(bands)
    first = next(iterator, None)
    if first is None:
        raise ValueError("there are no bands to write")
    kind = (first.ndim, str(first.dtype))
    if kind not in _KINDS or (first.ndim == 3 and first.shape[2] != 3):
        raise ValueError(
            f"a band is {first.shape} {first.dtype}: (h, W, 3) uint8, (h, W) uint8, uint32 or float32 only"
        )
    if first.dtype == np.uint32 and not categorical:
        raise ValueError("uint32 bands hold instance ids, which have no mean: they are categorical")
    # Keep only a template of the first band: bands of wide slides are large.
    return np.empty((1, 1, *first.shape[2:]), first.dtype), _rejoined(first, iterator)


def checked(bands: Iterable[Pixels], *, size: Size, like: Pixels) -> Iterator[Pixels]:
    """Pass bands through and check that they add up.

    Args:
        bands: Consecutive row bands from top to bottom.
        size: Size of all bands together.
        like: Template pixel from ``peek``.

    Raises:
        ValueError: If a band has another dtype or width, or the heights do not add up.
    """
    total = 0
    for band in bands:
        if band.shape[1:] != (size.width, *like.shape[2:]) or band.dtype != like.dtype:
            raise ValueError(f"a band is {band.shape} {band.dtype}, but the slide is {size.width} wide {like.dtype}")
        total += len(band)
        yield band
        # Drop the reference to the old band before the next one is made.
        del band
    if total != size.height:
        raise ValueError(f"the bands have {total} rows together, but the slide has {size.height}")


def _write_levels(
    part: Path, bands: Iterable[Pixels], *, size: Size, mpp: float | None, categorical: bool, about: About
) -> None:
    """Write level after level; each is read from a file filled by the finer one."""
    first, bands = peek(bands, categorical=categorical)
    sizes = level_sizes(size)
    raws = [RawMap(part.with_name(f"level{i}.raw"), width=s.width, like=first) for i, s in enumerate(sizes)]
    # By default the UUID depends on the time, so equal pixels would give different files.
    ome = (
        {"UUID": str(uuid.uuid5(uuid.NAMESPACE_OID, about.identity))} | _physical_size(mpp) | _tifffile_metadata(about)
    )
    is_big = size.width * size.height * first.nbytes >= BIGTIFF_BYTES
    with tifffile.TiffWriter(part, ome=True, bigtiff=is_big) as writer:
        for index, (level, raw) in enumerate(zip(sizes, raws, strict=True)):
            blocks = _of_bands(checked(bands, size=size, like=first), raw) if index == 0 else _of_level(raw, level)
            coarser = raws[index + 1] if index + 1 < len(raws) else None
            tiles = _tiles(blocks, coarser, categorical=categorical)
            # tifffile requests no more tiles than it needs and closes the generator, but the source of the bands may
            # have
            # cleanup to do after the last one.
            writer.write(
                itertools.chain(tiles),
                shape=(level.height, level.width, *first.shape[2:]),
                dtype=first.dtype,
                subifds=len(sizes) - 1 if index == 0 else None,
                subfiletype=0 if index == 0 else 1,
                metadata={"axes": "YXS" if first.ndim == 3 else "YX"} | ome if index == 0 else None,
                **_tags(first, None if mpp is None else mpp * 2**index, about.palette),
            )
            deque(tiles, maxlen=0)
            raw.remove()


def _rejoined(first: Pixels, rest: Iterator[Pixels]) -> Iterator[Pixels]:
    yield first
    # itertools.chain would keep a reference to the end.
    del first
    yield from rest


def _of_bands(bands: Iterable[Pixels], row: RawMap) -> Iterator[_Block]:
    """Cut bands of any height into blocks; one row of tiles is buffered in the file."""
    y = 0
    for band in bands:
        while len(band):
            part = band[: TILE_PX - y % TILE_PX]
            row.write(part, x=0, y=y % TILE_PX)
            y, band = y + len(part), band[len(part) :]
            if y % TILE_PX == 0:
                yield from _across(row, y - TILE_PX, top=0, height=TILE_PX)
        del band, part
    if y % TILE_PX:
        yield from _across(row, y - y % TILE_PX, top=0, height=y % TILE_PX)


def _of_level(raw: RawMap, size: Size) -> Iterator[_Block]:
    """Cut a whole level into blocks."""
    for y in range(0, size.height, TILE_PX):
        yield from _across(raw, y, top=y, height=min(TILE_PX, size.height - y))


def _across(raw: RawMap, y: int, *, top: int, height: int) -> Iterator[_Block]:
    """Read one row of tiles, starting at row ``top`` of the file, from left to right."""
    for x in range(0, raw.width, BLOCK_PX):
        yield x, y, raw.window(x=x, y=top, width=min(BLOCK_PX, raw.width - x), height=height)


def _tiles(blocks: Iterable[_Block], coarser: RawMap | None, *, categorical: bool) -> Iterator[Pixels]:
    """Cut blocks into tiles and fill the coarser level, if there is one."""
    for x, y, block in blocks:
        if coarser is not None:
            coarser.write(halve(block, categorical=categorical), x=x // 2, y=y // 2)
        for left in range(0, block.shape[1], TILE_PX):
            tile = block[:, left : left + TILE_PX]
            missing = [(0, TILE_PX - length) for length in tile.shape[:2]] + [(0, 0)] * (block.ndim - 2)
            # Pad tiles with the edge colour: black would cause JPEG ringing in the image.
            yield np.ascontiguousarray(np.pad(tile, missing, mode="edge"))


def _tifffile_metadata(about: About) -> dict[str, Any]:
    """Convert the metadata to tifffile's arguments."""
    named = {"Name": about.name, "Channel": {"Name": [about.channel]} if about.channel else {}}
    notes = [{"Namespace": space, "Value": dict(values)} for space, values in about.notes.items()]
    return {key: value for key, value in (named | {"MapAnnotation": notes}).items() if value}


def _tags(like: Pixels, mpp: float | None, palette: NDArray[np.uint8] | None) -> dict[str, Any]:
    """Choose the compression and resolution tags of one level."""
    is_rgb = like.ndim == 3
    tags: dict[str, Any] = {
        "photometric": "rgb" if is_rgb else "minisblack",
        "tile": (TILE_PX, TILE_PX),
        "compression": "jpeg" if is_rgb else "zlib",
    }
    # Without a predictor: differences of neighbours compress worse where most pixels have the same few values.
    tags["compressionargs"] = {"level": JPEG_QUALITY if is_rgb else ZLIB_LEVEL}
    if palette is not None:
        # 16 bits per colour; 255 maps to the maximum.
        tags |= {"photometric": "palette", "colormap": palette.T.astype(np.uint16) * 257}
    if mpp is not None:
        tags |= {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    return tags


def _physical_size(mpp: float | None) -> dict[str, Any]:
    if mpp is None:
        return {}
    return {"PhysicalSizeX": mpp, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": mpp, "PhysicalSizeYUnit": "µm"}
