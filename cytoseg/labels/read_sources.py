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
from cytoseg.formats.compressed_text import GEOJSON, is_packed, json_members, plain_stems
from cytoseg.formats.encodings import is_unicode
from cytoseg.formats.instance_maps import find_instance_maps, read_instance_map
from cytoseg.formats.labelme import find_labelme, read_labelme
from cytoseg.formats.mask_pairs import (
    MaskPair,
    find_array_pairs,
    find_pairs,
    find_voc_pairs,
    has_folder,
    read_pair,
    white_id,
    without_masks,
)
from cytoseg.formats.qupath import read_geojson
from cytoseg.labels.corrections import Correction, correction_of
from cytoseg.labels.find_geojson import PACKED_JSON, holds_geojson, packed_or_named
from cytoseg.labels.import_settings import NOTHING, ImportState, in_class_list, resolve, values_named
from cytoseg.labels.original_annotation import OriginalAnnotation
from cytoseg.labels.proposal_file import SEAL, is_saved
from cytoseg.labels.queue_file import QUEUE_NAME
from cytoseg.labels.slide_crops import SlideCrop, cut, plan_crops
from cytoseg.patterns import composed
from cytoseg.slides.generated_mark import GeneratedMark, read_mark

_READ = (".json", GEOJSON, PACKED_JSON, f"{GEOJSON}.gz", ".zip")

Item = Path | MaskPair | SlideCrop
"""A labelme file, an image with its mask, or a crop to be cut from a slide."""


@dataclass(frozen=True, eq=False)
class ReadCrop:
    """One crop as read.

    Attributes:
        crop: Its id: the stem of the labelme file or mask, or slide and position; for a correction, the crop it
            corrects.
        stem: The image's stem.
        source: Name of the file in messages.
        picture: (H, W, 3) uint8 RGB.
        label_map: (H, W) uint8 ids, 255 for ignore.
        original: Slide and region, if known, and the original shapes.
        correction: Author of the correction, if it is one.
        proposed: Whether the file began as a proposal.
        plain: Its id without the folder; empty unless it is named by folder.
        folder: Name of that folder.
        made: The mark of an image that a diffusion model drew or edited.
    """

    crop: str
    stem: str
    source: str
    picture: NDArray[np.uint8]
    label_map: NDArray[np.uint8]
    original: OriginalAnnotation
    correction: Correction | None = None
    proposed: bool = False
    plain: str = ""
    folder: str = ""
    made: GeneratedMark | None = None


def _nothing_in(source: Path) -> LabelError:
    """Describe a folder without annotations, which may just not be drawn yet."""
    waiting = sum(1 for _ in source.glob(f"**/*{sidecar.SIDECAR_SUFFIX}"))
    if waiting:
        return LabelError(
            f"{source}: nothing is annotated yet, {waiting} crops wait. Open them in labelme, mark what you are sure "
            "of and save, then import again."
        )
    packed = _packed_files(source)
    found = f" It holds packed files ({_names(packed, source)}): unpack them." if packed else ""
    return LabelError(
        f"{source}: contains neither labelme JSON nor GeoJSON nor images/ and masks/ nor images beside .npy files."
        f"{found} Name a folder that does."
    )


def find_items(source: Path, state: ImportState) -> Sequence[Item]:
    """Find the files to import: labelme and GeoJSON if there are any, otherwise masks.

    Args:
        source: Path given by the user.
        state: Collects problems and notes.

    Returns:
        One item per crop; empty only if there are problems.

    Raises:
        LabelError: If there is nothing to import.
    """
    if not source.exists():
        raise LabelError(f"{source}: does not exist. Name a labelme or GeoJSON file, or a folder.")
    if state.rules.instances is not None:
        _refuse_mask_options(state)
        maps = find_instance_maps(source, state.problems)
        _note_without_masks(source, maps, state)
        return maps
    if source.is_file():
        return _of_file(source, state)
    files, others = find_labelme(source, state.problems, state.inspected)
    slides = [path for path in others if holds_geojson(path, state.inspected)]
    slides += packed_or_named(source, state.inspected)
    others = [path for path in others if path not in slides and path.name != QUEUE_NAME]
    proposed, files = files, _saved(files, state)
    if others:
        state.notes.append(
            f"JSON files skipped (neither labelme nor GeoJSON): {len(others)} ({_names(others, source)})."
        )
    if files or slides:
        _refuse_mask_options(state)
        _note_skipped(source, slides, state)
        return [*files, *(item for path in sorted(slides) for item in _planned(path, state))]
    if proposed and not state.problems:
        raise LabelError(f"{source}: {state.notes[0]}")
    return _pairs_in(source, state)


