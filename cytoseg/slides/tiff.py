"""Tiled TIFF slides (SVS, OME-TIFF, BigTIFF), decoded tile by tile."""

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.geometry import Level, Region, Size, downsample_of, overlap
from cytoseg.slides.bit_depth import brightest, data_bits, refuse_dark
from cytoseg.slides.parser_errors import DAMAGE
from cytoseg.slides.pixel_size import tiff_mpp
from cytoseg.slides.planes import Plane, find_plane
from cytoseg.slides.reader import Reader
from cytoseg.slides.tiff_check import open_pages
from cytoseg.slides.tiff_colour import allow_chroma, odd_chroma, stores_ycbcr
from cytoseg.slides.tile_table import TileTable

# Without a handler, tifffile's log of damaged files would be printed beside our own error line.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

WHITE = 255
"""Value of every channel outside a slide's pixels."""

_KINDS = {"MINISWHITE": 1, "MINISBLACK": 1, "PALETTE": 1, "RGB": 3, "YCBCR": 3, "SEPARATED": 4}
_PREMULTIPLIED, _ALPHA = 1, 2  # ExtraSamples values; 0 means unspecified
_LAYOUTS = (1, 2)  # PlanarConfiguration: channels interleaved, or one after the other
_CMYK = 1  # InkSet
_SAMPLED = 16  # tiles of the coarsest level
_CONVERT = "convert it, for example with: vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg"


