"""OME-Zarr slides, read and written with the optional library zarr."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Blosc
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.geometry import Level, Region, Size, downsample_of, overlap
from cytoseg.limits import limit
from cytoseg.slides.ngff import ATTRIBUTES, metadata, read_multiscale
from cytoseg.slides.parser_errors import DAMAGE
from cytoseg.slides.planes import middle_plane
from cytoseg.slides.pyramid import Pixels, checked, halve, level_sizes, peek
from cytoseg.slides.reader import Reader
from cytoseg.slides.tiff import WHITE
from cytoseg.writing import replaced, write_atomically

_CHUNK = "CYTOSEG_MAX_TILE_PX"

CHUNK_PX = 512
"""Chunk side for writing: a slide of 100,000 px a side has 51,000 files; with 256 it would be four times as many."""


class ZarrSlide(Reader):
    """An OME-Zarr folder as a slide: three 8-bit channels as RGB; the middle plane of a z-stack.

    Missing chunks have the array's fill value, as in Zarr. Regions may be read from several threads.

    Args:
        path: The folder.

    Raises:
        SlideError: If its metadata are missing or damaged, or it is not an RGB image.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        found = read_multiscale(self.path)
        try:
            arrays = [zarr.open_array(store=array, mode="r") for array in found.arrays]
        except DAMAGE as error:
            raise SlideError(f"{self.path.name}: a level cannot be opened ({error}). Copy the folder again.") from error
        if refused := next(filter(None, (_refused(array, found.axes) for array in arrays)), ""):
            raise SlideError(f"{self.path.name}: holds {refused}, which cytoseg cannot read. Export it as 8-bit RGB.")
        self._axes = found.axes
        self._arrays, self.levels = _levels([(array, _size(array, found.axes)) for array in arrays], self.path.name)
        _, which_plane = middle_plane(_lengths(arrays[0], found.axes).get("z", 1))
        self.note = ", ".join(filter(None, (found.note, which_plane)))
        self.mpp, self.damage = found.mpp, ""

    def read_region(self, region: Region, level: int = 0) -> NDArray[np.uint8]:
        """Read a region from one level; see `Slide.read_region`."""
        wanted, array = region.at(self.levels[level].downsample), self._arrays[level]
        out = np.full((wanted.height, wanted.width, 3), WHITE, np.uint8)
        part = overlap(wanted, self.levels[level].size)
        if not part.width or not part.height:
            return out
        spans = {
            "t": 0,
            "z": middle_plane(_lengths(array, self._axes).get("z", 1))[0],
            "c": slice(None),
            "y": slice(part.y, part.y + part.height),
            "x": slice(part.x, part.x + part.width),
        }
        try:
            pixels = np.asarray(array[tuple(spans[axis] for axis in self._axes)])
        except DAMAGE as error:
            raise SlideError(f"{self.path.name}: damaged at {region} ({error}). Copy the folder again.") from error
        kept = [axis for axis in self._axes if axis in "cyx"]
        y, x = part.y - wanted.y, part.x - wanted.x
        out[y : y + part.height, x : x + part.width] = pixels.transpose([kept.index(axis) for axis in "yxc"])
        return out


def write_ome_zarr(
    path: Path, bands: Iterable[Pixels], *, size: Size, mpp: float | None, categorical: bool = False
) -> None:
    """Write row bands as an OME-Zarr folder (NGFF 0.4, Zarr 2) with levels, each half the size of the previous one.

    Compression is lossless. Only a few bands are in memory at a time. The folder is written atomically.

    Args:
        path: Where to write; its parent is made. An existing folder is replaced.
        bands: As for ``write_pyramid``.
        size: Width and height of level 0 in pixels.
        mpp: Micrometres per level-0 pixel, or None if unknown.
        categorical: True for class and instance ids: a coarser pixel takes the most frequent of four ids; otherwise
            the mean.

    Raises:
        SlideError: If the folder cannot be written, for example because the disk is full.
        ValueError: If the bands do not add up to the size or have an unsupported shape or dtype.
    """
    first, level_strips = peek(bands, categorical=categorical)
    rgb, sizes = first.ndim == 3, level_sizes(size)
    with replaced(path, error=SlideError) as folder:
        group = zarr.open_group(store=folder, mode="w", zarr_format=2)
        for number, level in enumerate(sizes):
            array = _new_array(group, str(number), level, first)
            cut = _strips(level_strips, size=level, like=first, rows=CHUNK_PX)
            level_strips = _stored(array, cut, categorical=categorical)
        # Each level requests strips from the finer one and halves them.
        for _ in level_strips:
            pass
        factors = [2**number for number in range(len(sizes))]
        found = metadata(path.name, factors, rgb=rgb, mpp=mpp)
        write_atomically(folder / ATTRIBUTES, json.dumps(found, indent=1))