def _pairs_in(source: Path, state: ImportState) -> list[MaskPair]:
    """Find masks in the first layout that a folder has, and decide what 255 means in them."""
    pairs = find_pairs(source, state.problems)
    _note_without_masks(source, pairs, state)
    published = [] if pairs or state.problems else find_voc_pairs(source, state.problems)
    if not (pairs or published or state.problems):
        published = find_array_pairs(source, state.problems, state.notes)
    if not (pairs or published or state.problems):
        raise _nothing_in(source)
    white = _ids(state).get(resolve(str(IGNORE), state.rules))
    if white is None:
        white = IGNORE if published else white_id(pairs, state.classes)
    values = values_named(state.rules, state.classes)
    return [replace(pair, white=white, values=values) for pair in pairs or published]


def _note_without_masks(source: Path, pairs: Sequence[MaskPair], state: ImportState) -> None:
    left = without_masks(source, pairs) if pairs else []
    if left:
        state.notes.append(f"Images skipped because their folder has no masks: {len(left)} ({_names(left, source)}).")


def _refuse_mask_options(state: ImportState) -> None:
    if state.rules.resize_px is not None:
        raise LabelError("--resize: only resizes images with masks or .npy files beside them. Omit it.")
    if state.rules.least_px:
        raise LabelError("--ignore-below: only applies to masks and .npy files beside images. Omit it.")


def _of_file(source: Path, state: ImportState) -> Sequence[Item]:
    if not source.name.lower().endswith(_READ):
        if is_packed(source):
            raise LabelError(f"{source}: this archive format is not supported. Unpack it, and name the folder.")
        raise LabelError(f"{source}: is not a labelme JSON or GeoJSON file. Name one, or a folder of them or of masks.")
    _refuse_mask_options(state)
    if holds_geojson(source, state.inspected):
        return _planned(source, state)
    if not _saved([source], state):
        raise LabelError(f"{source}: {state.notes[0]}")
    return [source]


def _saved(files: list[Path], state: ImportState) -> list[Path]:
    """Skip unsaved proposals: the model must not be trained on its own predictions."""
    found = {path: is_saved(path) for path in files if _may_be_proposal(path, state)}
    state.proposals.update(path for path, saved in found.items() if saved is not None)
    untouched = [path for path, saved in found.items() if saved is False]
    if untouched:
        state.notes.append(
            f"Unsaved proposals skipped: {len(untouched)} (first {untouched[0].name}). "
            "Save them in labelme to import them, even if nothing needs correcting."
        )
    return [path for path in files if path not in untouched]


def _may_be_proposal(path: Path, state: ImportState) -> bool:
    """Return whether a file must be inspected as a proposal; content that is kept tells without reading it again."""
    content = state.inspected.kept(path)
    return not isinstance(content, dict) or SEAL in content


def _note_skipped(source: Path, read: Sequence[Path], state: ImportState) -> None:
    if packed := [path for path in _packed_files(source) if path not in read]:
        state.notes.append(f"Packed files skipped: {len(packed)} ({_names(packed, source)}). Unpack them.")
    if has_folder(source):
        state.notes.append("Folders named masks were skipped because there are labelme or GeoJSON files.")


def _packed_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if is_packed(path) and path.is_file())


