"""Reading labelme JSON of any version without the labelme package."""

import base64
import contextlib
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cytoseg.errors import LabelError, SlideError
from cytoseg.formats import sidecar
from cytoseg.formats.annotation import POINT_COUNTS, Annotation, Kind, Shape
from cytoseg.formats.json_files import Inspected, Points, check_line, checked_points, kind_of
from cytoseg.formats.picture_path import find_picture, is_renamed
from cytoseg.geometry import Size
from cytoseg.quoting import short_repr
from cytoseg.slides.generated_mark import GeneratedMark, read_mark
from cytoseg.slides.image import read_stored
from cytoseg.slides.orientation import turned
from cytoseg.slides.parser_errors import DAMAGE

ADVICE = "Save it again in labelme."

_X_ANYLABELING: Mapping[str, Kind] = {"rotation": "oriented_rectangle", "quadrilateral": "polygon"}
"""Shapes specific to X-AnyLabeling, whose files are otherwise labelme files."""

_OF_X_ANYLABELING = ("score", "difficult", "kie_linking", "attributes")
"""Keys of a shape that only X-AnyLabeling writes."""

_CORNERS = 4
"""X-AnyLabeling writes four corners of a rectangle, labelme two opposite ones."""

_STANDARD = str.maketrans("-_", "+/")
"""Letters of the URL-safe alphabet of base64 to those of the usual one."""

_CLOSABLE = ("rectangle", "oriented_rectangle")
"""Shapes with a fixed number of corners, after which some programs write the first one again."""

_DATA_URL = re.compile(r"data:[^,]{0,100};base64,", re.IGNORECASE)
_OF_PYTHON = re.compile(r"b(['\"])(.*)\1")  # bytes that were written with str()

MAX_MASKS_PX = 500_000_000
"""Most mask pixels per file, one byte each; more are refused before decoding."""


@dataclass(frozen=True, eq=False)
class LabelmeFile:
    """Content of one labelme file.

    Attributes:
        annotation: The shapes.
        picture: (H, W, 3) uint8 RGB, of the annotation's size.
        stem: The image's file name without suffix.
        origin: Slide and region, if the file or a sidecar states them.
        content: All keys of the file except the image data.
        encoding: Encoding of the file's text.
        renamed: Whether the image with the file's own stem was used instead of ``imagePath``.
        made: The mark of an image that a diffusion model drew or edited.
    """

    annotation: Annotation
    picture: NDArray[np.uint8]
    stem: str
    origin: sidecar.Origin | None
    content: Mapping[str, Any]
    encoding: str = "utf-8"
    renamed: bool = False
    made: GeneratedMark | None = None


def find_labelme(folder: Path, problems: list[str], inspected: Inspected) -> tuple[list[Path], list[Path]]:
    """Find labelme files in a folder tree; hidden files and cytoseg's sidecars are skipped.

    Args:
        folder: Where to look.
        problems: One sentence is added per unreadable JSON file, which might have been one.
        inspected: Keeps the content of the files.

    Returns:
        The labelme files and the other JSON files; both sorted.
    """
    ours: list[Path] = []
    others: list[Path] = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".json"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or path.name.lower().endswith(sidecar.SIDECAR_SUFFIX) or not path.is_file():
            continue
        try:
            content = inspected.inspect(path, name=path.relative_to(folder).as_posix(), advice=ADVICE)
        except LabelError as error:
            problems.append(str(error))
            continue
        is_labelme = isinstance(content, dict) and not {"shapes", "imagePath", "imageData"}.isdisjoint(content)
        (ours if is_labelme else others).append(path)
    return ours, others


