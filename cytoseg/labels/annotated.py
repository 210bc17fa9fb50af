"""Regions of slides that are already annotated or queued."""

from pathlib import Path

from cytoseg.formats.sidecar import SIDECAR_SUFFIX, read_sidecar, sidecar_path
from cytoseg.geometry import Region
from cytoseg.labels.index import has_index, load_index
from cytoseg.labels.original_annotation import read_original
from cytoseg.labels.proposal_file import is_saved


def annotated_regions(folder: Path) -> dict[str, list[Region]]:
    """List the regions of all imported crops whose position on a slide is known.

    Args:
        folder: The labels folder; need not exist.

    Returns:
        Regions in level-0 pixels, by slide.

    Raises:
        LabelError: If the index or the stored annotation of a crop is damaged.
    """
    found: dict[str, list[Region]] = {}
    for crop in load_index(folder).crops if has_index(folder) else ():
        origin = read_original(folder, crop.crop).origin
        if origin is not None and origin.region is not None:
            found.setdefault(crop.slide, []).append(origin.region)
    return found


def is_taken(crop: Path) -> bool:
    """Return whether a crop's PNG or its saved marks exist: neither may be overwritten."""
    marks = crop.with_suffix(".json")
    return crop.exists() or (marks.exists() and is_saved(marks) is not False)


def remove_partial(crop: Path) -> None:
    """Remove the files of a crop whose image was not written, unless it has saved marks."""
    if not is_taken(crop):
        for path in (crop.with_suffix(".json"), sidecar_path(crop)):
            path.unlink(missing_ok=True)


def waiting_regions(folder: Path) -> dict[str, list[Region]]:
    """List the regions of the crops in a folder to be annotated.

    Args:
        folder: Crops with sidecars; need not exist.

    Returns:
        Regions in level-0 pixels, by slide; partly written crops do not count.

    Raises:
        LabelError: If a sidecar is damaged.
    """
    found: dict[str, list[Region]] = {}
    for path in sorted(folder.glob(f"[!.]*{SIDECAR_SUFFIX}")):
        crop = path.with_name(path.name.removesuffix(SIDECAR_SUFFIX) + ".png")
        origin = read_sidecar(crop) if is_taken(crop) else None
        if origin is not None and origin.region is not None:
            found.setdefault(origin.slide, []).append(origin.region)
    return found