def to_8bit(pixels: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Scale unsigned values of any depth to 0 to 255, rounded, so that white stays white.

    Args:
        pixels: Any shape, unsigned integers or bool below 2**bits.
        bits: 1 to 16.

    Returns:
        The same shape, uint8.
    """
    if bits == 8:
        return pixels.astype(np.uint8, copy=False)
    largest = 2**bits - 1
    return np.asarray((pixels.astype(np.uint32) * 255 + largest // 2) // largest, np.uint8)


def clipped(pixels: NDArray[Any], bits: int) -> NDArray[Any]:
    """Limit 16-bit values to those of ``bits`` bits, in case a file states too few."""
    return np.minimum(pixels, np.uint16(2**bits - 1)) if pixels.dtype == np.uint16 and bits < 16 else pixels


def on_white(pixels: NDArray[np.uint8], *, premultiplied: bool = False) -> NDArray[np.uint8]:
    """Composite a partly transparent image on white.

    Args:
        pixels: (H, W, C + 1) uint8, the last channel is the alpha.
        premultiplied: True if the colours are already multiplied by alpha.

    Returns:
        (H, W, C) uint8.
    """
    colour, alpha = pixels[..., :-1].astype(np.uint16), pixels[..., -1:].astype(np.uint16)
    if premultiplied:
        return np.asarray(np.minimum(colour + (WHITE - alpha), WHITE), np.uint8)
    return np.asarray((colour * alpha + WHITE * (WHITE - alpha) + 127) // 255, np.uint8)


def opened(source: Path | bytes, *, name: str) -> Any:
    """Open any TIFF file: the tifffile.TiffFile, to be closed by the caller.

    Args:
        source: A file, or the bytes of one.
        name: Its name in messages.

    Raises:
        SlideError: If it is not a TIFF, or is damaged.
    """
    try:
        return open_pages(source)
    except DAMAGE as error:
        raise SlideError(f"{name}: not a readable TIFF ({error}). It may be truncated: copy it again.") from error


@contextlib.contextmanager
def open_tiff(source: Path | bytes, *, name: str) -> Iterator[Plane]:
    """Open a TIFF file, choose its image and refuse unsupported ones.

    Args:
        source: A file, or the bytes of one.
        name: Its name in messages.

    Yields:
        The image to read; its file is open until the block ends.

    Raises:
        SlideError: If it is not a TIFF, is damaged, or is not an RGB, grey or palette image or z-stack.
    """
    with opened(source, name=name) as tif:
        try:
            plane = find_plane(tif, name=name)
            allow_chroma(plane.page)
            _check_page(plane.page, name)
        except DAMAGE as error:
            raise SlideError(
                f"{name}: the TIFF header is damaged or truncated ({error}). Copy the file again."
            ) from error
        yield plane


def page_rgb(page: Any, pixels: NDArray[Any], *, ycbcr: bool, bits: int) -> NDArray[np.uint8]:
    """Convert the decoded pixels of a page to RGB.

    Args:
        page: Their tifffile.TiffPage.
        pixels: (H, W, S), S samples as the page stores them.
        ycbcr: Whether they are YCbCr, from ``stores_ycbcr``.
        bits: How many bits of them hold data, from ``data_bits``.

    Returns:
        (H, W, 3) uint8.
    """
    kind = page.photometric.name
    if kind == "PALETTE":
        return np.asarray(palette_of(page)[pixels[..., 0]], np.uint8)
    colour = to_8bit(clipped(pixels, bits), bits)
    if kind == "MINISWHITE":
        colour = np.concatenate([WHITE - colour[..., :1], colour[..., 1:]], axis=-1)
    if ycbcr:
        colour = _from_ycbcr(colour)
    if kind == "SEPARATED":
        ink = WHITE - colour[..., :4].astype(np.uint16)
        return ((ink[..., :3] * ink[..., 3:] + 127) // 255).astype(np.uint8)
    extra = _extra(page)
    if extra and extra[0] in (_PREMULTIPLIED, _ALPHA):
        colour = on_white(colour, premultiplied=extra[0] == _PREMULTIPLIED)
    return np.repeat(colour[..., :1], 3, axis=-1) if _KINDS[kind] == 1 else colour[..., :3]


def palette_of(page: Any) -> NDArray[np.uint8]:
    """Return the colours of a page's palette, (N, 3) uint8 RGB."""
    table = np.asarray(page.colormap).T
    # Some old writers fill the 16-bit table with 8-bit values.
    return to_8bit(table, 16 if table.max() > WHITE else 8)


class TiffSlide(Reader):
    """A tiled TIFF as a slide; levels in SubIFDs (OME-TIFF) or one page after another (SVS).

    Regions may be read from several threads at once. A truncated file is opened for the tiles that are present, and
    ``damage`` describes what is missing. Only complete coarser levels are used, so that what is left of level 0 can be
    read at every size.

    Args:
        path: The file.

    Raises:
        SlideError: If it is not a tiled TIFF, is damaged, or is not an RGB or grey image or z-stack.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        with open_tiff(self.path, name=self.path.name) as plane:
            if not plane.page.is_tiled:
                raise SlideError(f"{self.path.name}: is an untiled TIFF. Use open_slide, or {_CONVERT}")
            if (turn := plane.page.tags.valueof("Orientation", 1)) > 1:
                raise SlideError(f"{self.path.name}: is stored rotated (orientation {turn}). To read it, {_CONVERT}")
            try:
                pages = _pyramid(plane)
                # tifffile loads long tags lazily, so access them before the file is closed.
                self._palettes = [page.colormap for page in pages]
                ycbcr = [stores_ycbcr(page) for page in pages]
                self.mpp, self._bits = tiff_mpp(plane), data_bits(plane.page, plane.pixels)
                tables = [TileTable(page, self.path) for page in pages]
            except DAMAGE as error:
                raise SlideError(f"{self.path.name}: the TIFF is damaged ({error}). Copy the file again.") from error
        self.note = plane.note
        cut = [f"truncated at level {i}: {table.missing}" for i, table in enumerate(tables) if table.missing]
        self.damage = cut[0] if cut else ""
        self._tiles = [tables[0], *(table for table in tables[1:] if not table.missing)]
        kept = [i for i, table in enumerate(tables) if table in self._tiles]
        self._pages, self._ycbcr = [pages[i] for i in kept], [ycbcr[i] for i in kept]
        _refuse_empty(self._pages, self.path)
        self.levels: Sequence[Level] = _levels(self._pages)
        # TileTable does not depend on the file position, so threads and forked workers do not disturb each other.
        self._file = self.path.open("rb", buffering=0)
        if self._bits > 8:
            self._refuse_dark()

    def read_region(self, region: Region, level: int = 0) -> NDArray[np.uint8]:
        """Read a region from one level; see `Slide.read_region`."""
        wanted = region.at(self.levels[level].downsample)
        page, tiles = self._pages[level], self._tiles[level]
        out = np.full((wanted.height, wanted.width, 3), WHITE, np.uint8)
        part = overlap(wanted, self.levels[level].size)
        if not part.width or not part.height:
            return out
        for y in range(part.y // tiles.height * tiles.height, part.y + part.height, tiles.height):
            for x in range(part.x // tiles.width * tiles.width, part.x + part.width, tiles.width):
                samples = tiles.read(self._file.fileno(), x, y)
                if samples is None:
                    continue
                top, left = max(y, part.y), max(x, part.x)
                bottom, right = min(y + tiles.height, part.y + part.height), min(x + tiles.width, part.x + part.width)
                out[top - wanted.y : bottom - wanted.y, left - wanted.x : right - wanted.x] = page_rgb(
                    page,
                    samples[top - y : bottom - y, left - x : right - x],
                    ycbcr=self._ycbcr[level],
                    bits=self._bits,
                )
        return out

    def _refuse_dark(self) -> None:
        """Check a sample of the coarsest level's tiles, see `refuse_dark`."""
        page, tiles, largest = self._pages[-1], self._tiles[-1], 0
        rows, columns = range(0, page.imagelength, tiles.height), range(0, page.imagewidth, tiles.width)
        places = [(x, y) for y in rows for x in columns]
        for place in places[:: 1 + len(places) // _SAMPLED]:
            with contextlib.suppress(SlideError):  # damage is reported where it is read
                samples = tiles.read(self._file.fileno(), *place)
                largest = max(largest, 0 if samples is None else brightest(samples))
        try:
            refuse_dark(largest, bits=self._bits, kind=page.photometric.name, name=self.path.name)
        except SlideError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _extra(page: Any) -> tuple[int, ...]:
    return tuple(int(sample) for sample in page.extrasamples or ())


def _check_page(page: Any, name: str) -> None:
    bits, kind, extra = page.bitspersample, getattr(page.photometric, "name", str(page.photometric)), _extra(page)
    colours = int(page.samplesperpixel) - len(extra)
    found = None
    if page.sampleformat != 1 or not isinstance(bits, int) or bits > 16:
        numbers = {1: "unsigned", 2: "signed", 3: "floating point"}.get(page.sampleformat, "unusual")
        found = f"{bits}-bit {numbers} values, not 8 or 16-bit unsigned ones"
    elif page.imagedepth > 1:
        found = f"a volume of {page.imagedepth} planes"
    elif kind not in _KINDS:
        found = f"colours of the kind {kind}"
    elif colours != _KINDS[kind] or len(extra) > 1 or (_KINDS[kind] == 1 and extra == (0,)):
        found = f"{page.samplesperpixel} channels of the kind {kind}"
    elif page.compression not in tifffile.TIFF.DECOMPRESSORS or page.compression == 6:
        found = f"the compression {getattr(page.compression, 'name', page.compression)}"
    elif storage := _odd_storage(page, kind):
        found = storage
    elif 0 in (page.imagewidth, page.imagelength) or (page.is_tiled and page.tilelength < 1):
        found = "no pixels"
    if found:
        raise SlideError(f"{name}: holds {found}, which cytoseg cannot read. Export it as 8-bit RGB.")


def _odd_storage(page: Any, kind: str) -> str:
    if page.planarconfig not in _LAYOUTS:
        return f"channels laid out in the unknown way {int(page.planarconfig)}"
    if kind == "SEPARATED" and page.tags.valueof("InkSet", _CMYK) != _CMYK:
        return "inks other than those of CMYK"
    return odd_chroma(page)


def _pyramid(plane: Plane) -> list[Any]:
    """Find the pages that are coarser levels; labels, macros and thumbnails do not fit and are skipped."""
    first = plane.page
    levels = [first]
    for page in plane.others:
        ratio = first.imagewidth / page.imagewidth, first.imagelength / page.imagelength
        # One pixel of rounding in the smaller image, at most 2 % in the larger.
        same_view = abs(ratio[0] - ratio[1]) <= max(ratio) * max(0.02, 1 / page.imagewidth, 1 / page.imagelength)
        finer = page.imagewidth < levels[-1].imagewidth and page.imagelength < levels[-1].imagelength
        alike = (page.dtype, page.samplesperpixel) == (first.dtype, first.samplesperpixel)
        if page.is_tiled and same_view and finer and alike:
            allow_chroma(page)
            levels.append(page)
    return levels


def _refuse_empty(pages: Sequence[Any], path: Path) -> None:
    sides = (side for page in pages for side in (page.imagewidth, page.imagelength, page.tilewidth, page.tilelength))
    if min(sides) < 1:
        raise SlideError(f"{path.name}: the TIFF is damaged (an image or tile without pixels). Copy the file again.")


def _levels(pages: Sequence[Any]) -> tuple[Level, ...]:
    """Compute the levels of pages, which may be padded to whole tiles.

    Some scanners and converters pad: 1008 px in tiles of 256 px give a level of 512 px, 504 px of which are image.
    """
    sizes = [Size(int(page.imagewidth), int(page.imagelength)) for page in pages]
    tiles = [Size(int(page.tilewidth), int(page.tilelength)) for page in pages]
    full = sizes[0]
    factors = [_padded_factor(full, *pair) for pair in zip(sizes, tiles, strict=True)]
    # Where one level is padded all are, including one whose size could be that of an unpadded level.
    is_padded = any(factor and _is_off(full, size) for factor, size in zip(factors, sizes, strict=True))
    return tuple(
        Level(_divided(full, factor), float(factor)) if factor and is_padded else Level(size, downsample_of(full, size))
        for factor, size in zip(factors, sizes, strict=True)
    )


def _is_off(full: Size, size: Size) -> bool:
    """Return whether a level does not fit any downsample; an unpadded one is at most a pixel off, by rounding."""
    exact = _divided(full, _least_factor(full, size))
    return max(abs(size.width - exact.width), abs(size.height - exact.height)) > 1


def _padded_factor(full: Size, size: Size, tile: Size) -> int | None:
    """Find the downsample at which a level of ``size`` is padded to whole tiles; None if there is none.

    Several fit where the padding is large: 768 px in tiles of 256 px can be 10,100 px divided by 14 to 19. The power of
        two among them is returned, as is usual in pyramids, otherwise the smallest.
    """
    least = _least_factor(full, size)
    exact = ((factor, _divided(full, factor)) for factor in range(least, 2 * least))
    fitting = [
        factor
        for factor, part in exact
        if size == Size(_whole(part.width, tile.width), _whole(part.height, tile.height))
    ]
    return next((factor for factor in fitting if factor.bit_count() == 1), fitting[0] if fitting else None)


def _least_factor(full: Size, size: Size) -> int:
    return math.ceil(max(full.width / size.width, full.height / size.height))


def _divided(full: Size, factor: int) -> Size:
    return Size(math.ceil(full.width / factor), math.ceil(full.height / factor))


def _whole(length: int, tile: int) -> int:
    return -(-length // tile) * tile


def _from_ycbcr(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert full-range YCbCr to RGB (ITU-T T.871, JFIF)."""
    y, cb, cr = (pixels[..., i].astype(np.float32) - (0, 128, 128)[i] for i in range(3))
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    return np.asarray(np.clip(np.rint(rgb), 0, 255), np.uint8)