def read_labelme(
    path: Path, *, root: Path, problems: list[str], inspected: Inspected | None = None
) -> LabelmeFile | None:
    """Read one labelme file and its image.

    Args:
        path: The JSON file.
        root: Folder that must contain the image; the file's name in messages is relative to it.
        problems: One sentence is added per problem.
        inspected: Content of files that were parsed before.

    Returns:
        The content, or None if a problem was added.
    """
    name = path.relative_to(root).as_posix()
    before = len(problems)
    try:
        file = (inspected or Inspected()).take(path, name=name, advice=ADVICE)
        content = file.content
        if not isinstance(content, dict):
            raise LabelError(f"{name}: holds {kind_of(content)}, not a labelme object. Save it again in labelme.")
    except LabelError as error:
        problems.append(str(error))
        return None
    shapes = read_shapes(content, name, problems)
    try:
        embedded = content.get("imageData") not in (None, "")
        where = None if embedded else find_picture(content.get("imagePath"), path, root=root)
        picture = _read_picture(content, where, name)
        origin = _read_origin(content, where or path, name)
    except (LabelError, SlideError) as error:
        problems.append(str(error))
    if len(problems) > before:
        return None
    annotation = Annotation(name, Size(picture.shape[1], picture.shape[0]), tuple(shapes))
    rest = {key: value for key, value in content.items() if key != "imageData"}
    stem = _written_stem(content, path) if where is None else where.stem
    renamed = where is not None and is_renamed(content.get("imagePath"), where)
    made = _read_generated_mark(content, path, root=root) if where is None else read_mark(where)
    return LabelmeFile(annotation, picture, stem, origin, rest, file.encoding, renamed, made)


def read_shapes(content: Mapping[str, Any], name: str, problems: list[str]) -> list[Shape]:
    """Read the shapes of a labelme file.

    Args:
        content: Its parsed keys.
        name: Its name in messages.
        problems: One sentence is added per invalid shape, and for a missing list.

    Returns:
        The valid shapes in file order.
    """
    entries = content.get("shapes")
    if not isinstance(entries, list):
        found = "is missing" if entries is None else f"is {kind_of(entries)}"
        problems.append(f"{name}: 'shapes' {found}, but must be a list. Save it again in labelme.")
        return []
    shapes: list[Shape] = []
    left_px = MAX_MASKS_PX
    sides = (_side(content.get("imageWidth")), _side(content.get("imageHeight")))
    for number, entry in enumerate(entries, start=1):
        try:
            shapes.append(_at_its_marks(_read_shape(entry, f"{name}, shape {number}", left_px), sides))
            left_px -= 0 if shapes[-1].mask is None else shapes[-1].mask.size
        except LabelError as error:
            problems.append(str(error))
    return shapes


def _read_shape(entry: object, where: str, left_px: int) -> Shape:
    if not isinstance(entry, dict):
        raise LabelError(f"{where}: is {kind_of(entry)}, but must be an object. Delete it or draw it again.")
    label, group_id = entry.get("label"), entry.get("group_id")
    if not isinstance(label, str) or not label.strip():
        raise LabelError(f"{where}: 'label' is {label!r}, but must be a class name. Give it one in labelme.")
    if isinstance(group_id, float) and group_id.is_integer():
        group_id = int(group_id)
    if group_id is not None and type(group_id) is not int:
        raise LabelError(f"{where}: 'group_id' is {group_id!r}, but must be a whole number or null. Fix it in labelme.")
    kind = _read_kind(entry, where)
    points = _read_points(entry.get("points"), kind, where)
    if kind == "rectangle" and len(points) == _CORNERS:
        points, kind = _in_order(points), "oriented_rectangle"
    mask = _read_mask(entry.get("mask"), where, left_px) if kind == "mask" else None
    if mask is not None:
        points = _upper_left_first(points, mask)
    return Shape(label, kind, points, group_id, mask)


def _read_kind(entry: Mapping[str, Any], where: str) -> Kind:
    # Versions before 3.5 wrote no shape type and knew only polygons.
    found = entry.get("shape_type") or "polygon"
    plain = found.lower() if isinstance(found, str) else ""
    for kind in POINT_COUNTS:
        if kind == plain:
            return kind
    if plain in _X_ANYLABELING:
        return _X_ANYLABELING[plain]
    known = ", ".join(POINT_COUNTS)
    if not entry.keys().isdisjoint(_OF_X_ANYLABELING):
        raise LabelError(
            f"{where}: shape_type {short_repr(found)} of X-AnyLabeling is not supported. Convert it to a polygon "
            f"there; supported are {known}, {', '.join(_X_ANYLABELING)}."
        )
    raise LabelError(f"{where}: shape_type {short_repr(found)} is unknown. Draw it again as one of {known}.")


