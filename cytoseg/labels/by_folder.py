"""Naming crops by folder where several folders hold equal names."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from cytoseg.formats.mask_pairs import MaskPair
from cytoseg.labels.import_settings import ImportState
from cytoseg.labels.read_sources import Item, Reading
from cytoseg.labels.slide_crops import SlideCrop


def note_folders(items: Iterable[Item], state: ImportState) -> None:
    """Find the folders that share a crop name with another one; all their crops are named by folder.

    Args:
        items: All items of an import.
        state: Receives the folders, and a note that explains this.
    """
    folders: dict[str, set[str]] = defaultdict(set)
    for item in items:
        if (place := _place(item, state.root)) is not None:
            folders[place[0]].add(place[1])
    state.by_folder.update(folder for shared in folders.values() if len(shared) > 1 for folder in shared)
    if state.by_folder:
        named = sorted(folder or "the folder itself" for folder in state.by_folder)
        shown = ", ".join(named[:5]) + (", ..." if len(named) > 5 else "")
        state.notes.append(
            f"Equal file names in several folders ({shown}): crops are named by folder, and each folder is "
            "treated as one slide. Use sidecars or --slide-regex to change this."
        )


def named_by_folder(reading: Reading, item: Item, state: ImportState) -> Reading:
    """Name a crop by its folder if another folder has a crop of the same name."""
    place = _place(item, state.root)
    if reading.correction is not None or place is None or place[1] not in state.by_folder:
        return reading
    folder = place[1].replace("/", "_")
    crop = f"{folder}_{reading.crop}" if folder else reading.crop
    return replace(reading, crop=crop, plain=reading.crop, folder=folder)


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
