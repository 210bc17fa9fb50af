"""Detecting vendor TIFFs that need OpenSlide."""

from pathlib import Path
from typing import Any

from cytoseg.slides.parser_errors import DAMAGE
from cytoseg.slides.tiff import opened
from cytoseg.slides.tiff_colour import odd_chroma

_TRESTLE = "MedScan"


def is_vendors(path: Path) -> bool:
    """Return whether a TIFF comes from a vendor with an unusual layout of levels, tiles or planes.

    Philips pads levels to whole tiles, Trestle's tiles overlap, Ventana's and Leica's pages are parts of one canvas.
    Used if OpenSlide, whose detection is better, is not installed. Aperio's files have the usual layout.

    Raises:
        SlideError: If it is not a TIFF, or is damaged.
    """
    return _of_first_page(path, lambda page: _vendor(page))


def has_odd_chroma(path: Path) -> bool:
    """Return whether a TIFF has tiles whose colours only OpenSlide converts to RGB.

    Raises:
        SlideError: If it is not a TIFF, or is damaged.
    """
    return _of_first_page(path, lambda page: page.is_tiled and odd_chroma(page))


def _of_first_page(path: Path, holds: Any) -> bool:
    with opened(path, name=path.name) as tif:
        try:
            return bool(holds(tif.pages[0]))
        except DAMAGE:
            return False


def _vendor(page: Any) -> bool:
    software = str(page.software)
    philips = software.startswith("Philips") and "DPUfsImport" in page.description[:1000]
    return philips or page.is_ndpi or page.is_scn or page.is_bif or software.startswith(_TRESTLE)
