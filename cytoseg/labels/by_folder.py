"""Naming crops by folder where several folders hold equal names."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cytoseg.formats.mask_pairs import MaskPair
from cytoseg.labels.import_settings import ImportState
from cytoseg.labels.index import LabelledCrop, pixel_hash
from cytoseg.labels.read_sources import Item, ReadCrop
from cytoseg.labels.slide_crops import SlideCrop

_JOINTS = ("_", "__", "___")
"""What stands for the slashes of a crop's path in its id: the first that keeps all ids apart."""


def note_folders(items: Iterable[Item], state: ImportState) -> None:
    """Find the folders that share a crop name with another one; all their crops are named by folder.

    Args:
        items: All items of an import.
        state: Receives the folders, and a note that explains this.
    """
    places = [place for item in items if (place := _place(item, state.root)) is not None]
    folders: dict[str, set[str]] = defaultdict(set)
    for name, folder in places:
        folders[name].add(folder)
    shared = {folder for sharing in folders.values() if len(sharing) > 1 for folder in sharing}
    state.by_folder.update(_short_names(shared, places))
    if state.by_folder:
        named = sorted(folder or "the folder itself" for folder in state.by_folder)
        shown = ", ".join(named[:5]) + (", ..." if len(named) > 5 else "")
        state.notes.append(
            f"Equal file names in several folders ({shown}): crops are named by folder, and each folder is "
            "treated as one slide. Use sidecars or --slide-regex to change this."
        )


def named_by_folder(read: ReadCrop, item: Item, state: ImportState) -> ReadCrop:
    """Name a crop by its folder if another folder has a crop of the same name."""
    place = _place(item, state.root)
    if read.correction is not None or place is None or place[1] not in state.by_folder:
        return read
    folder, start = state.by_folder[place[1]]
    return replace(read, crop=start + read.crop, plain=read.crop, folder=folder)


def named_as_before(read: ReadCrop, before: Mapping[str, LabelledCrop], *, taken: Collection[str]) -> ReadCrop:
    """Give a crop the name by folder under which an earlier import holds the same image, if there is one.

    Such a folder may be imported again on its own; a second entry of its crops could end up in training and test.

    Args:
        read: The crop.
        before: Crops of earlier imports, by id.
        taken: Ids that crops of this import have.
    """
    if read.correction is not None or read.crop in before:
        return read
    picture, end = pixel_hash(read.picture), f"_{read.plain or read.crop}"
    for crop, old in before.items():
        if crop.endswith(end) and old.image_sha256 == picture and crop not in taken:
            return replace(read, crop=crop, folder=old.slide)
    return read


def _short_names(folders: Collection[str], places: Sequence[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Name folders without slashes, and give the beginnings of their crops' ids, so that all stay different."""
    names: dict[str, tuple[str, str]] = {}
    for joint in _JOINTS:
        slides = {folder: folder.replace("/", joint) for folder in folders}
        names = {folder: (slide, slide and slide + joint) for folder, slide in slides.items()}
        crops = [names.get(folder, ("", ""))[1] + name for name, folder in places]
        if len(set(crops)) == len(crops) and len(set(slides.values())) == len(slides):
            break
    return names


def _place(item: Item, root: Path) -> tuple[str, str] | None:
    """Return a crop's name and its folder below the root (empty for the root); None if it has a name of its own."""
    match item:
        case Path():
            name, folder = item.stem, item.parent
        case MaskPair():
            if item.crop:
                return None
            name, folder = item.picture.stem, item.place
        case SlideCrop():
            if item.frame is not None:
                return None
            name, folder = item.crop, (root / item.source).parent
    below = folder.relative_to(root).as_posix()
    return name, "" if below == "." else below
