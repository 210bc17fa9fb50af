"""Images read whole (PNG, JPEG, BMP, WebP, small TIFF) as one-level slides."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, ImageChops, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from cytoseg.caches import memory_cache
from cytoseg.errors import SlideError
from cytoseg.geometry import Level, Region, Size, overlap
from cytoseg.limits import limit
from cytoseg.slides.bit_depth import brightest, data_bits, refuse_dark
from cytoseg.slides.bmp_depth import misread_bmp
from cytoseg.slides.declared_size import refuse_bombs
from cytoseg.slides.jpeg_end import ends_in_zeros
from cytoseg.slides.orientation import picture_turn, tiff_turn, turned
from cytoseg.slides.parser_errors import DAMAGE
from cytoseg.slides.pixel_size import plausible_mpp, tiff_mpp
from cytoseg.slides.reader import Reader
from cytoseg.slides.regular_file import kind_unless_file, within_time
from cytoseg.slides.tiff import WHITE, on_white, open_tiff, page_rgb, to_8bit
from cytoseg.slides.tiff_colour import stores_ycbcr
from cytoseg.slides.tile_table import gaps

CACHE_BYTES = 96_000_000
"""Cache of decoded images per process; the newest is kept even if it exceeds the limit."""

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""The first bytes of TIFF and BigTIFF, little and big endian."""

_CONVERT = "Convert it to a tiled TIFF: vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg"
# Called directly rather than through Image.open, whose own size limit is lower and global.
_PLUGINS: dict[bytes, type[ImageFile.ImageFile]] = {
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
    b"RIFF": WebPImagePlugin.WebPImageFile,
}
_UNSUPPORTED = "cannot handle "  # begins Pillow's message on a whole JPEG with 12 bits or an odd number of channels
_LIMIT = "CYTOSEG_MAX_PICTURE_PX"
_START = 32  # bytes that identify the format
_PNG_DEPTH = 24  # offset of a PNG's bit depth


def read_picture(source: Path | bytes, *, name: str) -> NDArray[np.uint8]:
    """Read an image of any supported format as 8-bit RGB.

    Transparency is composited on white, 16-bit values are scaled, EXIF rotation is applied.

    Args:
        source: A file, or the bytes of one.
        name: Its name in messages.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        SlideError: If it is missing, damaged, too large or cannot be RGB (float values, several pages).
    """
    return turned(*read_stored(source, name=name))


def read_stored(source: Path | bytes, *, name: str) -> tuple[NDArray[np.uint8], int]:
    """Read an image like `read_picture`, but without turning it upright.

    Returns:
        (H, W, 3) uint8 RGB as stored, and its orientation, 1 to 8, see `turned`.

    Raises:
        SlideError: As `read_picture`.
    """
    pixels, turn, note = _read(source, name)
    if note:  # an annotator may have seen another one
        raise SlideError(f"{name}: contains several images, not only {note}. Save the one you want as a separate file.")
    return pixels, turn


class ImageSlide(Reader):
    """An image as a slide of one level, decoded at the first read and kept in a shared bounded cache.

    Args:
        path: The file.

    Raises:
        SlideError: If its header cannot be read, or it is too large to decode whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        header = _read_header(self.path)
        self.mpp, self.note, self.damage = header.mpp, header.note, ""
        self.levels: Sequence[Level] = (Level(header.size, 1.0),)

    def read_region(self, region: Region, level: int = 0) -> NDArray[np.uint8]:
        """Read a region; see `Slide.read_region`."""
        size = self.levels[level].size
        out = np.full((region.height, region.width, 3), WHITE, np.uint8)
        part = overlap(region, size)
        if part.width and part.height:
            pixels = _decoded(self.path)
            if pixels.shape != (size.height, size.width, 3):
                raise SlideError(f"{self.path.name}: has changed size since it was opened. Start again.")
            x, y = part.x - region.x, part.y - region.y
            out[y : y + part.height, x : x + part.width] = pixels[
                part.y : part.y + part.height, part.x : part.x + part.width
            ]
        return out


_cache: LRUCache[Any, NDArray[np.uint8]] = memory_cache(CACHE_BYTES, lambda pixels: int(pixels.nbytes))
_cache_lock = threading.Lock()


def _decoded(path: Path) -> NDArray[np.uint8]:
    """Return the pixels of an image, decoding it if it is not cached or the file has changed.

    The lock is held for bookkeeping only, never while decoding.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise SlideError(f"{path.name}: can no longer be read ({error}). Was it moved?") from error
    key = (path.absolute(), status.st_mtime_ns, status.st_size)
    with _cache_lock:
        pixels = _cache.get(key)
    if pixels is None:
        stored, turn, _ = _read(path, path.name)
        pixels = turned(stored, turn)
        pixels.flags.writeable = False
        with _cache_lock:
            _cache[key] = pixels
    return pixels