def _names(paths: Sequence[Path], root: Path) -> str:
    return ", ".join(path.relative_to(root).as_posix() for path in paths[:5]) + (", ..." if len(paths) > 5 else "")


def _planned(path: Path, state: ImportState) -> list[SlideCrop]:
    """Plan the crops of a GeoJSON file, or of each that a .zip holds."""
    name, members = path.relative_to(state.root).as_posix(), json_members(path)
    several = members if len(members) > 1 else (None,)
    found = []
    for member in several:
        where = name if member is None else f"{name}/{member}"
        file = read_geojson(path, name=where, problems=state.problems, member=member, inspected=state.inspected)
        if file is not None:
            stems, rules = plain_stems(path, member), state.rules.slides
            crops = plan_crops(file, stems, rules, beside=path.parent, problems=state.problems, notes=state.notes)
            found += crops
    return found


def read_item(item: Item, state: ImportState) -> ReadCrop | None:
    """Read one crop.

    Args:
        item: From `find_items`.
        state: Collects problems and names.

    Returns:
        The crop, or None if a problem was added.
    """
    match item:
        case Path():
            return _read_labelme_item(item, state)
        case MaskPair():
            return _read_mask_item(item, state) if state.rules.instances is None else _read_instance_item(item, state)
        case SlideCrop():
            return _read_slide_item(item, state)


def _read_labelme_item(path: Path, state: ImportState) -> ReadCrop | None:
    file = read_labelme(path, root=state.root, problems=state.problems, inspected=state.inspected)
    if file is None:
        return None
    if file.renamed:
        state.renamed.append(file.annotation.name)
    if not is_unicode(file.encoding):
        state.guessed[file.annotation.name] = file.encoding
    try:
        correction = correction_of(file.content, file.annotation.name)
    except LabelError as error:
        state.problems.append(str(error))
        return None
    for shape in file.annotation.shapes:
        # Proposals have integer corners, but were not traced from pixel indices.
        if shape.kind == "polygon" and path not in state.proposals:
            state.polygons["traced" if _looks_traced(shape) else "drawn"] += 1
    # A correction follows pixel edges, so its outline is not half a pixel too small.
    label_map = _painted(file.annotation, state, area=state.rules.area if correction is None else "centre")
    if label_map is None:
        return None
    original = OriginalAnnotation(file.origin, labelme=file.content)
    crop = path.stem if correction is None else correction.crop
    return ReadCrop(
        crop,
        file.stem,
        file.annotation.name,
        file.picture,
        label_map,
        original,
        correction,
        path in state.proposals,
        made=file.made,
    )


def _read_slide_item(item: SlideCrop, state: ImportState) -> ReadCrop | None:
    try:
        picture, annotation, inside = cut(item, area=state.rules.area)
    except SlideError as error:
        state.problems.append(str(error))
        return None
    label_map = _painted(annotation, state, area=state.rules.area)
    if label_map is None:
        return None
    label_map[~inside] = IGNORE
    frame = None if item.frame is None else item.features.index(item.frame)
    original = OriginalAnnotation(
        item.origin, features=tuple(feature.raw for feature in item.features), area=item.region, frame=frame
    )
    made = read_mark(item.slide)
    return ReadCrop(item.crop, item.slide.stem, item.source, picture, label_map, original, made=made)


def _painted(annotation: Annotation, state: ImportState, *, area: AreaRule) -> NDArray[np.uint8] | None:
    """Apply the rules and paint; return None if a problem was added."""
    before, annotation = len(state.problems), _renamed(annotation, state)
    if not annotation.shapes:
        state.unmarked.append(annotation.name)
    label_map = paint_collecting(annotation, state.classes, area=area, problems=state.problems)
    return label_map if len(state.problems) == before else None


