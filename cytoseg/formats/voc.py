"""Label maps in the layout of Pascal VOC: ``SegmentationClass/x.png`` for some of ``JPEGImages/x.jpg``."""

from collections.abc import Iterator
from pathlib import Path

from cytoseg.quoting import short_repr

PICTURES, MASKS = "JPEGImages", "SegmentationClass"
_LISTS = Path("ImageSets") / "Segmentation"
_SETS = ("train", "val", "test")
_MAX_BYTES = 10_000_000


def find_voc(folder: Path, problems: list[str]) -> list[tuple[Path, Path, str]]:
    """Find masks and their images; images without a mask are not crops.

    Args:
        folder: Where to look; hidden folders are skipped.
        problems: One sentence is added per mask without an image, and per list that is unreadable or names a crop
            twice.

    Returns:
        Image, mask, and the crop's id of each, sorted by path: the stem, behind ``train``, ``val`` or ``test`` if a
        list in ``ImageSets/Segmentation`` names it, so that a recipe can tell the sets apart.
    """
    found = []
    for masks in sorted(folder.rglob(MASKS)):
        below = masks.relative_to(folder)
        if not masks.is_dir() or any(part.startswith(".") for part in below.parts):
            continue
        sets = _sets(masks.parent / _LISTS, folder, problems)
        for mask in sorted(masks.glob("*.png")):
            picture = masks.parent / PICTURES / f"{mask.stem}.jpg"
            if picture.is_file():
                found.append((picture, mask, f"{sets.get(mask.stem, '')}{mask.stem}"))
            else:
                named = mask.relative_to(folder).as_posix()
                problems.append(f"{named}: has no image {PICTURES}/{picture.name}. Add it or remove the mask.")
    return found


def _sets(lists: Path, root: Path, problems: list[str]) -> dict[str, str]:
    """Read which set each crop belongs to, as the beginning of its id."""
    found: dict[str, str] = {}
    for name in _SETS:
        path = lists / f"{name}.txt"
        for stem in _lines(path, root, problems):
            if stem in found:
                problems.append(
                    f"{path.relative_to(root).as_posix()}: names {short_repr(stem)} again. Keep it in one list."
                )
            found.setdefault(stem, f"{name}_")
    return found


def _lines(path: Path, root: Path, problems: list[str]) -> Iterator[str]:
    if not path.is_file():
        return
    try:
        if (size := path.stat().st_size) > _MAX_BYTES:
            raise OSError(f"{size:,} bytes, too large for a list of names")
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        problems.append(f"{path.relative_to(root).as_posix()}: cannot be read ({error}). Fix or remove it.")
        return
    yield from filter(None, map(str.strip, text.splitlines()))
