"""Validation of images, label maps and lists passed to the API."""

from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.api.arguments import NOT_IN_ORDER
from cytoseg.classes import IGNORE
from cytoseg.errors import ArrayError
from cytoseg.quoting import short_repr

RANGES = ("0..255", "0..1")
"""Value ranges of images: 8-bit integers, and floating point."""


def as_picture(image: object, *, value_range: str = "0..255", name: str = "the image") -> NDArray[np.uint8]:
    """Validate an image and convert it to uint8 RGB.

    Args:
        image: (H, W, 3) RGB, or (H, W) or (H, W, 1) grey.
        value_range: ``0..255`` for uint8; ``0..1`` for floating point, which is scaled and rounded.
        name: Its name in messages.

    Returns:
        (H, W, 3) uint8 RGB; the image itself if it already has this form.

    Raises:
        ArrayError: If it is not an array, or has another shape, type or range.
    """
    if value_range not in RANGES:
        raise ArrayError(f"value_range: {short_repr(value_range)} is neither '0..255' (uint8) nor '0..1' (float).")
    if not isinstance(image, np.ndarray):
        is_path = isinstance(image, str | PathLike)
        hint = "Open the file first: numpy.asarray(PIL.Image.open(path))." if is_path else "Pass numpy.asarray(image)."
        raise ArrayError(f"{name}: has type {type(image).__name__}, but must be a NumPy array. {hint}")
    pixels = _uint8(_unmasked(image, name=name, fill="fill_value"), value_range, name)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
        hint = " Leave the alpha channel out: image[..., :3]." if pixels.shape[2:] == (4,) else ""
        raise ArrayError(f"{name}: has shape {image.shape}, but must be (H, W, 3) RGB or (H, W) grey.{hint}")
    return pixels if pixels.shape[2] == 3 else pixels.repeat(3, axis=2)


def _unmasked(array: NDArray[Any], *, name: str, fill: str) -> NDArray[Any]:
    """Convert subclasses such as np.matrix; refuse masked elements, whose values mean nothing."""
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise ArrayError(f"{name}: has masked elements, whose values are undefined. Pass array.filled({fill}).")
    return np.asarray(array)


def _uint8(image: NDArray[Any], value_range: str, name: str) -> NDArray[np.uint8]:
    is_float = np.issubdtype(image.dtype, np.floating)
    if value_range == "0..255":
        if image.dtype == np.uint8:
            return image
        hint = " For numbers from 0 to 1 pass value_range='0..1'." if is_float else " Scale it to 8 bits first."
        raise ArrayError(f"{name}: holds {image.dtype}, but must hold uint8 from 0 to 255.{hint}")
    if not is_float:
        raise ArrayError(f"{name}: holds {image.dtype}, but value_range='0..1' is for float. Leave value_range out.")
    if image.size and not (image.min() >= 0 and image.max() <= 1):  # also refuses NaN
        found = f"{float(image.min()):.9g} to {float(image.max()):.9g}"
        raise ArrayError(f"{name}: holds numbers from {found}, not from 0 to 1 as value_range says. Scale it first.")
    return np.rint(image * 255.0).astype(np.uint8)


def as_label_map(label_map: object, *, classes: int, name: str = "the label map") -> NDArray[np.uint8]:
    """Validate a label map or class map.

    Args:
        label_map: (H, W) integers: class ids from 0, or 255 for ignore.
        classes: K.
        name: Its name in messages.

    Returns:
        (H, W) uint8.

    Raises:
        ArrayError: If it is not a two-dimensional array of integers, or contains an id beyond the classes.
    """
    if not isinstance(label_map, np.ndarray) or not np.issubdtype(label_map.dtype, np.integer) or label_map.ndim != 2:
        is_array = isinstance(label_map, np.ndarray)
        found = f"{label_map.dtype} {label_map.shape}" if is_array else type(label_map).__name__  # type: ignore[attr-defined] # an array
        hint = " Pass label_map.astype(int)." if is_array and label_map.dtype == bool else ""  # type: ignore[attr-defined] # an array
        raise ArrayError(f"{name}: is {found}, but must be an array (H, W) of whole numbers, the class ids.{hint}")
    label_map = _unmasked(label_map, name=name, fill=str(IGNORE))
    strange = label_map[(label_map != IGNORE) & ((label_map < 0) | (label_map >= classes))]
    if strange.size:
        raise ArrayError(
            f"{name}: holds id {strange[0]}, but ids go from 0 to {classes - 1}, and {IGNORE} is ignore. Renumber it."
        )
    return label_map.astype(np.uint8)


def as_list(arrays: object, *, name: str) -> list[object]:
    """Convert a sequence of arrays, or one four-dimensional array, to a list.

    Args:
        arrays: One array per image.
        name: Their name in messages.

    Raises:
        ArrayError: If it is a single image, whose rows would be mistaken for images, or not iterable.
    """
    if isinstance(arrays, np.ndarray) and arrays.dtype != np.object_ and arrays.ndim != 4:
        raise ArrayError(f"{name}: is one array of shape {arrays.shape}, but a list of arrays is wanted: [array].")
    if isinstance(arrays, NOT_IN_ORDER) or not isinstance(arrays, Iterable):
        raise ArrayError(f"{name}: has type {type(arrays).__name__}, but a list of arrays is wanted.")
    return list(arrays)


def as_label_maps(label_maps: object, pictures: Sequence[NDArray[np.uint8]], classes: int) -> list[NDArray[np.uint8]]:
    """Validate the label maps of images, see ``as_label_map``; a stack (N, H, W) is accepted.

    Raises:
        ArrayError: If one is invalid, or their number or a size differs from the images'.
    """
    if isinstance(label_maps, np.ndarray) and label_maps.ndim == 3:
        label_maps = list(label_maps)
    found = as_list(label_maps, name="label_maps")
    if len(found) != len(pictures):
        raise ArrayError(f"label_maps: {len(found)} for {len(pictures)} images. Pass one for each.")
    maps = [as_label_map(each, classes=classes, name=f"label_maps[{i}]") for i, each in enumerate(found)]
    for i, (label_map, picture) in enumerate(zip(maps, pictures, strict=True)):
        if label_map.shape != picture.shape[:2]:
            raise ArrayError(f"label_maps[{i}]: has shape {label_map.shape}, its image {picture.shape[:2]}.")
    return maps


def as_groups(groups: object, *, images: int) -> list[str] | None:
    """Validate groups: one name, number or other value per image.

    Raises:
        ArrayError: If they are not a list, or their number differs from that of the images.
    """
    if groups is None:
        return None
    is_flat = not isinstance(groups, np.ndarray) or groups.ndim == 1
    if not is_flat or isinstance(groups, NOT_IN_ORDER) or not isinstance(groups, Iterable):
        raise ArrayError(
            f"groups: found {short_repr(groups)}, but a list is wanted, one value for each image, such as its slide."
        )
    found = [str(group) for group in groups]
    if len(found) != images:
        raise ArrayError(f"groups: {len(found)} for {images} images. Pass one for each, such as its slide.")
    return found


def as_class_names(classes: object) -> tuple[str, ...]:
    """Validate the names of the classes.

    Args:
        classes: At least one name, each once; their order gives the ids.

    Raises:
        ArrayError: If it is not a list of different texts.
    """
    names = list(classes) if isinstance(classes, Iterable) and not isinstance(classes, NOT_IN_ORDER) else []
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ArrayError(
            f"classes: found {short_repr(classes)}, but a list of names is wanted, each once: "
            "['background', 'nucleus']."
        )
    return tuple(str(name) for name in names)
