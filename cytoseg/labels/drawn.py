"""What a person draws on a crop, saved after each stroke: a labelme file beside the crop, which is imported like any.

Its key ``cytoseg`` says slide and region as a sidecar does, and under ``annotation`` who drew it and when. Nothing is
guessed of what nobody has marked: it is saved as unscored, whatever the recipe's fill.
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
from cytoseg.labels.corrections import MEND
from cytoseg.labels.map_shapes import LABELME_VERSION, labelme_shape, traced
from cytoseg.labels.original_annotation import origin_entry
from cytoseg.labels.proposal import SEAL, is_saved
from cytoseg.labels.reviewer_names import clean_name
from cytoseg.writing import write_atomically

KEY = "annotation"


@dataclass(frozen=True)
class Drawn:
    """Who drew on a crop last, and when in UTC as ISO 8601 writes it; empty where the file does not say."""

    author: str
    time: str


@dataclass(frozen=True, eq=False)
class CropMarks:
    """What lies beside a crop.

    Attributes:
        ids: (H, W) uint8, 255 where nobody has said what it is.
        proposed: The same of a proposal that nobody has saved; None where there is none.
        drawn: Who saved it; None where nobody has.
    """

    ids: NDArray[np.uint8]
    proposed: NDArray[np.uint8] | None
    drawn: Drawn | None


def origin_of(picture: Path) -> Origin:
    """Read where a crop is from.

    Raises:
        LabelError: If it has no sidecar, or a damaged one: nobody would know whether it may be learnt from.
    """
    origin = read_sidecar(picture)
    if origin is None:
        raise LabelError(f"{picture.name}: nothing says which slide it is from. Cut crops with `cytoseg label-crops`.")
    return origin


def read_marks(picture: Path, shape: tuple[int, int], classes: ClassList) -> CropMarks:
    """Read what was drawn on a crop, or proposed.

    Args:
        picture: The crop's PNG file.
        shape: (H, W) of the crop.
        classes: Give the ids; of files from elsewhere what is unmarked is the fill.

    Raises:
        LabelError: If the file is damaged or of another size.
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
        raise LabelError(f"{path.name}: is of another size than its picture. {MEND}")
    if is_saved(path) is False:
        ids[ids == classes.fill_id] = IGNORE
        return CropMarks(nothing, ids, None)
    return CropMarks(ids, None, _drawn(file.content))


def save_marks(picture: Path, drawn: Drawn, label_map: NDArray[np.uint8], classes: ClassList) -> Path:
    """Write what was drawn on a crop, in place of what was there; whole or not at all.

    Args:
        picture: The crop's PNG file, with its sidecar.
        drawn: Who and when.
        label_map: (H, W) uint8 ids, 255 for what nobody has marked; an import gives back exactly this.
        classes: Names of the ids.

    Returns:
        The labelme file.

    Raises:
        LabelError: If nobody is named, the ids are no classes, nothing says the crop's slide, or it cannot be written.
    """
    if clean_name(drawn.author) != drawn.author or not drawn.author:
        raise LabelError(f"{picture.name}: {drawn.author!r} is no name of a person. Type yours before you draw.")
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
        "cytoseg": {**origin_entry(origin_of(picture)), KEY: asdict(drawn)},
    }
    try:
        if path.exists() and is_saved(path) is not None:  # what began as a prediction stays known as that
            content = {SEAL: 64 * "0", **content}
        write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise LabelError(
            f"{path.name}: cannot be written ({error.strerror or error}); what was saved before is unchanged. Make "
            "room, or have the folder made writable."
        ) from error
    return path


def drawn_of(picture: Path) -> Drawn | None:
    """Tell who saved the marks of a crop; None if nobody has, or the file cannot be read."""
    path = picture.with_suffix(".json")
    try:
        if not path.exists() or is_saved(path) is False:
            return None
        content = load_json(path, name=path.name, again=MEND)
    except (LabelError, OSError):
        return None
    return _drawn(content)


def _drawn(content: Any) -> Drawn:
    ours = content.get("cytoseg") if isinstance(content, dict) else None
    entry = ours.get(KEY) if isinstance(ours, dict) else None
    found = entry if isinstance(entry, dict) else {}
    return Drawn(*(clean_name(str(found.get(name) or "")) for name in ("author", "time")))
