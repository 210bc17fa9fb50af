"""Converting slides of any format to pyramidal OME-TIFF or OME-Zarr."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.geometry import Region
from cytoseg.leftovers import sweep_beside
from cytoseg.locks import locked
from cytoseg.slides.ngff import ZARR_SUFFIX
from cytoseg.slides.open import check_whole, zarr_writer
from cytoseg.slides.pyramid import About, write_pyramid
from cytoseg.slides.slide import Slide

TIFF_ENDINGS = (".ome.tif", ".ome.tiff")

_ROWS, _COLUMNS = 512, 2048
"""Side of a piece read at a time: whole tiles of 256 or 512 px, 3 MB, of which some readers make several copies."""


def convert_slide(slide: Slide, path: Path, *, on_row: Callable[[int], None]) -> None:
    """Write level 0 of a slide and a pyramid of halves with constant memory; the target is written atomically.

    Args:
        slide: An open slide.
        path: ``.zarr`` for lossless OME-Zarr; ``.ome.tif`` for OME-TIFF with JPEG.
        on_row: Called with the number of slide rows read so far.

    Raises:
        SlideError: If the slide is damaged; or the target cannot be written, ends in neither format, needs the extra
            ``zarr``, already exists, or is being written by another process.
    """
    check_whole(slide)
    _check_target(path)
    size = slide.levels[0].size
    bands = _refused_if_written_meanwhile(path, _bands(slide, on_row))
    if path.suffix.lower() == ZARR_SUFFIX:
        zarr_writer()(path, bands, size=size, mpp=slide.mpp)  # takes the lock itself
    else:
        about = About(identity=f"{slide.path.name} {size} {path.name}", name=slide.path.name)
        with locked(path, wait_s=0, error=SlideError):
            write_pyramid(path, bands, size=size, mpp=slide.mpp, about=about)


def _check_target(path: Path) -> None:
    if not path.name.lower().endswith((*TIFF_ENDINGS, ZARR_SUFFIX)):
        raise SlideError(f"{path.name}: is neither .ome.tif nor .zarr. Use one of these suffixes.")
    sweep_beside(path)
    _refuse_existing(path)


def _refused_if_written_meanwhile(path: Path, bands: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Check again after the last band, under the lock: another conversion may have ended since the first check."""
    yield from bands
    _refuse_existing(path)


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise SlideError(f"{path}: already exists. Choose another name, or remove it.")


def _bands(slide: Slide, on_row: Callable[[int], None]) -> Iterator[NDArray[np.uint8]]:
    size = slide.levels[0].size
    for y in range(0, size.height, _ROWS):
        height = min(_ROWS, size.height - y)
        columns = range(0, size.width, _COLUMNS)
        parts = [slide.read_region(Region(x, y, min(_COLUMNS, size.width - x), height)) for x in columns]
        yield parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        del parts
        on_row(y + height)
