"""Pixel size: units, numbers and TIFF resolution tags."""

import math
import re
from collections.abc import Mapping
from typing import Any

from cytoseg.slides.planes import Plane

COARSEST_MPP = 20.0
"""A coarser resolution in a file's tags is meant for print or screen: 72 dpi is 353 µm per pixel."""

_FINEST_MPP = 0.01
_SQUARE = 0.05  # scanners measure both sides, which differ by up to a few per cent
_MICROMETRES = {
    "pm": 1e-6, "\u00c5": 1e-4, "nm": 1e-3, "\u00b5m": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "dm": 1e5, "m": 1e6,
    "thou": 25.4, "li": 2116.67, "in": 25400.0,
}  # fmt: skip
"""Symbols as in OME-XML; ``Mm`` is not ``mm``."""

_WORDS = {
    "micron": 1.0, "inch": 25400.0, "inche": 25400.0, '"': 25400.0, "angstrom": 1e-4, "picometer": 1e-6,
    "nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4, "decimeter": 1e5, "meter": 1e6,
}  # fmt: skip
"""Lower-case singular words as in ImageJ and NGFF."""

_INCH = 2
_OF_TAG = {_INCH: 25400.0, 3: 1e4, 4: 1e3, 5: 1.0}  # of the ResolutionUnit values, 4 and 5 as in libraries; 1 is none
_PER_PIXEL = re.compile(r"(/| per )\s*(px|pixels?)\s*$", re.IGNORECASE)
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})|&#x([0-9a-fA-F]{1,5});|&#(\d{1,6});")
_NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?")
_APERIO = re.compile(r"(?:^|\|)\s*MPP\s*[=:]([^|\r\n]{1,64})", re.MULTILINE | re.IGNORECASE)
_WITH_UNIT = re.compile(r"([^a-zµμ\u00c2\u00c5]*[0-9.](?:e[+-]?\d+)?)\s*(\D*)", re.IGNORECASE)


def micrometres_in(unit: str) -> float | None:
    r"""Convert a unit of length to micrometres; None if it is not plausible for a microscope.

    Args:
        unit: A symbol or a word: ``µm`` with either of the two characters, ``um``, ``micron``, ``inch``, ``cm``, ...;
            also as ImageJ escapes it (``\u00B5m``), as XML does, or as UTF-8 that was read as Latin-1.
    """
    plain = _ESCAPED.sub(_character, unit.strip())
    symbol = plain.replace("\u00c2", "").replace("\u03bc", "\u00b5").replace("\u212b", "\u00c5").strip()
    word = symbol.lower().replace("metre", "meter")
    return _MICROMETRES.get(symbol, _WORDS.get(word, _WORDS.get(word.removesuffix("s"))))


def _character(escape: re.Match[str]) -> str:
    return chr(int(escape[3]) if escape[3] else int(escape[1] or escape[2], 16))


def number_in(text: str) -> float | None:
    """Read a number that may have a decimal comma or an exponent; None if the text is anything else."""
    found = _NUMBER.fullmatch(text.strip())
    return float(found[0].replace(",", ".")) if found else None


def are_alike(width: float, height: float) -> bool:
    """Return whether two resolutions, of columns and of rows, are those of square pixels."""
    return abs(width - height) <= _SQUARE * abs(width)


def plausible_mpp(mpp: float) -> float | None:
    """Return a resolution if it is plausible for a microscope, otherwise None."""
    return mpp if _FINEST_MPP < mpp < COARSEST_MPP else None


def tiff_mpp(plane: Plane) -> float | None:
    """Read the micrometres per pixel of a tiled or striped TIFF.

    In this order: OME-XML, Aperio's description, ImageJ's unit, the resolution tags. Unreadable or implausible values
    count as missing, and so do those of pixels that are not square, which one number cannot state.

    Args:
        plane: The image to read; its file must be open.

    Returns:
        Micrometres per level-0 pixel, or None if not stated.
    """
    sizes = (_of_ome(plane.pixels), _of_aperio(plane.page), _of_tags(plane.page))
    return next((mpp for mpp in sizes if mpp is not None), None)


def _of_ome(pixels: Mapping[str, str]) -> float | None:
    numbers = [number_in(pixels.get(f"PhysicalSize{axis}", "")) for axis in "XY"]
    units = [pixels.get(f"PhysicalSize{axis}Unit") for axis in "XY"]
    if None not in numbers and numbers[0] == numbers[1]:
        # Some writers state one unit for both; the schema's default would make the other side a thousand times longer.
        units = [unit or next(filter(None, units), None) for unit in units]
    wide, high = (_in_micrometres(number, unit) for number, unit in zip(numbers, units, strict=True))
    return None if wide is None or (high is not None and not are_alike(wide, high)) else plausible_mpp(wide)


def _in_micrometres(number: float | None, unit: str | None) -> float | None:
    factor = micrometres_in(unit or "µm")
    return None if factor is None or number is None else number * factor


def _of_aperio(page: Any) -> float | None:
    found = _APERIO.search(page.description or "")
    parts = _WITH_UNIT.fullmatch(_PER_PIXEL.sub("", found[1].strip().strip("'\";"))) if found else None
    if not parts:
        return None
    size, unit = number_in(parts[1]), micrometres_in(parts[2]) if parts[2] else 1.0
    return None if size is None or unit is None else plausible_mpp(size * unit)


def _of_tags(page: Any) -> float | None:
    first = page.parent.pages.first
    page = first if first.is_imagej else page  # ImageJ describes a stack on its first page only
    unit = page.tags.valueof("ResolutionUnit", _INCH)
    of_tag = _OF_TAG.get(int(unit)) if isinstance(unit, int) else None
    across = _imagej_unit(page, "unit") or of_tag
    pixels, rows = (_ratio(page.tags.valueof(f"{axis}Resolution")) for axis in "XY")
    if not across or not pixels:
        return None
    down = _imagej_unit(page, "yunit") or across
    if rows and not are_alike(across / pixels, down / rows):
        return None
    return plausible_mpp(across / pixels)


def _imagej_unit(page: Any, key: str) -> float | None:
    """Read a unit from ImageJ's description, which takes precedence over the tag; ``yunit`` if that of y differs."""
    found = re.search(rf"^{key}=(.{{1,64}})$", page.imagej_description or "", re.MULTILINE)
    return micrometres_in(found[1]) if found else None


def _ratio(value: object) -> float | None:
    """Read a rational tag, which may be malformed; None unless it is a positive number."""
    parts = value if isinstance(value, tuple) else (value,)
    if len(parts) not in (1, 2) or not all(isinstance(part, int | float) for part in parts):
        return None
    whole = (*parts, 1)[1]
    share = parts[0] / whole if whole else 0.0
    return float(share) if math.isfinite(share) and share > 0 else None
