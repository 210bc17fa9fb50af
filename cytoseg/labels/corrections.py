"""Corrections of a run's crops, saved as labelme files and never overwritten.

``review/corrections/<crop>/<author>_<time>.json`` with its image beside it. The key ``cytoseg`` holds slide and
region as a sidecar does, and under ``correction`` who corrected which crop, when, and what they started from.
``label-import`` reads the folder: the newest correction replaces its crop.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import LabelError, report
from cytoseg.formats.annotation import paint
from cytoseg.formats.json_files import load_json
from cytoseg.formats.labelme import read_labelme
from cytoseg.formats.sidecar import Origin
from cytoseg.labels.exported_shapes import LABELME_VERSION, labelme_shape, traced
from cytoseg.labels.index import is_file_name
from cytoseg.labels.original_annotation import origin_entry
from cytoseg.labels.reviewer_names import clean_name, file_part, same_person
from cytoseg.quoting import short_repr
from cytoseg.writing import write_atomically

KEY = "correction"
FROM_PREDICTION, OF_PREDICTION = "prediction", "correction of a prediction"
RESOLUTION, RESOLUTION_OF_PREDICTION = "resolution", "resolution of a prediction"
"""Values of ``started_from``: of a prediction, untouched pixels agree with the model; a resolution is a third person's
choice between the corrections of others, not a reading of one's own."""
FIX_FILE = "Fix the file or remove it."


@dataclass(frozen=True)
class Correction:
    """Author, time and starting point of a correction.

    Attributes:
        crop: Id of the crop.
        author: Name of the annotator.
        time: UTC in ISO 8601, which sorts chronologically.
        started_from: ``annotation``, ``correction``, ``prediction``, ``correction of a prediction``, ``resolution``, or
            ``resolution of a prediction``.
    """

    crop: str
    author: str
    time: str
    started_from: str


@dataclass(frozen=True)
class SavedCorrection:
    """A correction with its labelme file and the file's SHA-256 (64 hexadecimal digits)."""

    correction: Correction
    path: Path
    sha256: str


def is_from_prediction(correction: Correction) -> bool:
    """Return whether untouched pixels are a model's prediction."""
    return correction.started_from in (FROM_PREDICTION, OF_PREDICTION, RESOLUTION_OF_PREDICTION)


def is_resolution(correction: Correction) -> bool:
    """Return whether it is a third person's choice between the corrections of others."""
    return correction.started_from in (RESOLUTION, RESOLUTION_OF_PREDICTION)


def resolution_of(taken: Correction) -> str:
    """Return what the resolution that takes a correction started from."""
    return RESOLUTION_OF_PREDICTION if is_from_prediction(taken) else RESOLUTION


def corrections_folder(run: Path) -> Path:
    """Return the folder of a run's corrections, which need not exist."""
    return run / "review" / "corrections"


def now() -> str:
    """Return the time in UTC to the microsecond, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def save_correction(
    folder: Path,
    correction: Correction,
    *,
    origin: Origin,
    picture: NDArray[np.uint8],
    label_map: NDArray[np.uint8],
    classes: ClassList,
) -> SavedCorrection:
    """Write a corrected label map as a labelme file with its image; existing files are not touched.

    Args:
        folder: From `corrections_folder`.
        correction: Author, time and starting point.
        origin: Where the crop was cut from, so that the split by slide holds.
        picture: (H, W, 3) uint8 RGB.
        label_map: (H, W) uint8 ids, 255 for ignore; an import returns exactly this.
        classes: Names of the ids.

    Returns:
        The saved correction.

    Raises:
        LabelError: If the author is empty, the crop's id is not a valid folder name, the label map does not match the
            image or the class list, or the folder cannot be written.
    """
    _check(correction, picture, label_map, classes)
    png = BytesIO()
    Image.fromarray(picture).save(png, "png")
    try:
        (folder / correction.crop).mkdir(parents=True, exist_ok=True)
        beside = _reserved(folder / correction.crop, correction)
        try:
            beside.write_bytes(png.getvalue())
            data = _text(beside.name, correction, origin, label_map, classes).encode()
            write_atomically(beside.with_suffix(".json"), data)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        why = error.strerror or error
        raise LabelError(
            f"{correction.crop}: the correction cannot be written ({why}); nothing was saved. Free some space or "
            "make the run folder writable, then save again."
        ) from error
    return SavedCorrection(correction, beside.with_suffix(".json"), hashlib.sha256(data).hexdigest())


def find_corrections(folder: Path, crop: str) -> tuple[list[SavedCorrection], list[str]]:
    """List the corrections of a crop.

    Args:
        folder: From `corrections_folder`.
        crop: Id of the crop.

    Returns:
        The corrections, oldest first; and a sentence for each unreadable file.
    """
    found, problems = [], []
    for path in sorted((folder / crop).glob("*.json")) if is_file_name(crop) else []:
        try:
            data = path.read_bytes() if path.is_file() else b""
            correction = correction_of(load_json(path, name=path.name, advice=FIX_FILE), path.name)
        except (LabelError, OSError) as error:
            problems.append(str(error) if isinstance(error, LabelError) else f"{path.name}: cannot be read. {FIX_FILE}")
            continue
        if correction is None or correction.crop != crop:
            problems.append(f"{path.name}: does not say that it corrects '{crop}'. {FIX_FILE}")
            continue
        found.append(SavedCorrection(correction, path, hashlib.sha256(data).hexdigest()))
    return sorted(found, key=lambda saved: (saved.correction.time, saved.path.name)), problems


def latest_corrections(folder: Path, crop: str) -> tuple[dict[str, SavedCorrection], list[str]]:
    """Return each person's own latest correction of a crop by name, without resolutions; see `find_corrections`."""
    found, problems = find_corrections(folder, crop)
    latest: dict[str, SavedCorrection] = {}
    for saved in found:
        author = saved.correction.author
        if not is_resolution(saved.correction):
            latest = {name: one for name, one in latest.items() if not same_person(name, author)} | {author: saved}
    return latest, problems


