"""Reading class ids from mask images."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from cytoseg.classes import IGNORE
from cytoseg.errors import LabelError
from cytoseg.formats.id_arrays import ARRAY, MAGIC, read_id_array
from cytoseg.limits import limit
from cytoseg.slides.bmp_depth import misread_bmp
from cytoseg.slides.image import TIFF_STARTS
from cytoseg.slides.orientation import picture_turn, tiff_turn, turned
from cytoseg.slides.parser_errors import DAMAGE
from cytoseg.slides.regular_file import kind_unless_file
from cytoseg.slides.tiff import palette_of
from cytoseg.slides.tile_table import gaps

_FORMATS = ("PNG", "BMP", "JPEG", "WEBP", "GIF", "JPEG2000")  # all but the first two are only refused by name
_JPEGS = (6, 7, 33007, 34892)  # TIFF compressions: old and new JPEG, Alternative JPEG and DNG's
_LOSSY = (22610, 33003, 33004, 33005, 34712, 34887, 34934, 50001, 50002, 52546)
"""TIFF compressions that are lossy or not, which few headers say: JPEG XR, JPEG 2000, LERC, WebP and JPEG XL."""

_SMALLER = "Split the image and its mask into smaller ones."
_MASK_CHANNELS = (1, 2, 3, 4)
_LIMIT = "CYTOSEG_MAX_PICTURE_PX"
_START = 32  # bytes that identify the format
_PNG_DEPTH, _PNG_KIND = 24, 25  # offsets of a PNG's bit depth and colour type (0 is grey)
_DISPLAYED = 32  # a palette whose greys are all darker is not meant for display
_EXPORT = "Export ids, not colours."


def read_mask(path: Path, *, name: str) -> NDArray[np.integer]:
    """Read an image of class ids; a palette image gives its indices, grey of fewer than 8 bits its stored values.

    Args:
        path: PNG, TIFF, BMP or numpy file, detected by the first bytes.
        name: Its name in messages.

    Returns:
        (H, W) integers as stored, also where stored as floating point; one channel of colours that are all grey.

    Raises:
        LabelError: If it is missing, damaged, too large, contains colours or fractions, or is stored in a way that
            changes ids or makes them ambiguous.
    """
    try:
        if kind := kind_unless_file(path):
            raise LabelError(f"{name}: is {kind}, not a file. Export the mask as PNG or TIFF.")
        with path.open("rb") as file:
            start = file.read(_START)
        if start.startswith(MAGIC) or path.suffix.lower() == ARRAY:
            return read_id_array(path, name=name)
        values = _tiff_values(path, name) if start.startswith(TIFF_STARTS) else _picture_values(path, start, name)
    except UnidentifiedImageError as error:
        raise LabelError(f"{name}: the mask is damaged or not an image. Export it again as PNG or TIFF.") from error
    except Image.DecompressionBombError as error:
        raise LabelError(f"{name}: claims too many pixels ({error}). {_SMALLER}") from error
    except DAMAGE as error:
        raise LabelError(f"{name}: the mask is damaged or not an image ({error}). Export it again.") from error
    values = _one_channel(_whole_numbers(values, name))
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
        shape = "x".join(map(str, values.shape))
        raise LabelError(f"{name}: holds {shape} {values.dtype}, not one channel of class ids. {_EXPORT}")
    return values


def _picture_values(path: Path, start: bytes, name: str) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is checked next
        opened = Image.open(path, formats=_FORMATS)
    with opened as image:
        if image.format not in ("PNG", "BMP"):
            blurs = " JPEG blurs ids." if image.format == "JPEG" else ""
            raise LabelError(f"{name}: is a {image.format} image.{blurs} Export the mask as PNG or TIFF.")
        if misread := misread_bmp(start, image.mode):
            raise LabelError(f"{name}: {misread}")
        _refuse_size(*image.size, name=name)
        if (frames := getattr(image, "n_frames", 1)) > 1:
            raise LabelError(f"{name}: is an animation of {frames} frames. Save the one with the class ids.")
        assert isinstance(image, ImageFile.ImageFile)
        depth, kind = (start[_PNG_DEPTH], start[_PNG_KIND]) if image.format == "PNG" else (8, 0)
        if depth == 16 and kind != 0:
            raise LabelError(f"{name}: holds 16-bit colours, not one channel of class ids. {_EXPORT}")
        values = np.asarray(image)
        if image.mode == "P":
            _check_palette(values, np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3), name)
        if kind == 0 and depth in (2, 4):
            values = values // (255 // (2**depth - 1))  # Pillow rescales them to 0 to 255
        return turned(values, picture_turn(image, path))


def _check_palette(values: NDArray[Any], palette: NDArray[np.uint8], name: str) -> None:
    """Refuse a grey palette, (N, 3), whose greys seem to be the ids: some programs reorder or compact palettes.

    Greys for display are far apart, such as 0 and 255, or 0, 128 and 255; then the indices are the ids.
    """
    used = [int(i) for i in np.unique(values)]
    colours = [palette[i].tolist() for i in used if i < len(palette)]
    greys = [colour[0] for colour in colours if len(set(colour)) == 1]
    others = [grey for grey in greys if grey != IGNORE]
    alike = sorted(greys) == sorted(used) or 0 < max(others, default=0) < _DISPLAYED
    if len(greys) == len(used) > 1 and greys != used and alike:
        raise LabelError(f"{name}: its palette shows ids {used} as greys {greys}. Export the mask without a palette.")
    if set(greys) == {0, IGNORE} and len(used) == 2 and greys != [0, IGNORE]:
        raise LabelError(f"{name}: its palette shows id {used[0]} white and {used[1]} black. Export it without one.")


def _tiff_values(path: Path, name: str) -> NDArray[Any]:
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        _refuse_size(int(page.imagewidth), int(page.imagelength), name=name)
        bits, channels = page.bitspersample, page.samplesperpixel
        if page.imagedepth != 1 or channels not in _MASK_CHANNELS or bits not in range(1, 65):
            raise LabelError(f"{name}: has {channels} channels of {bits} bits, not one of class ids. {_EXPORT}")
        if page.is_tiled:  # a tile is decoded at its declared size
            _refuse_size(int(page.tilewidth), int(page.tilelength), name=name)
        _refuse_lossy(page.compression, name)
        if page.photometric == 0 and not file.is_imagej:
            # ImageJ stores foreground as 255 shown black; other programs use white, which is 0 here.
            raise LabelError(f"{name}: stores white as 0 (MinIsWhite), so the ids are ambiguous. Export it as PNG.")
        if _has_another(file):
            raise LabelError(f"{name}: holds several pages. Save the page with the class ids as a separate file.")
        if missing := gaps(page):
            raise LabelError(f"{name}: {missing}. Copy or export it again.")
        values = page.asarray()
        if values.ndim == 3 and page.planarconfig == 2:
            values = np.moveaxis(values, 0, -1)
        if page.colormap is not None and values.dtype == np.uint8:
            _check_palette(values, palette_of(page), name)
        return turned(values, tiff_turn(page))


def _refuse_lossy(compression: int, name: str) -> None:
    export = "Export the mask as PNG, or as TIFF with LZW or none."
    if compression in _JPEGS:
        raise LabelError(f"{name}: is compressed as JPEG, which blurs ids. {export}")
    if compression in _LOSSY:
        found = getattr(compression, "name", str(compression)).replace("_", " ")
        raise LabelError(f"{name}: is compressed as {found}, which can blur ids. {export}")


def _has_another(file: tifffile.TiffFile) -> bool:
    """Return whether there is a second page that is not a reduced copy of the first."""
    try:
        return not file.pages[1].is_reduced
    except IndexError:
        return False


def _whole_numbers(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Convert ids stored as floating point, such as ImageJ's 32-bit label images, to integers."""
    if not np.issubdtype(values.dtype, np.inexact):
        return values
    # Beyond 2**53 even doubles skip whole numbers; not <= also refuses NaN.
    largest = min(float(np.finfo(values.dtype).max), 2.0**53)
    if np.iscomplexobj(values) or not np.all((np.abs(values) <= largest) & (values == np.rint(values))):
        raise LabelError(f"{name}: holds {values.dtype} values with fractions, not class ids. Export whole numbers.")
    return values.astype(np.int64)


def _one_channel(values: NDArray[Any]) -> NDArray[Any]:
    """Reduce grey stored as RGB (with opaque alpha) to one channel; otherwise return the input."""
    if values.dtype == np.bool_:
        values = values.astype(np.uint8)
    if values.ndim != 3 or values.shape[2] not in _MASK_CHANNELS:
        return values
    colour, alpha = (values[..., :-1], values[..., -1]) if values.shape[2] in (2, 4) else (values, None)
    if alpha is not None and not np.all(alpha == np.iinfo(values.dtype).max):
        return values
    return values if np.any(colour != colour[..., :1]) else np.ascontiguousarray(colour[..., 0])


def _refuse_size(width: int, height: int, *, name: str) -> None:
    if not 0 < width * height <= limit(_LIMIT):
        raise LabelError(
            f"{name}: claims {width}x{height} pixels; at most {limit(_LIMIT) / 1e6:.0f} million are read. {_SMALLER}"
        )
