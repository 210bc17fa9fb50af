"""The index of imported crops: reading and writing the labels folder."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import LabelError
from cytoseg.locks import this_process
from cytoseg.quoting import printable, short_repr
from cytoseg.records import FolderOfFile, RecordFile
from cytoseg.slides.generated_mark import GeneratedMark, png_text
from cytoseg.writing import restore_after_kill

INDEX_NAME, MAPS, CROPS, SHEET = "index.json", "maps", "crops", "contact_sheet.png"

_TRIES = 3
_LONGEST = 200
"""Most characters quoted of who wrote an index, which may contain anything."""
Value = TypeVar("Value")


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
        made: The mark of an image that a diffusion model drew or edited, which is never a test crop.
    """

    folder: FolderOfFile
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
    made: GeneratedMark | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be a crop.

        Raises:
            ValueError: If its id, which becomes a file name, would lead out of the folder; or it has no pixels.
        """
        if not is_file_name(self.crop):
            raise ValueError(f"crop id {short_repr(self.crop)} is not a file name")
        if min(self.width, self.height) < 1:
            raise ValueError(f"crop {short_repr(self.crop)} has no pixels")

    def picture(self) -> NDArray[np.uint8]:
        """Read the crop.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            LabelError: If its file is missing or its pixels differ from those imported; names the process that has
                imported the crop again meanwhile.
        """
        path = self.folder / CROPS / f"{self.crop}.png"
        pixels = _read_png(path, self)
        if pixel_hash(pixels) != self.image_sha256:
            raise _changed(path, self)
        return pixels

    @property
    def shown_slide(self) -> str | None:
        """The slide that the crop shows; None if a diffusion model drew it from noise, so that it shows none.

        Held-out slides are chosen among these: a drawn image cannot tell how well a model does on real ones.
        """
        return None if self.made is not None and not self.made.slide else self.slide

    def label_map(self) -> NDArray[np.uint8]:
        """Read the label map.

        Returns:
            (H, W) uint8 ids, 255 for ignore.

        Raises:
            LabelError: If its file is missing, was changed after the import, or contains an id that is not a class;
                names the process that has imported the crop again meanwhile.
        """
        path = self.folder / MAPS / f"{self.crop}.png"
        label_map = _read_png(path, self)
        strange = label_map[(label_map != IGNORE) & (label_map >= len(self.pixels))]
        if strange.size:
            raise _problem(
                self,
                f"{path}: holds id {strange[0]}, but there are {len(self.pixels)} classes. It was changed after "
                "the import: run `cytoseg label-import` again.",
            )
        if hashlib.sha256(_retried(path.read_bytes, self)).hexdigest() != self.label_sha256:
            raise _changed(path, self)
        return label_map


@dataclass(frozen=True)
class LabelIndex:
    """All imported crops, sorted by id, and the class names of the ids."""

    folder: Path
    classes: tuple[str, ...]
    crops: tuple[LabelledCrop, ...]


@dataclass(frozen=True)
class _Content:
    classes: tuple[str, ...]
    crops: tuple[LabelledCrop, ...]
    written_by: str = ""

    def __post_init__(self) -> None:
        """Refuse two crops or classes of one name.

        Raises:
            ValueError: If there are any.
        """
        for names in (self.classes, tuple(crop.crop for crop in self.crops)):
            if len(set(names)) < len(names):
                raise ValueError(f"it lists {short_repr(next(n for n in names if names.count(n) > 1))} twice")


_FILE = RecordFile(
    _Content,
    LabelError,
    "Delete {folder} and run `cytoseg label-import` again.",
    damaged="is damaged ({why})",
    not_json="is damaged ({kind}: {why})",
)


def load_index(folder: Path) -> LabelIndex:
    """Read the index of a labels folder.

    Args:
        folder: The ``labels`` folder of a run.

    Returns:
        The index; images and label maps are loaded lazily.

    Raises:
        LabelError: If it is missing, damaged or of another format version.
    """
    path = folder / INDEX_NAME
    for _ in range(_TRIES):
        with contextlib.suppress(FileNotFoundError):  # another process is replacing the folder
            if has_index(folder) and path.is_file():  # opening a pipe would block
                found = _FILE.read(path, name=str(path))
                return LabelIndex(folder, found.classes, tuple(replace(crop, folder=folder) for crop in found.crops))
    raise LabelError(f"{path}: there are no imported labels. Run `cytoseg label-import` first.")


def has_index(folder: Path) -> bool:
    """Return whether labels were imported into a folder, also while another process replaces it.

    Args:
        folder: The ``labels`` folder of a run; need not exist.
    """
    for _ in range(_TRIES):
        restore_after_kill(folder)
        if (folder / INDEX_NAME).exists():  # a pipe or folder too, so that it is reported and not skipped
            return True
    return False


def write_index(index: LabelIndex) -> None:
    """Write an index into its (staged) folder, with the name of this process for those that read it meanwhile."""
    content = _FILE.content_of(_Content(index.classes, index.crops, this_process("at")), without_defaults=True)
    (index.folder / INDEX_NAME).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class CropName:
    """Identity of a crop: its id, its slide, and the file it was imported from."""

    crop: str
    slide: str
    source: str


def write_crop(
    folder: Path,
    name: CropName,
    *,
    picture: NDArray[np.uint8],
    label_map: NDArray[np.uint8],
    classes: ClassList,
    made: GeneratedMark | None = None,
) -> LabelledCrop:
    """Write a crop and its label map as PNG.

    Args:
        folder: The labels folder.
        name: Its id, slide and source.
        picture: (H, W, 3) uint8 RGB.
        label_map: (H, W) uint8 ids.
        classes: Names of the ids.
        made: The mark of an image that a diffusion model drew or edited; it is stored in its file too.

    Returns:
        The entry for the index.
    """
    (folder / CROPS).mkdir(parents=True, exist_ok=True)
    (folder / MAPS).mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(folder / CROPS / f"{name.crop}.png", format="PNG", pnginfo=png_text(made))
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
        made=made,
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
    """Hash size and pixels of an (H, W, 3) uint8 image, independent of its file format; 64 hexadecimal digits."""
    head = f"{picture.shape[1]}x{picture.shape[0]}:".encode()
    return hashlib.sha256(head + picture.tobytes()).hexdigest()


def is_file_name(name: str) -> bool:
    """Return whether a name is a valid file name without path components."""
    return name == Path(name).name and name not in ("", "..") and "\0" not in name


def _read_png(path: Path, crop: LabelledCrop) -> NDArray[np.uint8]:
    def read() -> NDArray[np.uint8]:
        with Image.open(path) as image:
            if image.size != (crop.width, crop.height):  # checked before the pixels are decoded
                raise _changed(path, crop)
            return np.array(image)

    if path.exists() and not path.is_file():  # opening a pipe would block
        raise _changed(path, crop)
    try:
        return _retried(read, crop)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _changed(path, crop) from error


def _retried(read: Callable[[], Value], crop: LabelledCrop) -> Value:
    """Read a file of the folder, which is missing for a moment while another process replaces it.

    Raises:
        LabelError: If it is missing.
    """
    try:
        return read()
    except FileNotFoundError:
        restore_after_kill(crop.folder)
    try:
        return read()
    except FileNotFoundError as error:
        raise _problem(crop, f"{error.filename}: is missing. Run `cytoseg label-import` again.") from error


def _changed(path: Path, crop: LabelledCrop) -> LabelError:
    return _problem(crop, f"{path}: was changed or damaged after the import. Run `cytoseg label-import` again.")


def _problem(crop: LabelledCrop, message: str) -> LabelError:
    """Make the error for a file of a crop, or name the process that has imported the crop again."""
    restore_after_kill(crop.folder)
    found = _FILE.read_or_none(crop.folder / INDEX_NAME)
    if found is None or any(_is_same(crop, one) for one in found.crops):
        return LabelError(message)
    writer = printable(found.written_by[:_LONGEST]) or "another command"
    return LabelError(
        f"{crop.folder}: {writer} has imported labels while this command was reading them, and crop "
        f"{short_repr(crop.crop)} is no longer the same. Run this command again."
    )


def _is_same(crop: LabelledCrop, now: LabelledCrop) -> bool:
    names = ("crop", "image_sha256", "label_sha256")
    return all(getattr(crop, name) == getattr(now, name) for name in names)