def _renamed(annotation: Annotation, state: ImportState) -> Annotation:
    """Apply the rules to all labels; unknown ones are counted and become ignore so that painting continues."""
    labels = {shape.label for shape in annotation.shapes}
    named = {label: in_class_list(resolve(label, state.rules), state.classes) for label in labels}
    shapes = []
    for where, shape in annotation.placed():
        state.names[composed(shape.label)] += 1
        label = named[shape.label]
        if label not in (*state.classes.names, HOLE, UNSCORED):
            state.unknown[label] += 1
            state.first.setdefault(label, where)
            label = UNSCORED
        shapes.append(replace(shape, label=label))
    return replace(annotation, shapes=tuple(shapes))


def _looks_traced(shape: Shape) -> bool:
    """Return whether a polygon appears to have been traced from pixel indices.

    Integer corners alone may also be pixel corners; but then all edges are parallel to an axis.
    """
    if not all(x.is_integer() and y.is_integer() for x, y in shape.points):
        return False
    after = (*shape.points[1:], shape.points[0])
    return any(x0 != x1 and y0 != y1 for (x0, y0), (x1, y1) in zip(shape.points, after, strict=True))


def _original_of(picture: Path, state: ImportState) -> OriginalAnnotation | None:
    """Read the sidecar of an image; return None if a problem was added."""
    try:
        return OriginalAnnotation(sidecar.read_sidecar(picture))
    except LabelError as error:
        state.problems.append(str(error))
        return None


def _read_instance_item(pair: MaskPair, state: ImportState) -> ReadCrop | None:
    read, original = read_instance_map(pair, state.problems, unsure=state.unsure), _original_of(pair.picture, state)
    if read is None or original is None:
        return None
    picture, objects, count = read
    wanted, nothing = state.rules.instances, resolve(NOTHING, state.rules)
    assert wanted is not None
    ids = _ids(state)
    label_map = np.where(objects, ids[wanted], ids[HOLE if nothing == NOTHING else nothing]).astype(np.uint8)
    state.instances.append(count)
    state.names[NOTHING] += int(np.count_nonzero(~objects))
    stem, made = pair.picture.stem, read_mark(pair.picture)
    return ReadCrop(stem, stem, pair.name, picture, label_map, original, made=made)


def _read_mask_item(pair: MaskPair, state: ImportState) -> ReadCrop | None:
    both = read_pair(pair, state.classes, state.problems, unsure=state.unsure, side_px=state.rules.resize_px)
    original = _original_of(pair.picture, state)
    if both is None or original is None:
        return None
    table = np.full(256, IGNORE, np.uint8)
    for i, name in enumerate(state.classes.names):
        table[i] = _ids(state)[resolve(name, state.rules)]
        state.names[name] += int(np.count_nonzero(both[1] == i))
    for i, value in enumerate(pair.values, start=len(state.classes)):
        table[i] = _ids(state)[resolve(str(value), state.rules)]
        state.names[str(value)] += int(np.count_nonzero(both[1] == i))
    if white := int(np.count_nonzero(both[1] == IGNORE)):
        assert pair.white is not None  # refused by read_pair
        table[IGNORE] = IGNORE if pair.white == IGNORE else table[pair.white]
        state.names[str(IGNORE)] += white
        state.white[int(table[IGNORE])] += white
    made = read_mark(pair.picture)
    label_map = _without_small(table[both[1]], state)
    return ReadCrop(pair.stem, pair.stem, pair.name, both[0], label_map, original, made=made)


def _without_small(label_map: NDArray[np.uint8], state: ImportState) -> NDArray[np.uint8]:
    """Ignore classes with too few pixels, as the published sets do, and count them."""
    counts = np.bincount(label_map.ravel(), minlength=256)[:IGNORE]
    small = np.flatnonzero((counts > 0) & (counts < state.rules.least_px))
    state.small.update(small.tolist())
    return np.where(np.isin(label_map, small), np.uint8(IGNORE), label_map)


def _ids(state: ImportState) -> dict[str, int]:
    """Return the ids of all names that pixels can map to."""
    return {name: i for i, name in enumerate(state.classes.names)} | {HOLE: state.classes.fill_id, UNSCORED: IGNORE}
