"""Read labelme's JSON files, of any version, without labelme."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoseg.errors import LabelError, SlideError
from cytoseg.geometry import Size
from cytoseg.labels import sidecar
from cytoseg.labels.annotation import POINT_COUNTS, Annotation, Kind, Shape
from cytoseg.labels.json_files import Points, checked_points, kind_of, load_json
from cytoseg.quoting import shown
from cytoseg.slides.image import read_picture

AGAIN = "Save it again in labelme."


@dataclass(frozen=True, eq=False)
class LabelmeFile:
    """What one labelme file holds.

    Attributes:
        annotation: The shapes.
        picture: (H, W, 3) uint8 RGB, of the annotation's size.
        stem: The picture's file name without suffix.
        origin: Slide and region, where the file or a sidecar says.
        content: All keys of the file but the image data.
    """

    annotation: Annotation
    picture: NDArray[np.uint8]
    stem: str
    origin: sidecar.Origin | None
    content: Mapping[str, Any]


def find_labelme(folder: Path, problems: list[str]) -> tuple[list[Path], list[Path]]:
    """Look for labelme files in a folder and the folders below; hidden ones and cytoseg's sidecars are passed over.

    Args:
        folder: Where to look.
        problems: A sentence is added for each JSON file that cannot be read and so might have been one.

    Returns:
        The labelme files, and the JSON files that are something else; both sorted.
    """
    ours: list[Path] = []
    others: list[Path] = []
    for path in sorted(folder.rglob("*.json")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or path.name.endswith(sidecar.SUFFIX) or not path.is_file():
            continue
        try:
            content = load_json(path, name=path.relative_to(folder).as_posix(), again=AGAIN)
        except LabelError as error:
            problems.append(str(error))
            continue
        is_labelme = isinstance(content, dict) and not {"shapes", "imagePath", "imageData"}.isdisjoint(content)
        (ours if is_labelme else others).append(path)
    return ours, others


def read_labelme(path: Path, *, root: Path, problems: list[str]) -> LabelmeFile | None:
    """Read one labelme file and its picture.

    Args:
        path: The JSON file.
        root: Folder that the picture must lie in; the file's own name in messages is relative to it.
        problems: One sentence is added for each thing that is wrong.

    Returns:
        The content, or None if a problem was added.
    """
    name = path.relative_to(root).as_posix()
    before = len(problems)
    try:
        content = load_json(path, name=name, again=AGAIN)
        if not isinstance(content, dict):
            raise LabelError(
                f"{name}: holds {kind_of(content)}, not labelme's table of keys. Save it again in labelme."
            )
    except LabelError as error:
        problems.append(str(error))
        return None
    shapes = read_shapes(content, name, problems)
    try:
        where = _picture_path(content, path, root=root) if content.get("imageData") is None else None
        picture = _read_picture(content, where, name)
        _check_size(content, picture, name)
        origin = _read_origin(content, where or path, name)
    except (LabelError, SlideError) as error:
        problems.append(str(error))
    if len(problems) > before:
        return None
    annotation = Annotation(name, Size(picture.shape[1], picture.shape[0]), tuple(shapes))
    rest = {key: value for key, value in content.items() if key != "imageData"}
    return LabelmeFile(annotation, picture, _picture_stem(content, path), origin, rest)


def read_shapes(content: Mapping[str, Any], name: str, problems: list[str]) -> list[Shape]:
    """Read the shapes of a labelme file.

    Args:
        content: Its keys.
        name: What to call it in a message.
        problems: A sentence is added for each shape that is wrong, and for a list that is missing.

    Returns:
        The shapes in the file's order, without the wrong ones.
    """
    entries = content.get("shapes")
    if not isinstance(entries, list):
        found = "is missing" if entries is None else f"is {kind_of(entries)}"
        problems.append(f"{name}: 'shapes' {found}, but must be a list. Save it again in labelme.")
        return []
    shapes = []
    for number, entry in enumerate(entries, start=1):
        try:
            shapes.append(_read_shape(entry, f"{name}, shape {number}"))
        except LabelError as error:
            problems.append(str(error))
    return shapes


def _read_shape(entry: object, where: str) -> Shape:
    if not isinstance(entry, dict):
        raise LabelError(f"{where}: is {kind_of(entry)}, but must be a table of keys. Delete it or draw it again.")
    label, group_id = entry.get("label"), entry.get("group_id")
    if not isinstance(label, str) or not label.strip():
        raise LabelError(f"{where}: 'label' is {label!r}, but must be a class name. Give it one in labelme.")
    if group_id is not None and type(group_id) is not int:
        raise LabelError(
            f"{where}: 'group_id' is {group_id!r}, but must be a whole number or null. Mend it in labelme."
        )
    kind = _read_kind(entry, where)
    points = _read_points(entry.get("points"), kind, where)
    mask = _read_mask(entry.get("mask"), points, where) if kind == "mask" else None
    return Shape(label, kind, points, group_id, mask)


def _read_kind(entry: Mapping[str, Any], where: str) -> Kind:
    # Versions before 3.5 wrote no shape type and knew only polygons.
    found = entry.get("shape_type") or "polygon"
    for kind in POINT_COUNTS:
        if kind == found:
            return kind
    raise LabelError(f"{where}: shape_type {found!r} is unknown. Draw it again as one of {', '.join(POINT_COUNTS)}.")


def _read_points(value: object, kind: Kind, where: str) -> Points:
    if not isinstance(value, list) or not all(isinstance(p, list) and len(p) == 2 for p in value):
        raise LabelError(f"{where}: 'points' must be a list of [x, y], found {shown(value)}. Draw the shape again.")
    points = checked_points(value, where)
    fewest, most = POINT_COUNTS[kind]
    if len(value) < fewest or (most is not None and len(value) > most):
        wanted = f"at least {fewest}" if most is None else str(fewest)
        raise LabelError(f"{where}: a {kind} has {wanted} points, found {len(value)}. Draw the shape again.")
    return points


def _read_mask(value: object, points: Sequence[tuple[float, float]], where: str) -> NDArray[np.bool_]:
    again = "Draw the shape again."
    if not isinstance(value, str):
        raise LabelError(f"{where}: 'mask' is {kind_of(value)}, but must be a PNG in base64. {again}")
    (x0, y0), (x1, y1) = points
    box = (int(x1) - int(x0) + 1, int(y1) - int(y0) + 1)
    try:
        with Image.open(BytesIO(base64.b64decode(value, validate=True))) as image:
            if image.size != box:
                found = f"{image.width}x{image.height}"
                raise LabelError(f"{where}: the mask is {found}, but its points span {box[0]}x{box[1]}. {again}")
            mask = np.asarray(image.convert("L")) > 0
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise LabelError(f"{where}: 'mask' is not a PNG in base64 ({error}). {again}") from error
    if not mask.any():
        raise LabelError(f"{where}: the mask is empty. Delete the shape or draw it again.")
    return mask


def _picture_path(content: Mapping[str, Any], path: Path, *, root: Path) -> Path:
    """Find the picture that ``imagePath`` names, never outside the root folder."""
    name, text = path.relative_to(root).as_posix(), content.get("imagePath")
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise LabelError(f"{name}: 'imagePath' is {text!r} and there is no 'imageData'. Save it again in labelme.")
    written = PureWindowsPath(text)  # knows both kinds of slash
    absolute = bool(written.drive or written.root)
    # A whole path is from the machine where it was annotated; here only the file's name means anything.
    target = path.parent / written.name if absolute else path.parent.joinpath(*written.parts)
    if not target.resolve().is_relative_to(root.resolve()):
        raise LabelError(
            f"{name}: imagePath '{text}' leads out of {root}. Name a folder that holds both, or move the picture in."
        )
    try:
        found = target.is_file()
    except OSError:  # such as a name too long for the file system
        found = False
    if not found:
        place = f"is a whole path and '{written.name}' is not beside the file" if absolute else "does not exist"
        raise LabelError(f"{name}: the picture '{text}' {place}. Put it there, or save the file with image data.")
    return target


def _read_picture(content: Mapping[str, Any], where: Path | None, name: str) -> NDArray[np.uint8]:
    if where is not None:
        return read_picture(where, name=f"{name}, picture {where.name}")
    try:
        data = base64.b64decode(content["imageData"], validate=True)
    except (TypeError, ValueError) as error:
        raise LabelError(f"{name}: 'imageData' is not base64 ({error}). Save it again in labelme.") from error
    return read_picture(data, name=f"{name}, imageData")


def _check_size(content: Mapping[str, Any], picture: NDArray[np.uint8], name: str) -> None:
    height, width = picture.shape[:2]
    stated = (content.get("imageWidth"), content.get("imageHeight"))
    # Versions before 4 wrote no size.
    if stated in ((None, None), (width, height)):
        return
    hint = " It was turned after it was annotated." if stated == (height, width) else ""
    raise LabelError(
        f"{name}: the file says {stated[0]}x{stated[1]} pixels, but the picture has {width}x{height}.{hint} "
        "Put back the picture that was annotated."
    )


def _read_origin(content: Mapping[str, Any], beside: Path, name: str) -> sidecar.Origin | None:
    if "cytoseg" in content:
        return sidecar.parse_origin(content["cytoseg"], name=f"{name}, key 'cytoseg'")
    return sidecar.read_sidecar(beside)


def _picture_stem(content: Mapping[str, Any], path: Path) -> str:
    text = content.get("imagePath")
    return PureWindowsPath(text).stem if isinstance(text, str) and PureWindowsPath(text).stem else path.stem
