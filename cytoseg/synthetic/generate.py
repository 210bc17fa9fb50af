"""Generating synthetic Pap smear slides with exact label maps.

Overlapping translucent squamous cells of two stain families lie on glass among neutrophils, red cells and debris.
Every nucleus is labelled, even below another cell; neutrophils and debris have no class.
"""

import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.geometry import Region, Size
from cytoseg.slides.pyramid import write_pyramid
from cytoseg.synthetic.draw import Scene, draw_kinds, draw_region, make_scene, with_dyskaryotic
from cytoseg.synthetic.stains import STAINS, USUAL
from cytoseg.writing import temporary_beside

BAND_PX = 512
"""Rows drawn at a time; does not affect the image."""
CLASS_NAMES = ("background", "cytoplasm", "nucleus")
"""Names of the ids in the label maps of synthetic slides."""


def generate_slide(
    path: Path,
    *,
    size: Size,
    seed: int,
    mpp: float = 0.5,
    stain: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Generate a slide and its exact label map as pyramidal OME-TIFFs.

    Args:
        path: Output file ending in .tif or .tiff; replaced if it exists.
        size: Width and height in level-0 pixels.
        seed: Seed of the slide, 0 or more. The same seed, size, mpp and stain give the same pixels.
        mpp: Micrometres per pixel. Nuclei are 8 to 40 pixels across at 0.5.
        stain: A key of ``STAINS``; None lets the seed choose among ``USUAL``.
        progress: Called after each band with the number of finished rows.

    Returns:
        The path of the label map: ids as in ``CLASS_NAMES``.

    Raises:
        SlideError: If an argument is invalid or the files cannot be written; then neither exists.
    """
    return write_scene(path, slide_scene(seed, mpp=mpp, stain=stain), size, progress=progress)


def slide_scene(seed: int, *, mpp: float, stain: str | None, dyskaryotic: float | None = None) -> Scene:
    """Describe a slide.

    Args:
        seed: As for ``generate_slide``.
        mpp: As for ``generate_slide``.
        stain: As for ``generate_slide``.
        dyskaryotic: Share of dyskaryotic cells among the cells, 0 to 1; the other kinds keep their proportions. None
            for the usual share.

    Raises:
        SlideError: If an argument is invalid.
    """
    if seed < 0:
        raise SlideError(f"Synthetic slide: the seed is {seed}. Use 0 or more.")
    if not 0.1 <= mpp <= 4:
        raise SlideError(f"Synthetic slide: {mpp} micrometres per pixel is out of range. Use 0.1 to 4.")
    if stain is not None and stain not in STAINS:
        raise SlideError(f"Synthetic slide: unknown stain '{stain}'. Choose one of {', '.join(STAINS)}.")
    if dyskaryotic is not None and not 0 <= dyskaryotic <= 1:
        raise SlideError(f"Synthetic slide: the share of dyskaryotic cells is {dyskaryotic}. Use 0 to 1.")
    scene = make_scene(seed, mpp=mpp, stain=stain or USUAL[seed % len(USUAL)])
    return scene if dyskaryotic is None else with_dyskaryotic(scene, dyskaryotic)


def write_scene(
    path: Path, scene: Scene, size: Size, *, kinds: bool = False, progress: Callable[[int], None] | None = None
) -> Path:
    """Write a slide and its label map.

    Args:
        path: As for ``generate_slide``.
        scene: The slide, from ``slide_scene``.
        size: As for ``generate_slide``.
        kinds: Also write the kind map; otherwise that of an earlier slide of this name is removed.
        progress: As for ``generate_slide``.

    Returns:
        The path of the label map.

    Raises:
        SlideError: If the file or size is invalid or the files cannot be written; then none exists.
    """
    _check_file(path, size)
    mpp, labels = scene.plan.mpp, labels_path(path)
    try:
        with temporary_beside(path) as folder:
            part, spool = folder / path.name, folder / "labels.gz"
            write_pyramid(part, _pictures(scene, size, spool=spool, progress=progress), size=size, mpp=mpp)
            of_kinds = folder / kinds_path(path).name
            if kinds:
                write_pyramid(of_kinds, _kinds(scene, size), size=size, mpp=mpp, categorical=True)
            write_pyramid(labels, _spooled(spool, size), size=size, mpp=mpp, categorical=True)
            if kinds:
                os.replace(of_kinds, kinds_path(path))
            else:
                kinds_path(path).unlink(missing_ok=True)  # of an earlier slide of this name, which has other cells
            # The slide is written last, so that its maps always exist.
            os.replace(part, path)
    except OSError as error:
        raise SlideError(f"{path}: cannot be written ({error.strerror or error}). Choose another folder.") from error
    return labels


def labels_path(slide: Path) -> Path:
    """Return the path of a synthetic slide's label map: ``a.labels.ome.tif`` beside ``a.ome.tif``."""
    stem = slide.name.removesuffix(slide.suffix).removesuffix(".ome")
    return slide.with_name(f"{stem}.labels.ome.tif")


def kinds_path(slide: Path) -> Path:
    """Return the path of a synthetic slide's kind map: ``a.kinds.ome.tif`` beside ``a.ome.tif``."""
    return slide.with_name(f"{labels_path(slide).name.removesuffix('.labels.ome.tif')}.kinds.ome.tif")


def draw_bands(
    scene: Scene, size: Size, *, band_px: int = BAND_PX
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Draw a slide from top to bottom.

    Args:
        scene: The slide.
        size: Width and height in pixels.
        band_px: Rows at a time; more are a little faster and need more memory.

    Yields:
        (h, W, 3) uint8 RGB and (h, W) uint8 label map of each band.
    """
    for top in range(0, size.height, band_px):
        yield draw_region(scene, Region(0, top, size.width, min(band_px, size.height - top)))


def _check_file(path: Path, size: Size) -> None:
    if path.suffix.lower() not in {".tif", ".tiff"}:
        raise SlideError(f"{path}: synthetic slides are written as OME-TIFF. Use the suffix .ome.tif.")
    if size.width < 1 or size.height < 1:
        raise SlideError(f"{path}: cannot generate a slide of {size.width} x {size.height} px. Use at least 1 x 1.")


def _pictures(
    scene: Scene, size: Size, *, spool: Path, progress: Callable[[int], None] | None
) -> Iterator[NDArray[np.uint8]]:
    """Yield the bands' images and spool their label maps, so that the slide is drawn only once."""
    done = 0
    with gzip.open(spool, "wb", compresslevel=1) as sink:
        for picture, labels in draw_bands(scene, size):
            sink.write(labels.tobytes())
            yield picture
            done += len(labels)
            if progress is not None:
                progress(done)


def _kinds(scene: Scene, size: Size) -> Iterator[NDArray[np.uint8]]:
    for top in range(0, size.height, BAND_PX):
        yield draw_kinds(scene, Region(0, top, size.width, min(BAND_PX, size.height - top)))


def _spooled(spool: Path, size: Size) -> Iterator[NDArray[np.uint8]]:
    """Read the label maps back, band by band."""
    with gzip.open(spool, "rb") as source:
        while values := source.read(BAND_PX * size.width):
            yield np.frombuffer(values, np.uint8).reshape(-1, size.width)
