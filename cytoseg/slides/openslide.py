"""Slides in vendors' formats (NDPI, MRXS, SCN, ...) through OpenSlide, which the extra ``openslide`` installs."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.geometry import Level, Region, Size
from cytoseg.slides.pixel_size import number_in, plausible_mpp
from cytoseg.slides.reader import Reader
from cytoseg.slides.tiff import DAMAGE, on_white
from cytoseg.slides.tiff_check import open_pages

_FOCUS_TAG = 65424  # of NDPI: how far a page's plane is from the one in focus
_MIRAX_LEVEL = re.compile(r"mirax\.HIERARCHICAL\.HIER_\d+_VAL_\d+")
_REGION = re.compile(r"openslide\.region\[\d+\]\.width")


_PLAIN = ("aperio", "generic-tiff")  # TIFF files that our own reader reads as well, with more to say of damage


def knows_vendor(path: Path) -> bool:
    """Return whether OpenSlide knows the vendor of a TIFF file, and its pages do not lie as in others."""
    return openslide.OpenSlide.detect_format(path) not in (None, *_PLAIN)


class OpenSlideSlide(Reader):
    """A file that OpenSlide reads, as a slide; transparent parts, where the scanner took no picture, are white.

    Args:
        path: The file.

    Raises:
        SlideError: If OpenSlide does not know the format or finds the file damaged.
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
        self.mpp = _mpp(self._slide.properties.get(openslide.PROPERTY_NAME_MPP_X))
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
        """Release the file."""
        self._slide.close()


def _mpp(text: str | None) -> float | None:
    size = number_in(text) if text else None
    return None if size is None else plausible_mpp(size)


def _note(path: Path, properties: Mapping[str, str]) -> str:
    """Say what OpenSlide reads of a file that holds more than one picture."""
    regions, planes = sum(map(bool, map(_REGION.fullmatch, properties))), _focal_planes(path)
    mirax = _mirax_planes(properties)
    parts = [f"{regions} regions on one canvas"] if regions > 1 else []
    parts += [f"plane z = 0 of {planes} (OpenSlide reads no other)"] if planes > 1 else []
    parts += [f"one plane of {mirax} (OpenSlide reads no other, and does not say which)"] if mirax > 1 else []
    return ", ".join(parts)


def _mirax_planes(properties: Mapping[str, str]) -> int:
    """Count the planes of an MRXS file, whose Slidedat.ini OpenSlide hands on as properties.

    One of its hierarchies, "Microscope focus level", lists planes as ``ZStackLevel_(-3)`` beside what the scanner made
    of all of them, ``ExtFocusLevel``. OpenSlide reads the records of "Slide zoom level" alone, and nothing that is
    published says whose picture these are.

    Source: OpenSlide's page on the format, and the tests of bioformats2raw, which reads the planes.
    """
    return sum(
        bool(_MIRAX_LEVEL.fullmatch(name)) and value.startswith("ZStackLevel") for name, value in properties.items()
    )


def _focal_planes(path: Path) -> int:
    """Count the planes of an NDPI or SCN file, of which OpenSlide itself says nothing; 1 where unknown."""
    if path.suffix.lower() not in (".ndpi", ".scn"):
        return 1
    try:
        with open_pages(path) as tif:
            scn = re.findall(r'\bsizeZ="(\d+)"', tif.scn_metadata or "")
            offsets = {page.tags.valueof(_FOCUS_TAG, 0) for page in tif.pages} if path.suffix.lower() == ".ndpi" else ()
    except DAMAGE:
        return 1
    return max(1, len(offsets), *map(int, scn))
