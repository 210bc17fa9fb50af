"""How large a pixel is: units and numbers as programs write them, and what the tags of a TIFF say."""

import math
import re
from collections.abc import Mapping
from typing import Any

from cytoseg.slides.planes import Plane

COARSEST_MPP = 20.0
"""A coarser resolution in a file's tags is a printer's or a screen's: 72 dpi is 353 µm per pixel."""

_FINEST_MPP = 0.01
_MICROMETRES = {
    "pm": 1e-6, "\u00c5": 1e-4, "nm": 1e-3, "\u00b5m": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "dm": 1e5, "m": 1e6,
    "thou": 25.4, "li": 2116.67, "in": 25400.0,
}  # fmt: skip
"""Symbols as OME-XML has them; ``Mm`` is no ``mm``."""

_WORDS = {
    "micron": 1.0, "inch": 25400.0, "inche": 25400.0, '"': 25400.0, "angstrom": 1e-4, "picometer": 1e-6,
    "nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4, "decimeter": 1e5, "meter": 1e6,
}  # fmt: skip
"""Words in lower case, singular, as ImageJ and NGFF have them."""

_INCH = 2
_OF_TAG = {_INCH: 25400.0, 3: 10000.0}  # of the values of ResolutionUnit; 1 is none at all
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})|&#(\d{1,6});")
_NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?")
_APERIO = re.compile(r"(?:^|\|)\s*MPP\s*=([^|\r\n]{1,64})", re.MULTILINE)


def micrometres_in(unit: str) -> float | None:
    r"""Tell how many micrometres a unit of length is, None if it is none that a microscope is measured in.

    Args:
        unit: A symbol or a word: ``µm`` with either of the two characters, ``um``, ``micron``, ``inch``, ``cm``, ...;
            also as ImageJ escapes it (``\u00B5m``), or as UTF-8 that was read as Latin-1.
    """
    plain = _ESCAPED.sub(lambda found: chr(int(found[1], 16) if found[1] else int(found[2])), unit.strip())
    symbol = plain.replace("\u00c2", "").replace("\u03bc", "\u00b5").replace("\u212b", "\u00c5").strip()
    word = symbol.lower().replace("metre", "meter")
    return _MICROMETRES.get(symbol, _WORDS.get(word, _WORDS.get(word.removesuffix("s"))))


def number_in(text: str) -> float | None:
    """Read a number that may have a decimal comma or an exponent; None if the text is anything else."""
    found = _NUMBER.fullmatch(text.strip())
    return float(found[0].replace(",", ".")) if found else None


def plausible_mpp(mpp: float) -> float | None:
    """Keep a resolution only if a microscope can have it, else None."""
    return mpp if _FINEST_MPP < mpp < COARSEST_MPP else None


def tiff_mpp(plane: Plane) -> float | None:
    """Read micrometres per pixel of a TIFF, whether it has tiles or strips.

    In this order: OME-XML, Aperio's description, ImageJ's unit, the resolution tags. What cannot be read or is no
    microscope's counts as not said.

    Args:
        plane: The picture that is read; its file must be open.

    Returns:
        Micrometres per level-0 pixel, or None if nothing says so.
    """
    sizes = (_of_ome(plane.pixels), _of_aperio(plane.page), _of_tags(plane.page))
    return next((mpp for mpp in sizes if mpp is not None), None)


def _of_ome(pixels: Mapping[str, str]) -> float | None:
    unit, size = micrometres_in(pixels.get("PhysicalSizeXUnit", "µm")), number_in(pixels.get("PhysicalSizeX", ""))
    return None if unit is None or size is None else plausible_mpp(size * unit)


def _of_aperio(page: Any) -> float | None:
    found = _APERIO.search(page.description or "")
    size = number_in(found[1]) if found else None
    return None if size is None else plausible_mpp(size)


def _of_tags(page: Any) -> float | None:
    pixels, unit = _ratio(page.tags.valueof("XResolution")), page.tags.valueof("ResolutionUnit", _INCH)
    micrometres = _imagej_unit(page) or (_OF_TAG.get(int(unit)) if isinstance(unit, int) else None)
    return plausible_mpp(micrometres / pixels) if micrometres and pixels else None


def _imagej_unit(page: Any) -> float | None:
    """Read the unit of ImageJ's own description, which goes before the tag: that one knows inch and cm only."""
    found = re.search(r"^unit=(.{1,64})$", page.imagej_description or "", re.MULTILINE)
    return micrometres_in(found[1]) if found else None


def _ratio(value: object) -> float | None:
    """Read a tag that should be a fraction, and may be anything; None unless it is a positive number."""
    parts = value if isinstance(value, tuple) else (value,)
    if len(parts) not in (1, 2) or not all(isinstance(part, int | float) for part in parts):
        return None
    whole = (*parts, 1)[1]
    share = parts[0] / whole if whole else 0.0
    return float(share) if math.isfinite(share) and share > 0 else None
