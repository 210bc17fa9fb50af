"""API: annotated images as arrays."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoseg.api.arguments import as_path, as_texts
from cytoseg.api.arrays import as_class_names
from cytoseg.classes import ClassList
from cytoseg.errors import ArrayError, LabelError
from cytoseg.labels.import_labels import import_labels
from cytoseg.labels.import_settings import ImportRules
from cytoseg.labels.index import LabelIndex, has_index, load_index
from cytoseg.quoting import short_repr


@dataclass(frozen=True, eq=False)
class Labels:
    """Annotated images.

    Attributes:
        images: (H, W, 3) uint8 RGB each.
        label_maps: (H, W) uint8 class ids each, 255 for ignore.
        groups: The slide of each image.
        names: Name of each image.
        classes: Names of the classes, by id.
    """

    images: list[NDArray[np.uint8]]
    label_maps: list[NDArray[np.uint8]]
    groups: list[str]
    names: list[str]
    classes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Labels({len(self.images)} images of {len(set(self.groups))} groups, classes={self.classes})"


def read_labels(
    path: str | PathLike[str],
    classes: Sequence[str] | None = None,
    *,
    fill: str | None = None,
    renames: Mapping[str, str] | None = None,
    ignore: Sequence[str] = (),
    slide_regex: str | None = None,
) -> Labels:
    """Read annotated images as arrays.

    Args:
        path: A labelme or GeoJSON file, a folder of them, a folder with ``images/`` and ``masks/``, or the ``labels``
            folder of a run.
        classes: Names of the classes, by id; not needed for a run's labels folder.
        fill: Class of unmarked pixels; None means ignore.
        renames: Class names in the files to names of the class list, like ``--map``.
        ignore: Class names in the files that become ignore, like ``--ignore``.
        slide_regex: Extracts the slide from an image's name if there is no sidecar.

    Raises:
        LabelError: Lists all problems of the files; or if the class names are missing or another argument is wrong.
    """
    source = as_path(path, error=LabelError)
    if has_index(source):
        index = load_index(source)
        if classes is not None and _names(classes, source) != index.classes:
            raise LabelError(f"{source}: has the classes ({', '.join(index.classes)}). Leave `classes` out.")
        return _read(index)
    names = _names(classes, source)
    if fill is not None and fill not in names:
        raise LabelError(f"fill: {fill!r} is not in the class list ({', '.join(names)}).")
    class_list = ClassList(names, ((0, 0, 0),) * len(names), fill)
    rules = _rules(renames or {}, ignore, slide_regex)
    with tempfile.TemporaryDirectory() as folder:
        imported = Path(folder) / "labels"
        import_labels(source, imported, classes=class_list, rules=rules)
        return _read(load_index(imported))


def _names(classes: object, source: Path) -> tuple[str, ...]:
    try:
        return as_class_names(classes)
    except ArrayError as error:
        needed = "read_labels needs the class names, each once: classes=['background', 'nucleus']."
        raise LabelError(f"{source}: {needed}") from error


def _rules(renames: object, ignore: object, slide_regex: object) -> ImportRules:
    if not isinstance(renames, Mapping):
        raise LabelError(f"renames: found {short_repr(renames)}, but a table is wanted: {{'old name': 'new name'}}.")
    for name, texts in (("renames (keys)", renames), ("renames (values)", renames.values())):
        as_texts(list(texts), name=name, error=LabelError)
    if slide_regex is not None and not isinstance(slide_regex, str):
        raise LabelError(f"slide_regex: found {short_repr(slide_regex)}, but a regular expression is wanted, as text.")
    return ImportRules(renames, tuple(as_texts(ignore, name="ignore", error=LabelError)), slide_regex)


def _read(index: LabelIndex) -> Labels:
    crops = index.crops
    return Labels(
        [crop.picture() for crop in crops],
        [crop.label_map() for crop in crops],
        [crop.slide for crop in crops],
        [crop.crop for crop in crops],
        index.classes,
    )
