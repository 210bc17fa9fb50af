"""Label maps as numpy files: ``x.npy`` of class ids beside ``x.jpg`` or ``x.png``."""

import tokenize
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cytoseg.errors import LabelError
from cytoseg.formats.picture_path import PICTURES
from cytoseg.limits import how_to_raise, limit
from cytoseg.slides.regular_file import kind_unless_file

ARRAY = ".npy"
MAGIC = b"\x93NUMPY"
"""The first bytes of a numpy file."""
MADE = "ddpm"
"""Folder of annotated samples in the published sets, which show no real objects."""
CELLPOSE = "_seg"
"""End of the stem of Cellpose's own files."""
_LIMIT = "CYTOSEG_MAX_PICTURE_PX"
_HEADER_BYTES = 10_000
_DAMAGE = (OSError, ValueError, TypeError, EOFError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError)
"""Raised on damaged files; the last four because numpy parses the header as Python."""
_EXPORT = "Save it with np.save as whole numbers of shape (height, width)."


def read_id_array(path: Path, *, name: str) -> NDArray[np.integer]:
    """Read class ids from a numpy file; pickled objects are never loaded.

    Args:
        path: The file.
        name: Its name in messages.

    Returns:
        (H, W) integers as stored.

    Raises:
        LabelError: If it is damaged, too large, pickled, or anything but one channel of whole numbers. Shape and type
            are checked before the values are read.
    """
    try:
        if kind := kind_unless_file(path):
            raise ValueError(f"it is {kind}")
        with path.open("rb") as file:
            shape, dtype = _header(file)
            _check(shape, dtype, name)
            wanted = file.tell() + shape[0] * shape[1] * dtype.itemsize
            if (size := path.stat().st_size) < wanted:
                raise ValueError(f"{size} of {wanted} bytes")
            file.seek(0)
            values: NDArray[np.integer] = npy.read_array(file, allow_pickle=False, max_header_size=_HEADER_BYTES)
    except _DAMAGE as error:
        raise LabelError(f"{name}: is damaged or not a numpy file ({error}). {_EXPORT}") from error
    return values


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version[0]}.{version[1]}")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file, max_header_size=_HEADER_BYTES)
    return shape, dtype


def _check(shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> None:
    if dtype.kind not in "iu":  # durations count as integers in numpy's hierarchy
        kind = "pickled objects" if dtype.hasobject else f"values of type {dtype}"
        raise LabelError(f"{name}: holds {kind}, not class ids. {_EXPORT}")
    if len(shape) != 2:
        raise LabelError(f"{name}: has shape {shape}, but must be (height, width). {_EXPORT}")
    if not 0 < shape[0] * shape[1] <= limit(_LIMIT):
        raise LabelError(f"{name}: claims {shape[1]}x{shape[0]} pixels. {how_to_raise(_LIMIT)}")


def find_arrays(folder: Path, problems: list[str], notes: list[str]) -> list[tuple[Path, Path, str]]:
    """Find numpy files beside images of the same stem in a folder tree.

    Args:
        folder: Where to look; hidden folders are skipped, and samples (``ddpm/``) with a note.
        problems: One sentence is added per numpy file without an image, or with several.
        notes: Receives what was skipped.

    Returns:
        Image, array, and the crop's id of each, sorted by path: the stem behind the name of its folder, which
        is ``train`` or ``test`` in the published sets.
    """
    found, made = [], 0
    for path in sorted(folder.rglob(f"*{ARRAY}")):
        below = path.relative_to(folder)
        if any(part.startswith(".") for part in below.parts):
            continue
        if MADE in below.parts[:-1]:
            made += 1
            continue
        beside = [p for p in sorted(path.parent.glob("*")) if p.stem == path.stem and p.suffix.lower() in PICTURES]
        if len(beside) == 1:
            found.append((beside[0], path, f"{path.resolve().parent.name}_{path.stem}"))
        elif path.stem.endswith(CELLPOSE) and not beside:
            problems.append(
                f"{below.as_posix()}: holds pickled masks of Cellpose, which are not read. Save them as PNG or TIFF."
            )
        else:
            names = ", ".join(picture.name for picture in beside) or "no image"
            problems.append(f"{below.as_posix()}: has {names} beside it. Put one image of the same name there.")
    if made:
        notes.append(f"Samples skipped ({MADE}/): {made}. They are not images of slides.")
    return found
