"""Slides in vendor formats (NDPI, MRXS, SCN, ...), read with OpenSlide."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.geometry import Level, Region, Size
from cytoseg.slides.parser_errors import DAMAGE
from cytoseg.slides.pixel_size import are_alike, number_in, plausible_mpp
from cytoseg.slides.reader import Reader
from cytoseg.slides.tiff import on_white
from cytoseg.slides.tiff_check import open_pages

_FOCUS_TAG = 65424  # NDPI: z offset of a page from the plane in focus
_MIRAX_LEVEL = re.compile(r"mirax\.HIERARCHICAL\.HIER_\d+_VAL_\d+")
_REGION = re.compile(r"openslide\.region\[\d+\]\.width")


_PLAIN = ("aperio", "generic-tiff")  # TIFF files that our own reader handles as well, with better reports of damage


def knows_vendor(path: Path) -> bool:
    """Return whether OpenSlide recognises the vendor of a TIFF file with an unusual page layout."""
    return openslide.OpenSlide.detect_format(path) not in (None, *_PLAIN)


class OpenSlideSlide(Reader):
    """A slide read by OpenSlide; transparent parts, which the scanner did not capture, are white.

    Args:
        path: The file.

    Raises:
        SlideError: If OpenSlide does not recognise the format or the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self._slide = openslide.OpenSlide(self.path)
        except (openslide.OpenSlideError, OSError) as error:
            raise SlideError(
                f"{self.path.name}: OpenSlide cannot open it ({error}). Is it damaged, or are its companion "
                "files missing?"
            ) from error
        sizes = [Size(*size) for size in self._slide.level_dimensions]
        downsamples = [float(value) for value in self._slide.level_downsamples]
        self.levels: Sequence[Level] = tuple(Level(*pair) for pair in zip(sizes, downsamples, strict=True))
        self.mpp = _mpp(self._slide.properties)
        self.note, self.damage = _note(self.path, self._slide.properties), ""

    def read_region(self, region: Region, level: int = 0) -> NDArray[np.uint8]:
        """Read a region from one level; see `Slide.read_region`."""
        size = region.at(self.levels[level].downsample)
        try:
            pixels = self._slide.read_region((region.x, region.y), level, (size.width, size.height))
        except openslide.OpenSlideError as error:
            raise SlideError(f"{self.path.name}: damaged at {region} ({error}). Copy the file again.") from error
        return on_white(np.asarray(pixels))

    def close(self) -> None:
        """Close the file."""
        self._slide.close()


def _mpp(properties: Mapping[str, str]) -> float | None:
    keys = (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
    wide, high = (number_in(properties.get(key, "")) for key in keys)
    return None if wide is None or (high is not None and not are_alike(wide, high)) else plausible_mpp(wide)


def _note(path: Path, properties: Mapping[str, str]) -> str:
    """Describe what OpenSlide reads of a file with several images."""
    regions, planes = sum(map(bool, map(_REGION.fullmatch, properties))), _focal_planes(path)
    mirax = _mirax_planes(properties)
    parts = [f"{regions} regions on one canvas"] if regions > 1 else []
    parts += [f"plane z = 0 of {planes} (OpenSlide reads no other)"] if planes > 1 else []
    parts += [f"one plane of {mirax} (OpenSlide reads no other, and does not say which)"] if mirax > 1 else []
    parts += _cropped_by_qupath(properties)
    return ", ".join(parts)


def _cropped_by_qupath(properties: Mapping[str, str]) -> list[str]:
    """Describe the offset of QuPath, which opens MRXS and SCN files cropped to what was scanned, but for --no-crop."""
    found = (properties.get(name, "") for name in (openslide.PROPERTY_NAME_BOUNDS_X, openslide.PROPERTY_NAME_BOUNDS_Y))
    x, y = (number_in(text) for text in found)
    if not x and not y:
        return []
    return [f"the whole canvas; QuPath counts from x {x or 0:.0f}, y {y or 0:.0f} unless opened with --no-crop"]


def _mirax_planes(properties: Mapping[str, str]) -> int:
    """Count the planes of an MRXS file from Slidedat.ini, which OpenSlide exposes as properties.

    One of its hierarchies, "Microscope focus level", lists planes as ``ZStackLevel_(-3)`` and the extended-focus image
    as ``ExtFocusLevel``. OpenSlide reads only the records of "Slide zoom level", and it is undocumented which plane
    they show.

    Source: OpenSlide's page on the format, and the tests of bioformats2raw, which reads the planes.
    """
    return sum(
        bool(_MIRAX_LEVEL.fullmatch(name)) and value.startswith("ZStackLevel") for name, value in properties.items()
    )


def _focal_planes(path: Path) -> int:
    """Count the planes of an NDPI or SCN file, which OpenSlide does not report; 1 if unknown."""
    if path.suffix.lower() not in (".ndpi", ".scn"):
        return 1
    try:
        with open_pages(path) as tif:
            scn = re.findall(r'\bsizeZ="(\d+)"', tif.scn_metadata or "")
            offsets = {page.tags.valueof(_FOCUS_TAG, 0) for page in tif.pages} if path.suffix.lower() == ".ndpi" else ()
    except DAMAGE:
        return 1
    return max(1, len(offsets), *map(int, scn))