@dataclass(frozen=True)
class _Header:
    size: Size
    mpp: float | None
    note: str


def _read_header(path: Path) -> _Header:
    try:
        if _is_tiff(path, path.name):
            with open_tiff(path, name=path.name) as plane:
                page = plane.page
                size, mpp = Size(int(page.imagewidth), int(page.imagelength)), tiff_mpp(plane)
                _refuse_size(size, path.name)
                turn, note = tiff_turn(page), plane.note
        else:
            with _open_picture(path, path.name) as image:
                size, mpp = Size(*image.size), _dpi_mpp(image)
                _refuse_size(size, path.name)
                note = ""
                turn = picture_turn(image, path)  # may decode a PNG, so the size is checked first
    except DAMAGE as error:
        raise SlideError(f"{path.name}: the header is damaged or truncated ({error}). Copy the file again.") from error
    notes = (note, "the image turned upright by its orientation tag" if turn > 1 else "")
    return _Header(Size(size.height, size.width) if turn >= 5 else size, mpp, ", ".join(filter(None, notes)))


def _start(source: Path | bytes, name: str) -> bytes:
    if isinstance(source, bytes):
        return source[:_START]
    try:
        return within_time(source, lambda: _first_bytes(source, name))
    except FileNotFoundError as error:
        raise SlideError(f"{name}: no such file ({source}). Check the path.") from error
    except OSError as error:
        raise SlideError(f"{name}: cannot be read ({error}).") from error


def _first_bytes(source: Path, name: str) -> bytes:
    if kind := kind_unless_file(source):
        raise SlideError(f"{name}: cannot be read, it is {kind} and not a file ({source}). Name an image.")
    with source.open("rb") as file:
        return file.read(_START)


def _is_tiff(source: Path | bytes, name: str) -> bool:
    return _start(source, name).startswith(TIFF_STARTS)


def _open_picture(source: Path | bytes, name: str) -> ImageFile.ImageFile:
    """Open an image without decoding it; the format follows from the first bytes, not the suffix."""
    start = _start(source, name)
    file: Any = BytesIO(source) if isinstance(source, bytes) else source
    plugin = next((plugin for magic, plugin in _PLUGINS.items() if start.startswith(magic)), None)
    if plugin is None:
        what = "is empty" if not start else f"is not an image format that cytoseg reads (it starts with {start[:8]!r})"
        raise SlideError(f"{name}: {what}. Use PNG, JPEG, BMP, WebP or TIFF.")
    try:
        image = plugin(file)
    except Image.DecompressionBombError as error:
        raise SlideError(f"{name}: {error} {_CONVERT}") from error
    except SyntaxError as error:
        if not str(error).startswith(_UNSUPPORTED):
            raise
        kind = str(error).removeprefix(_UNSUPPORTED)
        raise SlideError(f"{name}: holds {kind}, which cytoseg cannot read. Export it as 8-bit RGB.") from error
    frames, misread = getattr(image, "n_frames", 1), misread_bmp(start, image.mode)
    if misread:
        image.close()
        raise SlideError(f"{name}: {misread}")
    if frames > 1:
        image.close()
        raise SlideError(f"{name}: is an animation of {frames} frames. Save the one you want.")
    return image


def _refuse_size(size: Size, name: str) -> None:
    pixels = size.width * size.height
    if pixels > limit(_LIMIT):
        raise SlideError(
            f"{name}: {size.width} x {size.height} is {pixels / 1e6:.0f} million pixels, more than the "
            f"{limit(_LIMIT) / 1e6:.0f} million that are read whole. {_CONVERT}; or set {_LIMIT} to more"
        )


