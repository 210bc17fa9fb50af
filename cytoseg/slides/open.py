"""Finding and opening slides of any format, and reading regions at any size."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoseg.errors import SlideError, report
from cytoseg.geometry import Region, Size, best_level
from cytoseg.patterns import NOT_UNICODE, excluded, globbed, is_unicode, on_disk
from cytoseg.quoting import short_repr
from cytoseg.slides.image import TIFF_STARTS, ImageSlide
from cytoseg.slides.needs_openslide import has_odd_chroma, is_vendors
from cytoseg.slides.ngff import ZARR_SUFFIX, is_slide_folder
from cytoseg.slides.regular_file import kind_unless_file, within_time
from cytoseg.slides.slide import Slide
from cytoseg.slides.tiff import TiffSlide, open_tiff

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
TIFF_SUFFIXES = (".tif", ".tiff", ".svs", ".btf", ".tf8")
VENDOR_SUFFIXES = (".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".dcm", ".czi")

SLIDE_SUFFIXES = (*PICTURE_SUFFIXES, *TIFF_SUFFIXES, *VENDOR_SUFFIXES, ZARR_SUFFIX)
"""Lower-case suffixes of slides: files, and OME-Zarr folders."""

MAP_SUFFIXES = (".labels.ome.tif", ".kinds.ome.tif")
"""Suffixes of the label and kind maps beside synthetic slides; such a file is never a slide."""

_NO_ZARR = "OME-Zarr is read and written by the library zarr, which is not installed"
_GET_ZARR = "Install it with: pip install 'cytoseg[zarr]'"
_BLOCK_PX = 16_000_000  # pixels that `read_at` keeps in memory at a time: 48 MB


def open_slide(path: Path) -> Slide:
    """Open a slide; the reader is chosen by the file's content, or by the suffix for vendor formats.

    A vendor's TIFF with an unusual page layout is read by OpenSlide, whatever its suffix.

    Args:
        path: A tiled TIFF or SVS, an image (PNG, JPEG, BMP, WebP, plain TIFF), a vendor format, which needs the extra
            ``openslide``, or an OME-Zarr folder, which needs the extra ``zarr``.

    Returns:
        The open slide, to be closed by the caller.

    Raises:
        SlideError: If the file is missing, empty, damaged or not supported.
    """
    path = Path(path)
    if not is_unicode(path.name):
        raise SlideError(f"{path.name}: {NOT_UNICODE}")
    path = within_time(path, partial(on_disk, path))
    if within_time(path, lambda: is_slide_folder(path)):
        return _open_zarr(path)
    start = within_time(path, lambda: _first_bytes(path))
    if path.suffix.lower() in VENDOR_SUFFIXES:
        return _open_vendor(path)
    if start.startswith(TIFF_STARTS):
        return _open_tiff(path)
    if path.suffix.lower() in TIFF_SUFFIXES and start.isascii():
        raise SlideError(f"{path.name}: is not a TIFF, it starts with text: {start[:12]!r}. Is it a saved error page?")
    return ImageSlide(path)


def check_whole(slide: Slide) -> None:
    """Refuse a truncated slide where all of it is needed.

    Raises:
        SlideError: If the file is truncated.
    """
    if slide.damage:
        raise SlideError(f"{slide.path.name}: {slide.damage}. Copy the file again.")


def zarr_writer() -> Callable[..., None]:
    """Return ``write_ome_zarr``.

    Raises:
        SlideError: If the extra ``zarr`` is not installed.
    """
    try:
        from cytoseg.slides.zarr import write_ome_zarr
    except ImportError as error:
        raise SlideError(f"{_NO_ZARR} ({error}). {_GET_ZARR}") from error
    return write_ome_zarr


def find_slides(folders: Sequence[Path], include: Sequence[str] = (), exclude: Sequence[str] = ()) -> list[Path]:
    """Find the slides in folders.

    Args:
        folders: Where to look.
        include: Names or globs within each folder, such as ``*.svs``, or ``**/*.svs`` to look in the folders below too;
            none means every slide directly in the folder. Brackets are interpreted as in `patterns.fitting`.
        exclude: Globs to exclude, matched against the end of the path: ``thumb_*`` or ``old/*.svs``.

    Returns:
        Unique sorted paths, without hidden files and maps of synthetic slides.

    Raises:
        SlideError: If a folder is missing or is a file, a glob is empty or absolute, or nothing is found at all.
    """
    folders = [within_time(folder, partial(on_disk, Path(folder))) for folder in folders]
    problems = [
        problem for folder in folders if (problem := within_time(folder, partial(_folder_problem, Path(folder))))
    ]
    if problems:
        raise SlideError(report(problems, what="slides"))
    hits = {
        hit
        for folder in folders
        for glob in include or ("*",)
        for hit in within_time(folder, partial(_hits, Path(folder), glob))
    }
    found = sorted(hits - {hit for glob in exclude for hit in _left_out(hits, glob)})
    if not found:
        raise SlideError(
            f"no slide in {', '.join(map(str, folders)) or 'no folder'} (include: {', '.join(include) or '*'}; "
            f"{len(hits)} left out by exclude). Write **/*.svs to search subfolders; "
            f"slides end in {' '.join(SLIDE_SUFFIXES)}."
        )
    return found


