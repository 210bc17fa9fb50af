"""Read label maps that exist as images: ``images/`` and ``masks/`` side by side, paired by file name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import LabelError, SlideError
from cytoseg.slides.image import read_picture

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
MASKS = (".png", ".tif", ".tiff", ".bmp")

# Damage shows as almost anything, depending on where the file is broken.
_DAMAGE = (OSError, SyntaxError, ValueError, IndexError, KeyError, TypeError, RuntimeError)


@dataclass(frozen=True)
class MaskPair:
    """A picture and the label map of the same stem; the name is what messages call the label map."""

    picture: Path
    mask: Path
    name: str


def find_pairs(folder: Path, problems: list[str]) -> list[MaskPair]:
    """Look for ``images/`` beside ``masks/`` in a folder and the folders below.

    Args:
        folder: Where to look; hidden folders are passed over.
        problems: A sentence is added for each picture or mask without its partner.

    Returns:
        The pairs, sorted by path.
    """
    pairs = []
    for masks in _folders(folder, "masks"):
        images = masks.with_name("images")
        name = masks.relative_to(folder).as_posix()
        if not images.is_dir():
            problems.append(f"{name}: has no folder 'images' beside it. Put the pictures there.")
            continue
        pictures = _by_stem(images, PICTURES, folder, problems)
        labels = _by_stem(masks, MASKS, folder, problems)
        for stem in sorted(pictures.keys() | labels.keys()):
            if stem not in labels:
                problems.append(f"{_name(pictures[stem], folder)}: has no mask in {name}. Add one or take it out.")
            elif stem not in pictures:
                problems.append(
                    f"{_name(labels[stem], folder)}: has no picture in images. Add it or take the mask out."
                )
            else:
                pairs.append(MaskPair(pictures[stem], labels[stem], _name(labels[stem], folder)))
    return pairs


def has_masks(folder: Path) -> bool:
    """Tell whether a folder named ``masks`` is in a folder or below it."""
    return bool(_folders(folder, "masks"))


def read_pair(
    pair: MaskPair, classes: ClassList, problems: list[str]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """Read a picture and its label map.

    Args:
        pair: The two files.
        classes: The mask's values are ids of this list, or 255 for ignore.
        problems: One sentence is added for each thing that is wrong.

    Returns:
        (H, W, 3) uint8 RGB and (H, W) uint8 label map, or None if a problem was added.
    """
    try:
        picture = read_picture(pair.picture, name=f"{pair.name}, picture {pair.picture.name}")
        label_map = read_mask(pair.mask, name=pair.name)
        _check_values(label_map, classes, pair.name)
        if label_map.shape != picture.shape[:2]:
            found = f"the mask is {_size(label_map)}, but the picture {_size(picture)}"
            raise LabelError(f"{pair.name}: {found}. Make them the same size.")
    except (LabelError, SlideError) as error:
        problems.append(str(error))
        return None
    return picture, label_map.astype(np.uint8)


def read_mask(path: Path, *, name: str) -> NDArray[np.integer]:
    """Read a single-channel image of class ids; a palette image gives its indices, not its colours.

    Args:
        path: PNG, TIFF or BMP.
        name: What to call it in a message.

    Returns:
        (H, W) whole numbers as stored.

    Raises:
        LabelError: If it is damaged or holds colours or fractions.
    """
    try:
        if path.suffix.lower() in (".tif", ".tiff"):
            values = np.asarray(tifffile.imread(path))
        else:
            with Image.open(path) as image:
                values = np.asarray(image)
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise LabelError(f"{name}: the mask is damaged or not an image ({error}). Export it again.") from error
    if values.dtype == np.bool_:
        values = values.astype(np.uint8)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
        shape = "x".join(map(str, values.shape))
        raise LabelError(
            f"{name}: holds {shape} {values.dtype}, not one channel of class ids. Export ids, not colours."
        )
    return values


def _check_values(label_map: NDArray[np.integer], classes: ClassList, name: str) -> None:
    values, counts = np.unique(label_map, return_counts=True)
    wrong = [(int(v), int(n)) for v, n in zip(values, counts, strict=True) if v != IGNORE and not 0 <= v < len(classes)]
    if wrong:
        shown = ", ".join(f"{value} ({count} px)" for value, count in wrong[:5]) + (", ..." if len(wrong) > 5 else "")
        known = ", ".join(f"{i} {n}" for i, n in enumerate(classes.names))
        raise LabelError(f"{name}: ids {shown} are not in the class list ({known}; 255 ignore). Renumber the mask.")


def _folders(folder: Path, wanted: str) -> Sequence[Path]:
    found = (p for p in folder.rglob(wanted) if p.is_dir())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def _by_stem(folder: Path, suffixes: tuple[str, ...], root: Path, problems: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in suffixes:
            continue
        if path.stem in found:
            problems.append(f"{_name(path, root)}: has the same stem as {found[path.stem].name}. Rename one.")
        found.setdefault(path.stem, path)
    return found


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _size(array: NDArray[np.integer]) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