def _new_array(group: zarr.Group, name: str, size: Size, like: Pixels) -> Any:
    channels = (3,) if like.ndim == 3 else ()
    return group.create_array(
        name,
        shape=(*channels, size.height, size.width),
        chunks=(*channels, CHUNK_PX, CHUNK_PX),
        dtype=like.dtype,
        compressors=Blosc(cname="zstd", clevel=5, shuffle=Blosc.SHUFFLE),
        fill_value=0,
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )


def _stored(array: Any, level_strips: Iterable[Pixels], *, categorical: bool) -> Iterator[Pixels]:
    """Store the strips of a level and yield those of the coarser one."""
    y = 0
    for strip in level_strips:
        array[..., y : y + len(strip), :] = np.moveaxis(strip, 2, 0) if strip.ndim == 3 else strip
        y += len(strip)
        half = halve(strip, categorical=categorical)
        # Drop the reference to the old strip before the next one is made.
        del strip
        yield half


def _lengths(array: Any, axes: str) -> dict[str, int]:
    return dict(zip(axes, array.shape, strict=True))


def _size(array: Any, axes: str) -> Size:
    lengths = _lengths(array, axes)
    return Size(int(lengths["x"]), int(lengths["y"]))


def _refused(array: Any, axes: str) -> str:
    """Describe why a level is not an 8-bit RGB image; empty if it is."""
    if array.ndim != len(axes):
        return f"{array.ndim} axes in a level where {len(axes)} are named"
    lengths = _lengths(array, axes)
    if lengths.get("t", 1) > 1:
        return f"{lengths['t']} time points"
    if lengths.get("c", 1) != 3:
        return f"{lengths.get('c', 1)} channels, not 3"
    if array.dtype != np.uint8:
        return f"values of the type {array.dtype}"
    if 0 in array.shape:
        return "no pixels"
    return "" if math.prod(array.chunks) <= 3 * limit(_CHUNK) else f"chunks of {array.chunks} values"


def _levels(found: Sequence[tuple[Any, Size]], name: str) -> tuple[list[Any], Sequence[Level]]:
    """Keep the arrays that are smaller than the previous one."""
    full = found[0][1]
    arrays, sizes = [found[0][0]], [full]
    for array, size in found[1:]:
        if size.width > sizes[-1].width or size.height > sizes[-1].height:
            raise SlideError(f"{name}: its levels are not ordered from fine to coarse. Export it again.")
        if size != sizes[-1]:
            arrays.append(array)
            sizes.append(size)
    return arrays, tuple(Level(size, downsample_of(full, size)) for size in sizes)


def _strips(bands: Iterable[Pixels], *, size: Size, like: Pixels, rows: int) -> Iterator[Pixels]:
    """Re-cut bands of any height into strips of ``rows`` rows, an even number; the last may be shorter."""
    waiting: list[Pixels] = []
    held = 0
    for band in checked(bands, size=size, like=like):
        waiting.append(band)
        held += len(band)
        while held >= rows:
            joined = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
            waiting, held = [joined[rows:]] if held > rows else [], held - rows
            # Drop the reference to the old strip before the next one is made.
            band = joined[:rows]
            del joined
            yield band
        del band
    if held:
        yield np.concatenate(waiting)