def _hits(folder: Path, glob: str) -> list[Path]:
    try:
        return [hit for hit in globbed(folder, glob) if can_be_slide(hit)]
    except ValueError as error:
        raise _no_glob(glob) from error


def _left_out(hits: Iterable[Path], glob: str) -> set[Path]:
    if PurePath(glob).is_absolute():
        raise _no_glob(glob)
    try:
        return excluded(hits, glob)
    except ValueError as error:  # an empty one
        raise _no_glob(glob) from error


def _no_glob(glob: str) -> SlideError:
    return SlideError(
        f"slides: {short_repr(glob)} is not a glob within a folder. Write it without the folder, such as *.svs."
    )


def can_be_slide(path: Path) -> bool:
    """Return whether a path has a slide suffix; hidden files and maps of synthetic slides do not count."""
    name = path.name.lower()
    suits = name.endswith(SLIDE_SUFFIXES) and not name.endswith(MAP_SUFFIXES)
    there = is_slide_folder(path) if name.endswith(ZARR_SUFFIX) else path.is_file()
    return suits and not name.startswith(".") and there


def slide_id(path: Path) -> str:
    """Return a slide's name: the file name without the suffix; ``.ome.tif`` and ``.ome.zarr`` count as one suffix."""
    stem = PurePath(path).stem
    return stem[: -len(".ome")] if stem.lower().endswith(".ome") else stem


def read_at(slide: Slide, region: Region, size: Size) -> NDArray[np.uint8]:
    """Read a region at exactly the given size, from the coarsest level that is fine enough.

    Large regions are read in pieces, so that memory is bounded even for a slide with a single level.

    Args:
        slide: An open slide.
        region: In level-0 pixels; outside the slide it is white.
        size: Size of the result.

    Returns:
        (height, width, 3) uint8 RGB; an exact copy of the level where the sizes agree.

    Raises:
        SlideError: If the file is damaged there.
    """
    # The finer of the two directions decides, so that neither is upsampled while a finer level exists.
    level = best_level(slide.levels, min(region.width / size.width, region.height / size.height))
    return _read_pieces(slide, region, size, level)


