"""Label maps as images: ``images/`` and ``masks/`` paired by file name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import LabelError, SlideError
from cytoseg.formats.id_arrays import find_arrays
from cytoseg.formats.picture_path import PICTURES
from cytoseg.formats.read_mask import read_mask
from cytoseg.formats.upright import read_upright
from cytoseg.formats.voc import find_voc
from cytoseg.patterns import plain_name
from cytoseg.slides.open import slide_id

MASKS = (".png", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class MaskPair:
    """An image and the label map with the same stem.

    Attributes:
        picture: File of the image.
        mask: File of the label map.
        name: Name of the label map in messages.
        place: Folder of ``images/`` and ``masks/``, and below it the folder within both.
        white: Id for the value 255, see `white_id`.
        crop: Id of the crop; empty for the image's stem.
        values: Values that the user maps or ignores by number; the first is read as the first id after the classes',
            and so on.
    """

    picture: Path
    mask: Path
    name: str
    place: Path
    white: int | None = IGNORE
    crop: str = ""
    values: tuple[int, ...] = ()

    @property
    def stem(self) -> str:
        """Id of the crop."""
        return self.crop or self.picture.stem


def find_pairs(folder: Path, problems: list[str], *, named: str = "masks") -> list[MaskPair]:
    """Find ``images/`` beside ``masks/`` in a folder tree; folders within both are paired by name.

    Args:
        folder: Where to look; hidden folders are skipped.
        problems: One sentence is added per image or mask without its partner.
        named: Other name of the mask folders.

    Returns:
        The pairs, sorted by path.
    """
    pairs = []
    for masks in _folders(folder, named):
        name = _name(masks, folder)
        images = next((child for child in masks.parent.iterdir() if _is_folder(child, "images")), None)
        if images is None:
            problems.append(f"{name}: has no folder 'images' next to it. Put the images there.")
            continue
        for below in _parts(masks):
            if (beside := _folder_alike(images, below)) is not None:
                pairs += _pairs_of(beside, masks / below, masks.parent / below, folder, problems)
            else:
                problems.append(f"{_name(images, folder)}: has no folder {below} as {name} does. Put the images there.")
    return pairs


def _parts(masks: Path) -> list[Path]:
    """Find the folders within a mask folder that hold masks, relative to it; always itself."""
    found = {path.parent.relative_to(masks) for path in masks.rglob("*") if path.suffix.lower() in MASKS}
    apart = (any(part.startswith(".") or part.lower() == masks.name.lower() for part in below.parts) for below in found)
    return sorted({Path(), *(below for below, is_apart in zip(found, apart, strict=True) if not is_apart)})


def _folder_alike(folder: Path, below: Path) -> Path | None:
    """Follow a path down from a folder; a name that differs only in case or accents counts if it is the only one."""
    for part in below.parts:
        exact = folder / part
        alike = [child for child in folder.iterdir() if plain_name(child.name) == plain_name(part) and child.is_dir()]
        if not exact.is_dir() and len(alike) != 1:
            return None
        folder = exact if exact.is_dir() else alike[0]
    return folder


def _pairs_of(images: Path, masks: Path, place: Path, root: Path, problems: list[str]) -> list[MaskPair]:
    pairs = []
    pictures = _by_stem(images, PICTURES, root, problems)
    labels = _by_stem(masks, MASKS, root, problems)
    _pair_by_capitals(pictures, labels)
    for stem in sorted(pictures.keys() | labels.keys()):
        if stem not in labels:
            problems.append(_without_mask(pictures[stem], masks, root))
        elif stem not in pictures:
            where = _name(images, root)
            problems.append(f"{_name(labels[stem], root)}: has no image in {where}/. Add it or remove the mask.")
        else:
            pairs.append(MaskPair(pictures[stem], labels[stem], _name(labels[stem], root), place))
    return pairs


def without_masks(folder: Path, pairs: Sequence[MaskPair]) -> list[Path]:
    """Find the images of whole folders that have no masks, such as ``B/images`` where only ``A`` has ``masks``.

    Args:
        folder: Where the pairs were looked for.
        pairs: From `find_pairs`.

    Returns:
        The images in any folder ``images``, or below it, that are in no pair; sorted.
    """
    paired = {pair.picture for pair in pairs}
    within = (path for images in _folders(folder, "images") for path in images.rglob("*"))
    found = {path for path in within if path.suffix.lower() in PICTURES and not path.name.startswith(".")}
    return sorted(path for path in found - paired if path.is_file())


def find_array_pairs(folder: Path, problems: list[str], notes: list[str]) -> list[MaskPair]:
    """Find images with a numpy file of ids beside them, see `find_arrays`."""
    found = find_arrays(folder, problems, notes)
    return [
        MaskPair(picture, array, _name(array, folder), picture.parent, IGNORE, crop) for picture, array, crop in found
    ]


def find_voc_pairs(folder: Path, problems: list[str]) -> list[MaskPair]:
    """Find images and masks in the layout of Pascal VOC, see `find_voc`."""
    return [
        MaskPair(picture, mask, _name(mask, folder), mask.parent.parent, IGNORE, crop)
        for picture, mask, crop in find_voc(folder, problems)
    ]


def has_folder(folder: Path, named: str = "masks") -> bool:
    """Return whether a folder tree contains a folder of this name."""
    return bool(_folders(folder, named))


def white_id(pairs: Sequence[MaskPair], classes: ClassList) -> int | None:
    """Determine what 255 means in a set of masks: ignore, or the foreground of a binary mask.

    Args:
        pairs: The whole set; unreadable masks are not considered.
        classes: The class list.

    Returns:
        Ignore if any mask has ids other than 0 and 255; otherwise the second of two classes. None with three or more
        classes, where it is ambiguous.
    """
    used: set[int] = set()
    beside_ids = False
    for pair in pairs:
        try:
            values = {int(value) for value in _counts(read_mask(pair.mask, name=pair.name))}
        except LabelError:
            continue
        used |= values
        beside_ids |= IGNORE in values and not values <= {0, IGNORE}
    if beside_ids or IGNORE not in used or len(classes) == 1:
        return IGNORE
    if len(classes) == 2:
        return 1
    return None if used <= {0, IGNORE} else IGNORE


def read_pair(
    pair: MaskPair, classes: ClassList, problems: list[str], *, unsure: list[str], side_px: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """Read an image and its label map.

    Args:
        pair: The two files.
        classes: Class list of the ids.
        problems: One sentence is added per problem.
        unsure: See `read_upright`.
        side_px: Side that both are resized to; None leaves them as they are.

    Returns:
        (H, W, 3) uint8 RGB and (H, W) uint8 label map with the ids of ``pair.values``, or None if a problem was added.
    """
    try:
        picture, label_map = read_upright(pair.picture, pair.mask, name=pair.name, unsure=unsure)
        if side_px is not None:
            picture, label_map = _resized(picture, label_map, side_px, name=pair.name)
        _check_values(label_map, classes, pair)
        if label_map.shape != picture.shape[:2]:
            found = f"the mask is {_size(label_map)}, but the image {_size(picture)}"
            raise LabelError(f"{pair.name}: {found}. Make them the same size.")
    except (LabelError, SlideError) as error:
        problems.append(str(error))
        return None
    ids = label_map.astype(np.uint8)
    for number, value in enumerate(pair.values, start=len(classes)):
        ids[label_map == value] = number
    return picture, ids


def _resized(
    picture: NDArray[np.uint8], label_map: NDArray[np.integer], side_px: int, *, name: str
) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    """Resize a square image bilinearly and its label map by nearest neighbours, each from its own size."""
    for what, shape in (("image", picture.shape), ("mask", label_map.shape)):
        if shape[0] != shape[1]:
            raise LabelError(f"{name}: the {what} is {shape[1]}x{shape[0]}, not square. Crop it, or omit --resize.")
    wanted = (side_px, side_px)
    small = picture
    if picture.shape[0] != side_px:
        small = np.asarray(Image.fromarray(picture).resize(wanted, Image.Resampling.BILINEAR))
    # The centre of each pixel decides, as in Pillow's nearest.
    nearest = ((np.arange(side_px) + 0.5) * len(label_map) / side_px).astype(np.int64)
    return small, label_map[nearest[:, None], nearest]


def _check_values(label_map: NDArray[np.integer], classes: ClassList, pair: MaskPair) -> None:
    counts = _counts(label_map)
    known = ", ".join(f"{i} {n}" for i, n in enumerate(classes.names))
    wrong = [(v, n) for v, n in counts.items() if v not in (IGNORE, *pair.values) and not 0 <= v < len(classes)]
    if wrong:
        value = wrong[0][0]
        shown = ", ".join(f"{v} ({n} px)" for v, n in wrong[:5]) + (", ..." if len(wrong) > 5 else "")
        raise LabelError(
            f"{pair.name}: ids {shown} are not in the class list ({known}; 255 ignore). Specify each with --map "
            f"{quote(f'{value}={classes.names[-1]}')} (for example) or --ignore {value}, or renumber the mask."
        )
    if pair.white is None and IGNORE in counts:
        raise LabelError(
            f"{pair.name}: holds only 0 and 255 ({counts[IGNORE]} px), but which of the {len(classes)} "
            f"classes ({known}) 255 means is unknown. Specify it with --map {quote(f'255={classes.names[1]}')} "
            "(for example), or --ignore 255."
        )


def _counts(label_map: NDArray[np.integer]) -> dict[int, int]:
    """Count the pixels per value; 8-bit maps without sorting."""
    if label_map.dtype == np.uint8:
        counts = np.bincount(label_map.ravel(), minlength=256)
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, found = np.unique(label_map, return_counts=True)
    return {int(value): int(count) for value, count in zip(values, found, strict=True)}


def _without_mask(picture: Path, masks: Path, root: Path) -> str:
    """Describe a missing mask, and the unsupported file found in its place."""
    unread = [p for p in sorted(masks.iterdir()) if p.stem == picture.stem and p.suffix.lower() not in MASKS]
    if not unread:
        return f"{_name(picture, root)}: has no mask in {_name(masks, root)}. Add one or remove it."
    blurs = " JPEG blurs ids." if unread[0].suffix.lower() in (".jpg", ".jpeg") else ""
    return f"{_name(unread[0], root)}: is not a PNG, TIFF or BMP.{blurs} Export the mask as PNG or TIFF."


def _folders(folder: Path, wanted: str) -> Sequence[Path]:
    found = (p for p in folder.rglob("*") if _is_folder(p, wanted))
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def _is_folder(path: Path, wanted: str) -> bool:
    return path.name.lower() == wanted and path.is_dir()


def _pair_by_capitals(pictures: dict[str, Path], labels: dict[str, Path]) -> None:
    """Match masks and images that differ only in case."""
    for stem in sorted(labels.keys() - pictures.keys()):
        alike = [other for other in pictures.keys() - labels.keys() if plain_name(other) == plain_name(stem)]
        if len(alike) == 1:
            labels[alike[0]] = labels.pop(stem)


def _by_stem(folder: Path, suffixes: tuple[str, ...], root: Path, problems: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in suffixes:
            continue
        stem = slide_id(path)
        if stem in found:
            problems.append(f"{_name(path, root)}: has the same stem as {found[stem].name}. Rename one.")
        found.setdefault(stem, path)
    return found


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _size(array: NDArray[np.integer]) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
