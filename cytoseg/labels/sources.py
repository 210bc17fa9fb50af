"""Read crops from what a user named, labelme files or masks, and gather what is wrong with them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import LabelError, report
from cytoseg.labels import sidecar
from cytoseg.labels.annotation import HOLE, UNSCORED, Annotation, AreaRule, Shape, paint_collecting
from cytoseg.labels.labelme import find_labelme, read_labelme
from cytoseg.labels.masks import MaskPair, find_pairs, has_masks, read_pair


@dataclass(frozen=True)
class ImportRules:
    """How an import treats names and edges.

    Attributes:
        class_map: Class name in the files -> name in the class list.
        ignore: Class names in the files that become ignore.
        slide_regex: Finds the slide in a picture's stem where no sidecar names it: its one group, or the whole match.
            None takes the stem itself.
        area: How polygons and other areas are filled, see `annotation.AreaRule`.
    """

    class_map: Mapping[str, str] = field(default_factory=dict)
    ignore: Sequence[str] = ()
    slide_regex: str | None = None
    area: AreaRule = "centre"


@dataclass(frozen=True, eq=False)
class Reading:
    """One crop as read.

    Attributes:
        crop: Its id, the stem of the labelme file or mask.
        stem: The picture's stem.
        source: What messages call the file.
        picture: (H, W, 3) uint8 RGB.
        label_map: (H, W) uint8 ids, 255 for ignore.
        origin: Slide and region, where something says.
    """

    crop: str
    stem: str
    source: str
    picture: NDArray[np.uint8]
    label_map: NDArray[np.uint8]
    origin: sidecar.Origin | None


@dataclass(frozen=True, eq=False)
class Job:
    """What is known before an import, and what is found out on the way.

    Attributes:
        root: Folder that names in messages are relative to and that pictures must lie in.
        classes: The class list.
        rules: The user's.
        problems: Any one stops the import.
        notes: What the user should know.
        names: Class names as found in the files, with how often.
        unknown: Those that are not in the class list, after renaming, with how often.
        first: Where each of the unknown ones stands first.
        unmarked: Files without a shape.
        polygons: How many look ``traced`` from pixel indices, how many ``drawn``.
    """

    root: Path
    classes: ClassList
    rules: ImportRules
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    names: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    unmarked: list[str] = field(default_factory=list)
    polygons: Counter[str] = field(default_factory=Counter)


def check_rules(rules: ImportRules, classes: ClassList) -> None:
    """Refuse rules that cannot work, before any file is read.

    Raises:
        LabelError: If a name to map to is unknown, a name is both mapped and ignored, or the pattern is none.
    """
    known = ", ".join(classes.names)
    problems = [
        f"--map {old}={new}: '{new}' is not in the class list ({known}). Map to one of these."
        for old, new in rules.class_map.items()
        if new not in (*classes.names, HOLE, UNSCORED)
    ]
    problems += [
        f"'{name}' stands in both --map and --ignore. Leave it out of one."
        for name in rules.ignore
        if name in rules.class_map
    ]
    try:
        groups = re.compile(rules.slide_regex or "").groups
    except re.error as error:
        problems.append(f"--slide-regex '{rules.slide_regex}' is not a regular expression ({error}). Correct it.")
    else:
        if groups > 1:
            problems.append(
                f"--slide-regex '{rules.slide_regex}' has {groups} groups. Keep one, the slide; use (?:...)."
            )
    if problems:
        raise LabelError(report(problems, what="label-import"))


def find_items(source: Path, job: Job) -> Sequence[Path | MaskPair]:
    """Find what is to be imported: labelme files if there are any, else masks.

    Args:
        source: What the user named.
        job: Gathers problems, and notes of what is left out.

    Returns:
        Labelme files, or pairs of picture and mask; empty only if there are problems.

    Raises:
        LabelError: If there is nothing to import.
    """
    if not source.exists():
        raise LabelError(f"{source}: does not exist. Name a labelme file or a folder.")
    if source.is_file():
        if source.suffix.lower() != ".json":
            raise LabelError(f"{source}: is not a labelme JSON file. Name one, or a folder of them or of masks.")
        return [source]
    files, others = find_labelme(source, job.problems)
    if others:
        names = ", ".join(p.relative_to(source).as_posix() for p in others[:5]) + (", ..." if len(others) > 5 else "")
        job.notes.append(f"JSON files left out because they are not labelme's: {len(others)} ({names}).")
    if files:
        if has_masks(source):
            job.notes.append("Folders named masks were left out because there are labelme files.")
        return files
    pairs = find_pairs(source, job.problems)
    if not pairs and not job.problems:
        raise LabelError(f"{source}: holds neither labelme JSON nor images/ beside masks/. Name the folder that does.")
    return pairs


def read_item(item: Path | MaskPair, job: Job) -> Reading | None:
    """Read one labelme file or pair.

    Args:
        item: As `find_items` gave it.
        job: Gathers problems and names.

    Returns:
        The crop, or None if a problem was added.
    """
    return _read_labelme_item(item, job) if isinstance(item, Path) else _read_mask_item(item, job)


def _read_labelme_item(path: Path, job: Job) -> Reading | None:
    file = read_labelme(path, root=job.root, problems=job.problems)
    if file is None:
        return None
    before, annotation = len(job.problems), _renamed(file.annotation, job)
    if not annotation.shapes:
        job.unmarked.append(annotation.name)
    label_map = paint_collecting(annotation, job.classes, area=job.rules.area, problems=job.problems)
    if len(job.problems) > before:
        return None
    return Reading(path.stem, file.stem, annotation.name, file.picture, label_map, file.origin)


def _renamed(annotation: Annotation, job: Job) -> Annotation:
    """Apply the rules to all labels; unknown ones are counted and, so that painting goes on, become ignore."""
    shapes = []
    for where, shape in annotation.placed():
        job.names[shape.label] += 1
        if shape.kind == "polygon":
            job.polygons["traced" if _looks_traced(shape) else "drawn"] += 1
        label = _resolve(shape.label, job.rules)
        if label not in (*job.classes.names, HOLE, UNSCORED):
            job.unknown[label] += 1
            job.first.setdefault(label, where)
            label = UNSCORED
        shapes.append(replace(shape, label=label))
    return replace(annotation, shapes=tuple(shapes))


def _looks_traced(shape: Shape) -> bool:
    """Tell whether a program seems to have made a polygon from pixel indices.

    Corners at whole numbers alone may also be the corners of pixels; but between those all edges run along an axis.
    """
    points = np.array(shape.points)
    slanted = np.all(np.diff(points, axis=0, append=points[:1]) != 0, axis=1)
    return bool(np.all(points == np.rint(points)) and slanted.any())


def _resolve(name: str, rules: ImportRules) -> str:
    return UNSCORED if name in rules.ignore else rules.class_map.get(name, name)


def _read_mask_item(pair: MaskPair, job: Job) -> Reading | None:
    both = read_pair(pair, job.classes, job.problems)
    if both is None:
        return None
    try:
        origin = sidecar.read_sidecar(pair.picture)
    except LabelError as error:
        job.problems.append(str(error))
        return None
    ids = {name: i for i, name in enumerate(job.classes.names)} | {HOLE: job.classes.fill_id, UNSCORED: IGNORE}
    table = np.full(256, IGNORE, np.uint8)
    for i, name in enumerate(job.classes.names):
        table[i] = ids[_resolve(name, job.rules)]
        job.names[name] += int(np.count_nonzero(both[1] == i))
    return Reading(pair.picture.stem, pair.picture.stem, pair.name, both[0], table[both[1]], origin)


def unknown_message(job: Job) -> str:
    """List all unknown class names with counts in one sentence, and say what to do."""
    names = job.classes.names
    found = ", ".join(
        f"'{n}' ({c} {'shape' if c == 1 else 'shapes'}, first {job.first[n]})" for n, c in job.unknown.most_common()
    )
    close = {name: get_close_matches(name, names, n=1, cutoff=0.7) for name in job.unknown}
    example = next(((name, match[0]) for name, match in close.items() if match), (next(iter(close)), names[0]))
    return (
        f"labels not in the class list ({', '.join(names)}): {found}. Rename with --map {example[0]}={example[1]}, "
        f"leave them unscored with --ignore {example[0]}, or add them to the recipe."
    )
