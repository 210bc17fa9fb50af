"""The index of imported crops: reading and writing the labels folder."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import FileContentError, LabelError
from cytoseg.json_text import load_json
from cytoseg.quoting import shown
from cytoseg.writing import put_back

FORMAT = 1
INDEX, MAPS, CROPS, SHEET = "index.json", "maps", "crops", "contact_sheet.png"


@dataclass(frozen=True)
class LabelledCrop:
    """One crop with its label map on disk.

    Attributes:
        folder: The labels folder.
        crop: The crop's id, unique in the index; also its files' stem.
        slide: The slide it was cut from, the unit of a split.
        width: In pixels.
        height: In pixels.
        source: Name of the labelme file or mask that it was imported from.
        image_sha256: Hash of size and pixels, independent of the file format.
        label_sha256: Hash of the label map's PNG file.
        pixels: Labelled pixels per class.
        ignored: Number of ignore pixels.
        from_prediction: Whether it is a corrected prediction, whose untouched pixels agree with the model.
    """

    folder: Path
    crop: str
    slide: str
    width: int
    height: int
    source: str
    image_sha256: str
    label_sha256: str
    pixels: Mapping[str, int]
    ignored: int
    from_prediction: bool = False

    def picture(self) -> NDArray[np.uint8]:
        """Read the crop.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            LabelError: If its file is missing or its pixels differ from those imported.
        """
        path = self.folder / CROPS / f"{self.crop}.png"
        pixels = _read_png(path, self)
        if pixel_hash(pixels) != self.image_sha256:
            raise _changed(path)
        return pixels

    def label_map(self) -> NDArray[np.uint8]:
        """Read the label map.

        Returns:
            (H, W) uint8 ids, 255 for ignore.

        Raises:
            LabelError: If its file is missing, was changed after the import, or contains an id that is not a class.
        """
        path = self.folder / MAPS / f"{self.crop}.png"
        label_map = _read_png(path, self)
        strange = label_map[(label_map != IGNORE) & (label_map >= len(self.pixels))]
        if strange.size:
            raise LabelError(
                f"{path}: holds id {strange[0]}, but there are {len(self.pixels)} classes. It was changed after "
                "the import: run `cytoseg label-import` again."
            )
        if hashlib.sha256(path.read_bytes()).hexdigest() != self.label_sha256:
            raise _changed(path)
        return label_map


@dataclass(frozen=True)
class LabelIndex:
    """All imported crops, sorted by id, and the class names of the ids."""

    folder: Path
    classes: tuple[str, ...]
    crops: tuple[LabelledCrop, ...]


def load_index(folder: Path) -> LabelIndex:
    """Read the index of a labels folder.

    Args:
        folder: The ``labels`` folder of a run.

    Returns:
        The index; pictures and label maps are loaded lazily.

    Raises:
        LabelError: If it is missing, damaged or of another format version.
    """
    path = folder / INDEX
    put_back(folder)
    if not path.is_file():
        raise LabelError(f"{path}: there are no imported labels. Run `cytoseg label-import` first.")
    again = f"Delete {folder} and run `cytoseg label-import` again."
    try:
        content = load_json(path)
        if content["format"] != FORMAT:
            raise LabelError(f"{path}: has format {shown(content['format'])}, this version reads {FORMAT}. {again}")
        crops = tuple(_parse_crop(entry, folder) for entry in content["crops"])
        return LabelIndex(folder, tuple(str(name) for name in content["classes"]), crops)
    except FileContentError as error:
        kind = type(error.__cause__ or error).__name__
        raise LabelError(f"{path}: is damaged ({kind}: {error.why}). {again}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise LabelError(f"{path}: is damaged ({type(error).__name__}: {error}). {again}") from error


def write_index(index: LabelIndex) -> None:
    """Write an index into its (staged) folder."""
    entries = [
        {
            "crop": crop.crop,
            "slide": crop.slide,
            "width": crop.width,
            "height": crop.height,
            "source": crop.source,
            "image_sha256": crop.image_sha256,
            "label_sha256": crop.label_sha256,
            "pixels": dict(crop.pixels),
            "ignored": crop.ignored,
            **({"from_prediction": True} if crop.from_prediction else {}),
        }
        for crop in index.crops
    ]
    content = {"format": FORMAT, "classes": list(index.classes), "crops": entries}
    (index.folder / INDEX).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class CropName:
    """Identity of a crop: its id, its slide, and the file it was imported from."""

    crop: str
    slide: str
    source: str


def write_crop(
    folder: Path, name: CropName, *, picture: NDArray[np.uint8], label_map: NDArray[np.uint8], classes: ClassList
) -> LabelledCrop:
    """Write a crop and its label map as PNG.

    Args:
        folder: The labels folder.
        name: Its id, slide and source.
        picture: (H, W, 3) uint8 RGB.
        label_map: (H, W) uint8 ids.
        classes: Names of the ids.

    Returns:
        The entry for the index.
    """
    (folder / CROPS).mkdir(parents=True, exist_ok=True)
    (folder / MAPS).mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(folder / CROPS / f"{name.crop}.png")
    map_path = folder / MAPS / f"{name.crop}.png"
    Image.fromarray(label_map).save(map_path)
    counts = np.bincount(label_map.ravel(), minlength=256)
    return LabelledCrop(
        folder=folder,
        crop=name.crop,
        slide=name.slide,
        width=picture.shape[1],
        height=picture.shape[0],
        source=name.source,
        image_sha256=pixel_hash(picture),
        label_sha256=hashlib.sha256(map_path.read_bytes()).hexdigest(),
        pixels={class_name: int(counts[i]) for i, class_name in enumerate(classes.names)},
        ignored=int(counts[IGNORE]),
    )


def remove_crop(folder: Path, crop: str) -> None:
    """Remove the files of a crop that is no longer in the index."""
    for part in (CROPS, MAPS):
        (folder / part / f"{crop}.png").unlink(missing_ok=True)


def total_pixels(crops: Sequence[LabelledCrop]) -> dict[str, int]:
    """Sum the labelled pixels per class over all crops."""
    totals: dict[str, int] = {}
    for crop in crops:
        for name, count in crop.pixels.items():
            totals[name] = totals.get(name, 0) + count
    return totals


def pixel_hash(picture: NDArray[np.uint8]) -> str:
    """Hash size and pixels of an (H, W, 3) uint8 picture, independent of its file format; 64 hexadecimal digits."""
    head = f"{picture.shape[1]}x{picture.shape[0]}:".encode()
    return hashlib.sha256(head + picture.tobytes()).hexdigest()


def is_file_name(name: str) -> bool:
    """Return whether a name is a valid file name without path components."""
    return name == Path(name).name and name not in ("", "..") and "\0" not in name


def _parse_crop(entry: Mapping[str, Any], folder: Path) -> LabelledCrop:
    crop = str(entry["crop"])
    # The id becomes a file name: a foreign index must not point outside its folder.
    if not is_file_name(crop):
        raise ValueError(f"crop id {shown(crop)} is not a file name")
    if min(int(entry["width"]), int(entry["height"])) < 1:
        raise ValueError(f"crop {shown(crop)} has no pixels")
    return LabelledCrop(
        folder=folder,
        crop=crop,
        slide=str(entry["slide"]),
        width=int(entry["width"]),
        height=int(entry["height"]),
        source=str(entry["source"]),
        image_sha256=str(entry["image_sha256"]),
        label_sha256=str(entry["label_sha256"]),
        pixels={str(name): int(count) for name, count in entry["pixels"].items()},
        ignored=int(entry["ignored"]),
        from_prediction=bool(entry.get("from_prediction", False)),
    )


def _read_png(path: Path, crop: LabelledCrop) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            if image.size != (crop.width, crop.height):  # checked before the pixels are decoded
                raise _changed(path)
            return np.array(image)
    except FileNotFoundError as error:
        raise LabelError(f"{path}: is missing. Run `cytoseg label-import` again.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _changed(path) from error


def _changed(path: Path) -> LabelError:
    return LabelError(f"{path}: was changed or damaged after the import. Run `cytoseg label-import` again.")
