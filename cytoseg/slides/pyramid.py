"""Writing tiled pyramidal OME-TIFFs from row bands, in flat memory."""

import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.geometry import Size

TILE_PX = 256
COARSEST_PX = 512
"""Levels are added until the longer side is below this."""
HALVED_PX = 4096
"""Columns that are halved at once; even, so that no pixel is cut in two."""
JPEG_QUALITY = 90
BIGTIFF_BYTES = 2**31
"""Raw size from which BigTIFF is used: compressed data of 4 GB would not fit an ordinary TIFF."""

Pixels = NDArray[Any]
"""(h, W, 3) uint8, (h, W) uint8, (h, W) uint32 or (h, W) float32."""

_KINDS = {(3, "uint8"), (2, "uint8"), (2, "uint32"), (2, "float32")}


def write_pyramid(
    path: Path,
    bands: Iterable[Pixels],
    *,
    size: Size,
    mpp: float | None,
    categorical: bool = False,
    identity: str = "",
) -> None:
    """Write row bands as a tiled OME-TIFF with SubIFD levels, each half as large as the one before.

    RGB is compressed as JPEG, everything else without loss. At no time are more than a few bands in memory: coarser
    levels wait in a temporary folder beside the target. The file appears under its name only when it is whole.

    Args:
        path: Where to write; its folder is made. An existing file is replaced.
        bands: Consecutive row bands from top to bottom, of any heights and all of the slide's width: (h, W, 3) uint8
            RGB, (h, W) uint8, (h, W) uint32 instance ids (categorical only) or (h, W) float32.
        size: Width and height of level 0 in pixels.
        mpp: Micrometres per level-0 pixel, or None if unknown.
        categorical: True for class and instance ids: a coarser pixel takes the most frequent of its four ids.
            Otherwise their mean.
        identity: What tells the file from all others. Its UUID is made of it and of nothing else, so that the same
            pixels of the same identity give the same bytes.

    Raises:
        SlideError: If the file cannot be written, for example because the disk is full.
        ValueError: If the bands do not add up to the size or are of a kind not named above.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            part = Path(folder) / path.name
            _write_levels(part, bands, size=size, mpp=mpp, categorical=categorical, identity=identity)
            os.replace(part, path)
    except OSError as error:
        raise SlideError(
            f"{path}: the slide could not be written ({error.strerror or error}); nothing was left behind. "
            "Free some space or choose another folder."
        ) from error


def level_sizes(size: Size) -> list[Size]:
    """List the sizes of all levels, finest first: halved (rounded up) until the longer side is below 512 px."""
    sizes = [size]
    while max(sizes[-1].width, sizes[-1].height) >= COARSEST_PX:
        sizes.append(Size((sizes[-1].width + 1) // 2, (sizes[-1].height + 1) // 2))
    return sizes


def halve(pixels: Pixels, *, categorical: bool) -> Pixels:
    """Make an array half as high and wide (rounded up; an odd last row or column counts twice).

    Args:
        pixels: (h, W, 3) uint8, (h, W) uint8, (h, W) uint32 (categorical only) or (h, W) float32.
        categorical: True takes the most frequent of each four (the upper left at a tie), False their mean.

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
    """Look at the first band and check that it is of a kind that can be written.

    Returns:
        One pixel of that kind, (1, 1, 3) or (1, 1), and all the bands.

    Raises:
        ValueError: If there is none, or it is of another kind than ``write_pyramid`` names.
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
    # Of the first band only the kind is wanted from here on, and bands of wide slides are large.
    return np.empty((1, 1, *first.shape[2:]), first.dtype), _rejoined(first, iterator)


def strips(bands: Iterable[Pixels], *, size: Size, like: Pixels, rows: int) -> Iterator[Pixels]:
    """Cut bands of any height anew into strips.

    Args:
        bands: Consecutive row bands from top to bottom.
        size: Of all of them together.
        like: A pixel of their kind, from ``peek``.
        rows: Height of a strip in pixels, an even number; the last one may be lower.

    Raises:
        ValueError: If the bands do not add up to the size.
    """
    waiting: list[Pixels] = []
    held = total = 0
    for band in bands:
        if band.shape[1:] != (size.width, *like.shape[2:]) or band.dtype != like.dtype:
            raise ValueError(f"a band is {band.shape} {band.dtype}, but the slide is {size.width} wide {like.dtype}")
        waiting.append(band)
        held, total = held + len(band), total + len(band)
        while held >= rows:
            joined = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
            waiting, held = [joined[rows:]] if held > rows else [], held - rows
            # Nothing may hold the old strip while the next one is made.
            band = joined[:rows]
            del joined
            yield band
        del band
    if total != size.height:
        raise ValueError(f"the bands have {total} rows together, but the slide has {size.height}")
    if held:
        yield np.concatenate(waiting)


def _write_levels(
    part: Path, bands: Iterable[Pixels], *, size: Size, mpp: float | None, categorical: bool, identity: str
) -> None:
    """Write level after level; each is read from the spool that the finer one filled."""
    first, bands = peek(bands, categorical=categorical)
    sizes = level_sizes(size)
    raw_bytes = size.width * size.height * first.nbytes
    level_strips = strips(bands, size=size, like=first, rows=TILE_PX)
    # By default the UUID holds the time, and no two files of the same pixels would be equal.
    ome = {"UUID": str(uuid.uuid5(uuid.NAMESPACE_OID, identity))} | _physical_size(mpp)
    with tifffile.TiffWriter(part, ome=True, bigtiff=raw_bytes >= BIGTIFF_BYTES) as writer:
        for index, level in enumerate(sizes):
            spool = part.with_name(f"level{index + 1}.raw")
            with spool.open("wb") as sink:
                writer.write(
                    _tiles(level_strips, None if index == len(sizes) - 1 else sink, categorical=categorical),
                    shape=(level.height, level.width, *first.shape[2:]),
                    dtype=first.dtype,
                    subifds=len(sizes) - 1 if index == 0 else None,
                    subfiletype=0 if index == 0 else 1,
                    metadata={"axes": "YXS" if first.ndim == 3 else "YX"} | ome if index == 0 else None,
                    **_tags(first, None if mpp is None else mpp * 2**index),
                )
            part.with_name(f"level{index}.raw").unlink(missing_ok=True)
            if index + 1 < len(sizes):
                level_strips = _spooled(spool, width=sizes[index + 1].width, like=first)


def _rejoined(first: Pixels, rest: Iterator[Pixels]) -> Iterator[Pixels]:
    yield first
    # itertools.chain would hold it to the end.
    del first
    yield from rest


def _spooled(spool: Path, *, width: int, like: Pixels) -> Iterator[Pixels]:
    """Read the strips of a level back from its spool."""
    shape = (width, *like.shape[2:])
    count = TILE_PX * int(np.prod(shape))
    with spool.open("rb") as source:
        # fromfile and not a memory map, whose pages would count as memory of this process.
        while (values := np.fromfile(source, like.dtype, count)).size:
            yield values.reshape(-1, *shape)


def _tiles(strips: Iterable[Pixels], sink: BinaryIO | None, *, categorical: bool) -> Iterator[Pixels]:
    """Cut strips into tiles, and spool the coarser level on the way when a sink is given."""
    for strip in strips:
        if sink is not None:
            # Some columns at a time: what halving takes in passing is a multiple of what it halves.
            parts = [strip[:, x : x + HALVED_PX] for x in range(0, strip.shape[1], HALVED_PX)]
            np.concatenate([halve(part, categorical=categorical) for part in parts], axis=1).tofile(sink)
        for x in range(0, strip.shape[1], TILE_PX):
            tile = strip[:, x : x + TILE_PX]
            missing = [(0, TILE_PX - length) for length in tile.shape[:2]] + [(0, 0)] * (strip.ndim - 2)
            # Tiles are filled up with the edge's own colour: black would ring into the picture through JPEG.
            yield np.ascontiguousarray(np.pad(tile, missing, mode="edge"))
        del strip, tile


def _tags(like: Pixels, mpp: float | None) -> dict[str, Any]:
    """Choose compression and resolution of one level."""
    is_rgb = like.ndim == 3
    tags: dict[str, Any] = {
        "photometric": "rgb" if is_rgb else "minisblack",
        "tile": (TILE_PX, TILE_PX),
        "compression": "jpeg" if is_rgb else "zlib",
    }
    if is_rgb:
        tags["compressionargs"] = {"level": JPEG_QUALITY}
    if mpp is not None:
        tags |= {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    return tags


def _physical_size(mpp: float | None) -> dict[str, Any]:
    if mpp is None:
        return {}
    return {"PhysicalSizeX": mpp, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": mpp, "PhysicalSizeYUnit": "µm"}
