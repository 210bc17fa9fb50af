"""Small images and slides for the readers' tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from cytoseg.geometry import Region
from cytoseg.slides.settings import BackgroundSection, SlidesSection
from cytoseg.slides.tissue_sources import SlideSource, find_tissue


@pytest.fixture
def four_colours() -> NDArray[np.uint8]:
    """(4, 6, 3): red, green above blue, yellow; each 2 rows by 3 columns."""
    colours = np.array([[[200, 0, 0], [0, 200, 0]], [[0, 0, 200], [200, 200, 0]]], np.uint8)
    return colours.repeat(2, axis=0).repeat(3, axis=1)


@pytest.fixture
def speckles() -> NDArray[np.uint8]:
    """(37, 53, 3): every pixel of its own colour, sides that no tile divides."""
    return np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)


@pytest.fixture
def write_tiff(tmp_path: Path) -> Callable[..., Path]:
    """Write one page; tiles of 16 px unless told otherwise."""

    def write(
        pixels: NDArray[Any], *, name: str = "slide.tif", tile: tuple[int, ...] | None = (16, 16), **options: Any
    ) -> Path:
        path = tmp_path / name
        if pixels.ndim == 3 and pixels.shape[2] == 3:
            options.setdefault("photometric", "rgb")
        tifffile.imwrite(path, pixels, tile=tile, **options)
        return path

    return write


@pytest.fixture
def write_pyramid(tmp_path: Path) -> Callable[..., Path]:
    """Write levels one after another (as SVS does), or in SubIFDs (as OME-TIFF does)."""

    def write(levels: list[NDArray[Any]], *, name: str, subifds: bool, **options: Any) -> Path:
        path, first = tmp_path / name, {"subifds": len(levels) - 1} if subifds else {}
        with tifffile.TiffWriter(path, ome=name.endswith(".ome.tif")) as tif:
            tif.write(levels[0], tile=(16, 16), photometric="rgb", **first, **options)
            for level in levels[1:]:
                tif.write(level, tile=(16, 16), photometric="rgb", subfiletype=1, **options)
        return path

    return write


@pytest.fixture
def write_map(tmp_path: Path) -> Callable[..., Path]:
    """Write an image whose pixel (x, y) is the colour (x, y, 100): a crop then tells where it was taken."""

    def write(name: str = "map.png", *, width: int = 64, height: int = 48) -> Path:
        y, x = np.mgrid[:height, :width]
        return _picture(tmp_path / name, np.stack([x, y, np.full_like(x, 100)], axis=2))

    return write


@pytest.fixture
def write_glass(tmp_path: Path) -> Callable[..., Path]:
    """Write bare glass with one dark region."""

    def write(name: str = "glass.png", *, side: int = 128, dark: Region | None = None) -> Path:
        pixels = np.full((side, side, 3), 250)
        if dark is not None:
            pixels[dark.y : dark.y + dark.height, dark.x : dark.x + dark.width] = 60
        return _picture(tmp_path / name, pixels)

    return write


@pytest.fixture
def find() -> Callable[..., list[SlideSource]]:
    """Find tissue for crops of 16 px, everywhere unless told otherwise."""

    def find(*paths: Path, **changes: Any) -> list[SlideSource]:
        told = {key: changes.pop(key) for key in ("size_px", "on_unreadable") if key in changes}
        background = BackgroundSection(changes.pop("rule", "none"), changes.pop("threshold", 0.1))
        settings = SlidesSection(background=background, **changes)
        return find_tissue(paths, **({"size_px": 16, "settings": settings} | told))

    return find


def _picture(path: Path, pixels: NDArray[Any]) -> Path:
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path