def _read_points(value: object, kind: Kind, where: str) -> Points:
    if not isinstance(value, list) or set(map(type, value)) - {list} or set(map(len, value)) - {2}:
        raise LabelError(
            f"{where}: 'points' must be a list of [x, y], found {short_repr(value)}. Draw the shape again."
        )
    points = checked_points(value, where)
    if kind in _CLOSABLE and len(points) == _CORNERS + 1 and points[0] == points[-1]:
        points = points[:-1]
    if kind == "linestrip":
        check_line(points, where)
    fewest, most = POINT_COUNTS[kind]
    if kind == "rectangle" and len(points) == _CORNERS:
        return points
    if len(points) < fewest or (most is not None and len(points) > most):
        wanted = f"at least {fewest}" if most is None else str(fewest)
        article = "an" if kind.startswith("o") else "a"
        noun = "point" if wanted == "1" else "points"
        raise LabelError(f"{where}: {article} {kind} has {wanted} {noun}, found {len(points)}. Draw the shape again.")
    return points


def _in_order(corners: Points) -> Points:
    """Put the corners of an upright rectangle in order around it; any others stay as they are."""
    (left, right), (top, bottom) = ((min(side), max(side)) for side in zip(*corners, strict=True))
    around = ((left, top), (right, top), (right, bottom), (left, bottom))
    return around if set(around) == set(corners) else corners