def _pixels(image: ImageFile.ImageFile, source: Path | bytes, name: str) -> NDArray[np.uint8]:
    _check_palette(image, name)
    if image.format == "PNG":
        depth = _start(source, "")[_PNG_DEPTH]
        _scale_transparency(image, depth)
        if depth == 16:
            # Pillow drops the low byte of 16-bit colours and clips 16-bit grey.
            values = np.atleast_3d(_png_values(source))
            refuse_dark(brightest(values), bits=16, kind="RGB", name=name)
            deep = to_8bit(values, 16)
            colour = on_white(deep) if deep.shape[2] in (2, 4) else deep
            return np.repeat(colour, 3, axis=2) if colour.shape[2] == 1 else colour
        if depth == 8 and image.mode == "RGB" and not image.has_transparency_data:
            return np.asarray(_png_values(source), np.uint8)  # twice as fast as Pillow
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        # Pillow assumes Adobe's inverted CMYK for all of them.
        return np.asarray(ImageChops.invert(image).convert("RGB"))
    if image.has_transparency_data:
        return on_white(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))


def _check_palette(image: ImageFile.ImageFile, name: str) -> None:
    """Refuse indices without a colour, which Pillow reads as black."""
    if image.mode != "P" or image.palette is None:
        return
    largest = int(np.asarray(image).max())  # decodes it, which may read the palette, too
    colours = len(image.palette.palette) // len(image.palette.mode)
    if largest >= colours:
        raise SlideError(f"{name}: uses colour {largest} of a palette of {colours}. Export it again.")


def _scale_transparency(image: ImageFile.ImageFile, depth: int) -> None:
    """Scale the transparent grey of a PNG like its pixels: Pillow leaves it as stored in 2 or 4 bits."""
    grey = image.info.get("transparency")
    if depth in (2, 4) and image.mode == "L" and isinstance(grey, int) and grey < 2**depth:
        image.info["transparency"] = grey * (255 // (2**depth - 1))


def _png_values(source: Path | bytes) -> NDArray[Any]:
    return np.asarray(imagecodecs.png_decode(_bytes_of(source)))


def _bytes_of(source: Path | bytes) -> bytes:
    return source if isinstance(source, bytes) else source.read_bytes()


def _read(source: Path | bytes, name: str) -> tuple[NDArray[np.uint8], int, str]:
    """Read the pixels as stored, their orientation and, for several images in one file, a note which one was read."""
    try:
        if _is_tiff(source, name):
            return _read_tiff(source, name)
        with _open_picture(source, name) as image:
            _refuse_size(Size(*image.size), name)
            if image.format == "JPEG" and ends_in_zeros(_bytes_of(source)):
                raise SlideError(f"{name}: the image is damaged (its end is missing). Copy or export it again.")
            return _pixels(image, source, name), picture_turn(image, source), ""
    except DAMAGE as error:
        raise SlideError(f"{name}: the image is damaged or truncated ({error}). Copy or export it again.") from error


def _read_tiff(source: Path | bytes, name: str) -> tuple[NDArray[np.uint8], int, str]:
    with open_tiff(source, name=name) as plane:
        page = plane.page
        whole = [other for other in plane.others if not other.is_reduced and not other.is_subifd]
        more = [] if page.is_tiled else whole
        if more:
            raise SlideError(f"{name}: holds {len(more) + 1} pages. Save the one you want as a separate file.")
        _refuse_size(Size(int(page.imagewidth), int(page.imagelength)), name)
        if missing := gaps(page):
            raise SlideError(f"{name}: {missing}. Copy or export it again.")
        refuse_bombs(page)
        ycbcr = stores_ycbcr(page)
        pixels = page.asarray()
        if pixels.ndim == 3 and page.planarconfig != 1:
            pixels = np.moveaxis(pixels, 0, -1)
        pixels, bits = np.atleast_3d(pixels), data_bits(page, plane.pixels)
        refuse_dark(brightest(pixels), bits=bits, kind=page.photometric.name, name=name)
        return page_rgb(page, pixels, ycbcr=ycbcr, bits=bits), tiff_turn(page), plane.note


def _dpi_mpp(image: Image.Image) -> float | None:
    dpi = image.info.get("dpi")
    if image.format not in ("PNG", "JPEG") or not dpi or 0 in dpi or abs(dpi[0] - dpi[1]) > 0.01 * dpi[0]:
        return None
    return plausible_mpp(25400.0 / float(dpi[0]))