def read_correction(path: Path, classes: ClassList) -> NDArray[np.uint8]:
    """Read the label map of a correction.

    Args:
        path: Its labelme file.
        classes: Class list for the ids.

    Returns:
        (H, W) uint8 ids, 255 for ignore.

    Raises:
        LabelError: Lists every problem of the file, which is named without its parent folders.
    """
    problems: list[str] = []
    file = read_labelme(path, root=path.parent, problems=problems)
    if file is None:
        raise LabelError(report(problems, what=path.name).replace(str(path.parent), "its folder"))
    return paint(file.annotation, classes)


def correction_of(content: object, name: str) -> Correction | None:
    """Parse the correction from the keys of a labelme file.

    Args:
        content: Parsed JSON.
        name: The file's name in messages.

    Returns:
        The correction, or None if the file is not one.

    Raises:
        LabelError: If it is one, but incomplete.
    """
    ours = content.get("cytoseg") if isinstance(content, Mapping) else None
    entry = ours.get(KEY) if isinstance(ours, Mapping) else None
    if entry is None:
        return None
    entries = entry if isinstance(entry, Mapping) else {}
    values = {field.name: str(entries.get(field.name) or "") for field in fields(Correction)}
    if not all(values.values()) or not is_file_name(values["crop"]):
        raise LabelError(
            f"{name}: 'correction' is {short_repr(entry)}, which does not say who corrected what. {FIX_FILE}"
        )
    if not _is_time(values["time"]):
        raise LabelError(
            f"{name}: the time of the correction is {short_repr(values['time'])}, not one in UTC. {FIX_FILE}"
        )
    return Correction(**values)


def _is_time(text: str) -> bool:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return False
    # Times in one format sort as text.
    return moment.tzinfo == UTC and moment.isoformat(timespec="microseconds") == text


def _check(
    correction: Correction, picture: NDArray[np.uint8], label_map: NDArray[np.uint8], classes: ClassList
) -> None:
    crop = correction.crop
    if not is_file_name(crop) or crop.startswith("."):
        raise LabelError(
            f"{crop!r}: this crop cannot be corrected because its name is not a valid file name. Rename it."
        )
    if clean_name(correction.author) != correction.author or not correction.author:
        raise LabelError(
            f"{crop}: {correction.author!r} is not a valid reviewer name. Enter your name before you save."
        )
    if picture.shape[:2] != label_map.shape:
        (height, width), (wanted_height, wanted_width) = label_map.shape, picture.shape[:2]
        raise LabelError(
            f"{crop}: the corrected map has {width}x{height} pixels, the image {wanted_width}x{wanted_height}. "
            "Open the crop again."
        )
    strange: Any = label_map[(label_map != IGNORE) & (label_map >= len(classes))]
    if strange.size:
        raise LabelError(f"{crop}: the corrected map holds id {strange[0]}, but there are {len(classes)} classes.")


def _reserved(folder: Path, correction: Correction) -> Path:
    """Create the image's file under the first free name, even if two are saved within the same second."""
    moment = datetime.fromisoformat(correction.time).strftime("%Y%m%dT%H%M%SZ")
    stem, number = f"{file_part(correction.author)}_{moment}", 1
    while True:
        path = folder / (f"{stem}.png" if number == 1 else f"{stem}_{number}.png")
        number += 1
        try:
            path.open("xb").close()
        except FileExistsError:
            continue
        if not path.with_suffix(".json").exists():
            return path
        path.unlink()  # the image was deleted but the labelme file was not


def _text(
    picture: str, correction: Correction, origin: Origin, label_map: NDArray[np.uint8], classes: ClassList
) -> str:
    content = {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": [labelme_shape(shape) for shape in traced(label_map, classes)],
        "imagePath": picture,
        "imageData": None,
        "imageHeight": label_map.shape[0],
        "imageWidth": label_map.shape[1],
        "cytoseg": {**origin_entry(origin), KEY: asdict(correction)},
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