def _read_pieces(slide: Slide, region: Region, size: Size, level: int) -> NDArray[np.uint8]:
    source = region.at(slide.levels[level].downsample)
    if source.width * source.height <= _BLOCK_PX or max(size.width, size.height) == 1:
        return _resized(slide.read_region(region, level), size)
    if size.width >= size.height:
        half = size.width // 2
        cut = round(region.width * half / size.width)
        regions = (
            Region(region.x, region.y, cut, region.height),
            Region(region.x + cut, region.y, region.width - cut, region.height),
        )
        sizes, axis = (Size(half, size.height), Size(size.width - half, size.height)), 1
    else:
        half = size.height // 2
        cut = round(region.height * half / size.height)
        regions = (
            Region(region.x, region.y, region.width, cut),
            Region(region.x, region.y + cut, region.width, region.height - cut),
        )
        sizes, axis = (Size(size.width, half), Size(size.width, size.height - half)), 0
    pieces = [_read_pieces(slide, *piece, level) for piece in zip(regions, sizes, strict=True)]
    return np.concatenate(pieces, axis=axis)


def _resized(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    if (width, height) == (size.width, size.height):
        return pixels
    # A box filter takes whole pixels only: an exact mean where the sizes divide, aliased where they do not.
    exact = width % size.width == 0 and height % size.height == 0
    method = Image.Resampling.BOX if exact else Image.Resampling.BILINEAR
    return np.array(Image.fromarray(pixels).resize((size.width, size.height), method))


def _open_tiff(path: Path) -> Slide:
    if has_odd_chroma(path) or _is_vendors(path):  # the first check validates the file before OpenSlide parses it
        return _open_vendor(path)
    with open_tiff(path, name=path.name) as plane:
        tiled = bool(plane.page.is_tiled)
    return TiffSlide(path) if tiled else ImageSlide(path)


def _is_vendors(path: Path) -> bool:
    try:
        from cytoseg.slides.openslide import knows_vendor
    except (ImportError, OSError):
        return is_vendors(path)
    return knows_vendor(path)


def _open_vendor(path: Path) -> Slide:
    try:
        from cytoseg.slides.openslide import OpenSlideSlide
    except (ImportError, OSError) as error:
        is_named_so = path.suffix.lower() in VENDOR_SUFFIXES
        kind = f"{path.suffix} slides" if is_named_so else "TIFF files with this layout or colour space"
        raise SlideError(
            f"{path.name}: {kind} are read by OpenSlide, which is not installed ({error}). "
            "Install it with: pip install 'cytoseg[openslide]'"
        ) from error
    return OpenSlideSlide(path)


def _open_zarr(path: Path) -> Slide:
    try:
        from cytoseg.slides.zarr import ZarrSlide
    except ImportError as error:
        raise SlideError(f"{path.name}: {_NO_ZARR} ({error}). {_GET_ZARR}") from error
    return ZarrSlide(path)


def _first_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise SlideError(f"{path}: is a folder, not a slide. Name a file in it.")
    if path.suffix.lower() == ZARR_SUFFIX and path.exists():
        raise SlideError(f"{path}: is a file, but an OME-Zarr slide is a folder. Unpack it.")
    if path.suffix.lower() not in SLIDE_SUFFIXES:
        if not path.exists():
            raise SlideError(f"{path}: no such file or folder. Correct the path.")
        raise SlideError(f"{path.name}: unknown suffix {path.suffix!r}. Slides end in {' '.join(SLIDE_SUFFIXES)}.")
    try:
        if kind := kind_unless_file(path):
            raise SlideError(f"{path}: is {kind}, not a file. Name the slide itself, or exclude it (slides.exclude).")
        with path.open("rb") as file:
            start = file.read(64)
    except FileNotFoundError as error:
        raise SlideError(f"{path}: no such file. Check the path.") from error
    except OSError as error:
        raise SlideError(f"{path}: cannot be read ({error}). Check its permissions.") from error
    if not start:
        raise SlideError(f"{path.name}: is empty. Copy or download it again.")
    return start


def _folder_problem(folder: Path) -> str:
    if folder.is_dir():
        return ""
    if folder.exists():
        return f"{folder}: is a file, not a folder. Name the folder, and the file in slides.include."
    return f"{folder}: no such folder. Check the path; in a recipe it is in slides.folders."