def _read_mask(value: object, where: str, left_px: int) -> NDArray[np.bool_]:
    """Decode a mask; its own size is used, because its points may be off by a fraction or a corner."""
    advice = "Draw the shape again."
    if not isinstance(value, str):
        raise LabelError(f"{where}: 'mask' is {kind_of(value)}, but must be a PNG in base64. {advice}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit comes next
            opened = Image.open(BytesIO(_of_base64(value)), formats=("PNG",))
        with opened as image:
            if image.width * image.height > left_px:
                raise LabelError(
                    f"{where}: the mask claims {image.width}x{image.height} px; the masks of one file may total "
                    f"{MAX_MASKS_PX / 1e6:.0f} million. {advice}"
                )
            mask = _foreground(image)
    except UnidentifiedImageError as error:
        raise LabelError(f"{where}: 'mask' is not a PNG. {advice}") from error
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise LabelError(f"{where}: 'mask' is not a PNG in base64 ({error}). {advice}") from error
    if not mask.any():
        raise LabelError(f"{where}: the mask is empty. Delete the shape or draw it again.")
    return mask


def _upper_left_first(corners: Points, mask: NDArray[np.bool_]) -> Points:
    """Put the corners of a mask's box in order if they are as far apart as its sides."""
    (left, right), (top, bottom) = (sorted(side) for side in zip(*corners, strict=True))
    apart = np.array((bottom - top, right - left))
    # From pixel to pixel, as labelme writes them, or from edge to edge.
    return ((left, top), (right, bottom)) if np.all(np.abs(apart - mask.shape) <= 1.5) else corners


def _at_its_marks(shape: Shape, sides: tuple[object, object]) -> Shape:
    """Place a mask as large as its image at the image's corner if its points are the box around its marks.

    labelme crops a mask to its box. Some programs write the box but do not crop.
    """
    if shape.mask is None or shape.mask.shape[::-1] != sides:
        return shape
    columns, rows = (np.flatnonzero(shape.mask.any(axis=axis)) for axis in (0, 1))
    around = ((columns[0], rows[0]), (columns[-1], rows[-1]))
    is_box = np.all(np.abs(np.array(shape.points) - np.array(around)) <= 1)
    return replace(shape, points=((0.0, 0.0), shape.points[1])) if is_box else shape


def _foreground(image: Image.Image) -> NDArray[np.bool_]:
    """Find the marked pixels of a mask: by brightness, by transparency if all are black, otherwise by value."""
    pixels = np.asarray(image)
    marked: NDArray[np.bool_] = pixels != 0
    bright: NDArray[np.bool_]
    if image.mode == "P":
        colours = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        table = np.zeros(256, np.bool_)
        table[: len(colours)] = np.any(colours, axis=1)
        bright = table[pixels]
        return bright if bright.any() and not bright.all() else marked
    if image.mode not in ("LA", "RGB", "RGBA"):
        return marked
    opaque: NDArray[np.bool_] = pixels[..., -1] > 0 if image.mode != "RGB" else np.ones(pixels.shape[:2], np.bool_)
    bright = opaque & np.any(pixels[..., : 1 if image.mode == "LA" else 3], axis=-1)
    by_alpha = not bright.any() and not opaque.all()
    return opaque if by_alpha else bright


def _read_picture(content: Mapping[str, Any], where: Path | None, name: str) -> NDArray[np.uint8]:
    """Read the image as the annotator saw it.

    labelme turns the image of a file upright, which old versions did not, and shows embedded data as stored. The size
    in the labelme file decides; if it fits both ways, today's labelme does.

    Raises:
        LabelError: If the image has another size, or the embedded data is not base64.
        SlideError: If it cannot be read.
    """
    if where is not None:
        stored, turn = read_stored(where, name=f"{name}, image {where.name}")
        ways = (turned(stored, turn), stored)
    else:
        try:
            data = _of_base64(content["imageData"])
        except ValueError as error:
            raise LabelError(f"{name}: 'imageData' is not base64 ({error}). Save it again in labelme.") from error
        stored, turn = read_stored(data, name=f"{name}, imageData")
        ways = (stored, turned(stored, turn))
    stated = (_side(content.get("imageWidth")), _side(content.get("imageHeight")))
    for picture in ways:
        height, width = picture.shape[:2]
        if all(side in (None, real) for side, real in zip(stated, (width, height), strict=True)):
            return picture
    raise _other_size(stated, ways[0], name)


def _read_generated_mark(content: Mapping[str, Any], path: Path, *, root: Path) -> GeneratedMark | None:
    """Read the mark of an embedded image, or of its file if it is there: labelme embeds an image without its text."""
    made = read_mark(_of_base64(content["imageData"]))
    if made is None:
        with contextlib.suppress(LabelError):
            made = read_mark(find_picture(content.get("imagePath"), path, root=root))
    return made


def _of_base64(text: object) -> bytes:
    """Decode base64 in either alphabet, possibly with line breaks, without padding, or as a data URL.

    Raises:
        ValueError: If it is something else.
    """
    if not isinstance(text, str):
        raise ValueError(f"it is {kind_of(text)}")
    text = "".join(text.split())
    if found := _OF_PYTHON.fullmatch(text):
        text = found[2]
    text = _DATA_URL.sub("", text, count=1).rstrip("=").translate(_STANDARD)
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _other_size(stated: tuple[object, object], picture: NDArray[np.uint8], name: str) -> LabelError:
    height, width = picture.shape[:2]
    hint = " It was rotated after annotation." if stated == (height, width) else ""
    return LabelError(
        f"{name}: the file says {stated[0]}x{stated[1]} pixels, but the image has {width}x{height}.{hint} "
        "Restore the image that was annotated."
    )


def _side(value: object) -> object:
    """Return a stated side; None if there is none: labelme 3 wrote none, X-AnyLabeling writes -1 for an unknown one."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < len(str(MAX_MASKS_PX)):
        value = int(value)
    return None if value in (None, 0, -1) else value


def _read_origin(content: Mapping[str, Any], beside: Path, name: str) -> sidecar.Origin | None:
    if "cytoseg" in content:
        return sidecar.parse_origin(content["cytoseg"], name=f"{name}, key 'cytoseg'")
    return sidecar.read_sidecar(beside)


def _written_stem(content: Mapping[str, Any], path: Path) -> str:
    text = content.get("imagePath")
    return PureWindowsPath(text).stem if isinstance(text, str) and PureWindowsPath(text).stem else path.stem
