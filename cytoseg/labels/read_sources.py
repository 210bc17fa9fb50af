"""Reading crops to import from labelme files, GeoJSON or masks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import IGNORE
from cytoseg.errors import LabelError, SlideError
from cytoseg.formats import sidecar
from cytoseg.formats.annotation import HOLE, UNSCORED, Annotation, AreaRule, Shape, paint_collecting
from cytoseg.formats.encodings import is_unicode
from cytoseg.formats.instance_maps import find_instance_maps, read_instance_map
from cytoseg.formats.json_files import load_json
from cytoseg.formats.labelme import find_labelme, read_labelme
from cytoseg.formats.masks import MaskPair, find_pairs, has_folder, read_pair, white_id
from cytoseg.formats.packed import GEOJSON, is_geojson_name
from cytoseg.formats.qupath import is_geojson, read_geojson
from cytoseg.labels.corrections import Correction, correction_of
from cytoseg.labels.import_settings import NOTHING, Job, resolve
from cytoseg.labels.original_annotation import Kept
from cytoseg.labels.proposal import is_saved
from cytoseg.labels.queue_file import QUEUE
from cytoseg.labels.slide_crops import SlideCrop, cut, plan_crops

Item = Path | MaskPair | SlideCrop
"""A labelme file, a picture with its mask, or a crop to be cut from a slide."""


@dataclass(frozen=True, eq=False)
class Reading:
    """One crop as read.

    Attributes:
        crop: Its id: the stem of the labelme file or mask, or slide and position; for a correction, the crop it
            corrects.
        stem: The picture's stem.
        source: Name of the file in messages.
        picture: (H, W, 3) uint8 RGB.
        label_map: (H, W) uint8 ids, 255 for ignore.
        kept: Slide and region, if known, and the original shapes.
        correction: Author of the correction, if it is one.
        proposed: Whether the file began as a proposal.
        plain: Its id without the folder; empty unless it is named by folder.
        folder: Name of that folder.
    """

    crop: str
    stem: str
    source: str
    picture: NDArray[np.uint8]
    label_map: NDArray[np.uint8]
    kept: Kept
    correction: Correction | None = None
    proposed: bool = False
    plain: str = ""
    folder: str = ""


def _nothing_in(source: Path) -> LabelError:
    """Describe a folder without annotations, which may just not be drawn yet."""
    waiting = sum(1 for _ in source.glob(f"**/*{sidecar.SUFFIX}"))
    if waiting:
        return LabelError(
            f"{source}: nothing is annotated yet, {waiting} crops wait. Open them in labelme, mark what you are sure "
            "of and save, then import again."
        )
    return LabelError(
        f"{source}: contains neither labelme JSON nor GeoJSON nor images/ and masks/. Name a folder that does."
    )


def find_items(source: Path, job: Job) -> Sequence[Item]:
    """Find the files to import: labelme and GeoJSON if there are any, otherwise masks.

    Args:
        source: Path given by the user.
        job: Collects problems and notes.

    Returns:
        One item per crop; empty only if there are problems.

    Raises:
        LabelError: If there is nothing to import.
    """
    if not source.exists():
        raise LabelError(f"{source}: does not exist. Name a labelme or GeoJSON file, or a folder.")
    if job.rules.instances is not None:
        return find_instance_maps(source, job.problems)
    if source.is_file():
        return _of_file(source, job)
    files, others = find_labelme(source, job.problems)
    slides = [path for path in others if _marks_slide(path)] + _geojson_files(source)
    others = [path for path in others if path not in slides and path.name != QUEUE]
    proposed, files = files, _saved(files, job)
    if others:
        names = ", ".join(p.relative_to(source).as_posix() for p in others[:5]) + (", ..." if len(others) > 5 else "")
        job.notes.append(f"JSON files skipped (neither labelme nor GeoJSON): {len(others)} ({names}).")
    if files or slides:
        if has_folder(source):
            job.notes.append("Folders named masks were skipped because there are labelme or GeoJSON files.")
        return [*files, *(item for path in sorted(slides) for item in _planned(path, job))]
    if proposed and not job.problems:
        raise LabelError(f"{source}: {job.notes[0]}")
    pairs = find_pairs(source, job.problems)
    if not pairs and not job.problems:
        raise _nothing_in(source)
    white = _ids(job).get(resolve(str(IGNORE), job.rules))
    if white is None:
        white = white_id(pairs, job.classes)
    return [replace(pair, white=white) for pair in pairs]


def _of_file(source: Path, job: Job) -> Sequence[Item]:
    if source.suffix.lower() not in (".json", GEOJSON, ".gz", ".zip"):
        raise LabelError(f"{source}: is not a labelme JSON or GeoJSON file. Name one, or a folder of them or of masks.")
    if _marks_slide(source):
        return _planned(source, job)
    if not _saved([source], job):
        raise LabelError(f"{source}: {job.notes[0]}")
    return [source]


def _saved(files: list[Path], job: Job) -> list[Path]:
    """Skip unsaved proposals: the model must not be trained on its own predictions."""
    found = {path: is_saved(path) for path in files}
    job.proposals.update(path for path, saved in found.items() if saved is not None)
    untouched = [path for path, saved in found.items() if saved is False]
    if untouched:
        job.notes.append(
            f"Unsaved proposals skipped: {len(untouched)} (first {untouched[0].name}). "
            "Save them in labelme to import them, even if nothing needs correcting."
        )
    return [path for path in files if path not in untouched]


def _marks_slide(path: Path) -> bool:
    """Return whether a file is GeoJSON; damaged JSON is left to the labelme reader, which reports it."""
    if path.suffix.lower() != ".json":
        return True
    try:
        return is_geojson(load_json(path, name=path.name, again=""))
    except LabelError:
        return False


def _geojson_files(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file() and is_geojson_name(path))
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _planned(path: Path, job: Job) -> list[SlideCrop]:
    file = read_geojson(path, name=path.relative_to(job.root).as_posix(), problems=job.problems)
    if file is None:
        return []
    return plan_crops(file, path, job.rules.slides, problems=job.problems, notes=job.notes)


def read_item(item: Item, job: Job) -> Reading | None:
    """Read one crop.

    Args:
        item: From `find_items`.
        job: Collects problems and names.

    Returns:
        The crop, or None if a problem was added.
    """
    match item:
        case Path():
            return _read_labelme_item(item, job)
        case MaskPair():
            return _read_mask_item(item, job) if job.rules.instances is None else _read_instance_item(item, job)
        case SlideCrop():
            return _read_slide_item(item, job)


def _read_labelme_item(path: Path, job: Job) -> Reading | None:
    file = read_labelme(path, root=job.root, problems=job.problems)
    if file is None:
        return None
    if file.renamed:
        job.renamed.append(file.annotation.name)
    if not is_unicode(file.encoding):
        job.guessed[file.annotation.name] = file.encoding
    try:
        correction = correction_of(file.content, file.annotation.name)
    except LabelError as error:
        job.problems.append(str(error))
        return None
    for shape in file.annotation.shapes:
        # Proposals have integer corners, but were not traced from pixel indices.
        if shape.kind == "polygon" and path not in job.proposals:
            job.polygons["traced" if _looks_traced(shape) else "drawn"] += 1
    # A correction follows pixel edges, so its outline is not half a pixel too small.
    label_map = _painted(file.annotation, job, area=job.rules.area if correction is None else "centre")
    if label_map is None:
        return None
    kept, crop = Kept(file.origin, labelme=file.content), path.stem if correction is None else correction.crop
    return Reading(
        crop, file.stem, file.annotation.name, file.picture, label_map, kept, correction, path in job.proposals
    )


def _read_slide_item(item: SlideCrop, job: Job) -> Reading | None:
    try:
        picture, annotation, inside = cut(item, area=job.rules.area)
    except SlideError as error:
        job.problems.append(str(error))
        return None
    label_map = _painted(annotation, job, area=job.rules.area)
    if label_map is None:
        return None
    label_map[~inside] = IGNORE
    frame = None if item.frame is None else item.features.index(item.frame)
    kept = Kept(item.origin, features=tuple(feature.raw for feature in item.features), area=item.region, frame=frame)
    return Reading(item.crop, item.slide.stem, item.source, picture, label_map, kept)


def _painted(annotation: Annotation, job: Job, *, area: AreaRule) -> NDArray[np.uint8] | None:
    """Apply the rules and paint; return None if a problem was added."""
    before, annotation = len(job.problems), _renamed(annotation, job)
    if not annotation.shapes:
        job.unmarked.append(annotation.name)
    label_map = paint_collecting(annotation, job.classes, area=area, problems=job.problems)
    return label_map if len(job.problems) == before else None


def _renamed(annotation: Annotation, job: Job) -> Annotation:
    """Apply the rules to all labels; unknown ones are counted and become ignore so that painting continues."""
    shapes = []
    for where, shape in annotation.placed():
        job.names[shape.label] += 1
        label = resolve(shape.label, job.rules)
        if label not in (*job.classes.names, HOLE, UNSCORED):
            job.unknown[label] += 1
            job.first.setdefault(label, where)
            label = UNSCORED
        shapes.append(replace(shape, label=label))
    return replace(annotation, shapes=tuple(shapes))


def _looks_traced(shape: Shape) -> bool:
    """Return whether a polygon appears to have been traced from pixel indices.

    Integer corners alone may also be pixel corners; but then all edges are parallel to an axis.
    """
    points = np.array(shape.points)
    slanted = np.all(np.diff(points, axis=0, append=points[:1]) != 0, axis=1)
    return bool(np.all(points == np.rint(points)) and slanted.any())


def _kept(picture: Path, job: Job) -> Kept | None:
    """Read the sidecar of a picture; return None if a problem was added."""
    try:
        return Kept(sidecar.read_sidecar(picture))
    except LabelError as error:
        job.problems.append(str(error))
        return None


def _read_instance_item(pair: MaskPair, job: Job) -> Reading | None:
    read, kept = read_instance_map(pair, job.problems), _kept(pair.picture, job)
    if read is None or kept is None:
        return None
    picture, objects, count = read
    wanted, nothing = job.rules.instances, resolve(NOTHING, job.rules)
    assert wanted is not None
    ids = _ids(job)
    label_map = np.where(objects, ids[wanted], ids[HOLE if nothing == NOTHING else nothing]).astype(np.uint8)
    job.instances.append(count)
    job.names[NOTHING] += int(np.count_nonzero(~objects))
    return Reading(pair.picture.stem, pair.picture.stem, pair.name, picture, label_map, kept)


def _read_mask_item(pair: MaskPair, job: Job) -> Reading | None:
    both, kept = read_pair(pair, job.classes, job.problems), _kept(pair.picture, job)
    if both is None or kept is None:
        return None
    table = np.full(256, IGNORE, np.uint8)
    for i, name in enumerate(job.classes.names):
        table[i] = _ids(job)[resolve(name, job.rules)]
        job.names[name] += int(np.count_nonzero(both[1] == i))
    if white := int(np.count_nonzero(both[1] == IGNORE)):
        assert pair.white is not None  # refused by read_pair
        table[IGNORE] = IGNORE if pair.white == IGNORE else table[pair.white]
        job.names[str(IGNORE)] += white
        job.white[int(table[IGNORE])] += white
    return Reading(pair.picture.stem, pair.picture.stem, pair.name, both[0], table[both[1]], kept)


def _ids(job: Job) -> dict[str, int]:
    """Return the ids of all names that pixels can map to."""
    return {name: i for i, name in enumerate(job.classes.names)} | {HOLE: job.classes.fill_id, UNSCORED: IGNORE}
