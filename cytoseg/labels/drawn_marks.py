"""Marks drawn in the app, saved as labelme files after each stroke.

The key ``cytoseg`` holds slide and region as a sidecar does, and under ``annotation`` who drew it and when. Unmarked
pixels are saved as ignore, whatever the recipe's fill class.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import LabelError, report
from cytoseg.formats.annotation import paint
from cytoseg.formats.json_files import load_json
from cytoseg.formats.labelme import read_labelme
from cytoseg.formats.sidecar import Origin, read_sidecar
from cytoseg.labels.corrections import FIX_FILE
from cytoseg.labels.exported_shapes import LABELME_VERSION, labelme_shape, traced
from cytoseg.labels.original_annotation import origin_entry
from cytoseg.labels.proposal_file import SEAL, is_saved
from cytoseg.labels.reviewer_names import clean_name
from cytoseg.writing import write_atomically

KEY = "annotation"


@dataclass(frozen=True)
class Drawn:
    """Who drew on a crop last, and when (UTC, ISO 8601); empty if unknown.

    Attributes:
        author: Name of the annotator.
        time: Time of the last stroke.
        resolves: The annotators whose conflict these marks resolve; none for a person's own marks.
    """

    author: str
    time: str
    resolves: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class CropMarks:
    """The marks stored beside a crop.

    Attributes:
        ids: (H, W) uint8, 255 where unmarked.
        proposed: The same for an unsaved proposal; None if there is none.
        drawn: Who saved the marks; None if they are unsaved.
    """

    ids: NDArray[np.uint8]
    proposed: NDArray[np.uint8] | None
    drawn: Drawn | None


def origin_of(picture: Path) -> Origin:
    """Read which slide and region a crop comes from.

    Raises:
        LabelError: If the sidecar is missing or damaged: the split by slide needs it.
    """
    origin = read_sidecar(picture)
    if origin is None:
        raise LabelError(f"{picture.name}: its slide is unknown. Cut crops with `cytoseg label-crops`.")
    return origin


def read_marks(picture: Path, shape: tuple[int, int], classes: ClassList) -> CropMarks:
    """Read the marks drawn on a crop, or proposed for it.

    Args:
        picture: The crop's PNG file.
        shape: (H, W) of the crop.
        classes: Class list for the ids; unmarked pixels of files from other programs get the fill class.

    Raises:
        LabelError: If the file is damaged or has another size.
    """
    nothing = np.full(shape, IGNORE, np.uint8)
    path = picture.with_suffix(".json")
    if not path.exists():
        return CropMarks(nothing, None, None)
    problems: list[str] = []
    file = read_labelme(path, root=path.parent, problems=problems)
    if file is None:
        raise LabelError(report(problems, what=path.name).replace(str(path.parent), "its folder"))
    ids = paint(file.annotation, classes)
    if ids.shape != shape:
        raise LabelError(f"{path.name}: does not have the size of its image. {FIX_FILE}")
    if is_saved(path) is False:
        ids[ids == classes.fill_id] = IGNORE
        return CropMarks(nothing, ids, None)
    return CropMarks(ids, None, _drawn(file.content))


def save_marks(picture: Path, drawn: Drawn, label_map: NDArray[np.uint8], classes: ClassList) -> Path:
    """Save the marks of a crop atomically, replacing earlier ones.

    Args:
        picture: The crop's PNG file, with its sidecar.
        drawn: Author and time.
        label_map: (H, W) uint8 ids, 255 where unmarked; an import returns exactly this.
        classes: Names of the ids.

    Returns:
        The labelme file.

    Raises:
        LabelError: If the author is empty, an id is not a class, the crop's slide is unknown, or it cannot be written.
    """
    if clean_name(drawn.author) != drawn.author or not drawn.author:
        raise LabelError(f"{picture.name}: {drawn.author!r} is not a valid name. Enter your name before you draw.")
    strange = label_map[(label_map != IGNORE) & (label_map >= len(classes))]
    if strange.size:
        raise LabelError(f"{picture.name}: the map holds id {strange[0]}, but there are {len(classes)} classes.")
    path = picture.with_suffix(".json")
    content: dict[str, Any] = {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": [labelme_shape(shape) for shape in traced(label_map, classes)],
        "imagePath": picture.name,
        "imageData": None,
        "imageHeight": label_map.shape[0],
        "imageWidth": label_map.shape[1],
        "cytoseg": {**origin_entry(origin_of(picture)), KEY: _entry(drawn)},
    }
    try:
        if path.exists() and is_saved(path) is not None:  # keep the origin of marks that began as a prediction
            content = {SEAL: 64 * "0", **content}
        write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise LabelError(
            f"{path.name}: cannot be written ({error.strerror or error}); the last saved version is unchanged. Free "
            "some space, or make the folder writable."
        ) from error
    return path


def drawn_of(picture: Path) -> Drawn | None:
    """Return who saved the marks of a crop; None if unsaved or unreadable."""
    path = picture.with_suffix(".json")
    try:
        if not path.exists() or is_saved(path) is False:
            return None
        content = load_json(path, name=path.name, advice=FIX_FILE)
    except (LabelError, OSError):
        return None
    return _drawn(content)


def _entry(drawn: Drawn) -> dict[str, Any]:
    return {key: value for key, value in asdict(drawn).items() if key != "resolves" or value}


def _drawn(content: Any) -> Drawn:
    ours = content.get("cytoseg") if isinstance(content, dict) else None
    entry = ours.get(KEY) if isinstance(ours, dict) else None
    found = entry if isinstance(entry, dict) else {}
    author, time = (clean_name(str(found.get(name) or "")) for name in ("author", "time"))
    resolved = found.get("resolves")
    people = [clean_name(str(name)) for name in resolved] if isinstance(resolved, list) else []
    return Drawn(author, time, tuple(name for name in people if name))
