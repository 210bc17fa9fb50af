"""Importing annotations into a run's labels folder, all or nothing."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import LabelError, report
from cytoseg.labels.by_folder import named_as_before, named_by_folder, note_folders
from cytoseg.labels.contact_sheet import draw_sheet
from cytoseg.labels.corrections import RESOLUTION, is_from_prediction
from cytoseg.labels.import_settings import ImportRules, ImportState, check_rules, guesses, unknown_message
from cytoseg.labels.index import (
    INDEX_NAME,
    SHEET,
    CropName,
    LabelIndex,
    LabelledCrop,
    load_index,
    pixel_hash,
    remove_crop,
    total_pixels,
    write_crop,
    write_index,
)
from cytoseg.labels.original_annotation import OriginalAnnotation, write_original
from cytoseg.labels.read_sources import ReadCrop, find_items, read_item
from cytoseg.labels.staging import staged
from cytoseg.patterns import NOT_UNICODE, composed, is_unicode
from cytoseg.slides.regular_file import check_disk_answers


@dataclass(frozen=True)
class ImportReport:
    """Result of an import.

    Attributes:
        crops: The crops imported now, sorted by id.
        replaced: How many of them replaced an earlier import.
        total: Crops in the index now.
        notes: Sentences for the user about what was skipped or looks suspicious.
        contact_sheet: Image file for visual checking.
    """

    crops: tuple[LabelledCrop, ...]
    replaced: int
    total: int
    notes: tuple[str, ...]
    contact_sheet: Path


def import_labels(
    source: Path,
    folder: Path,
    *,
    classes: ClassList,
    rules: ImportRules,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Import labelme files, GeoJSON or label maps and merge them with earlier imports.

    Args:
        source: A labelme or GeoJSON file, a folder tree of such files, or one with ``images/`` beside ``masks/``.
        folder: The run's labels folder. It is changed atomically and only if there are no problems.
        classes: The class list.
        rules: The import rules.
        progress: Called with the number of files done and the total.

    Returns:
        Summary of the import.

    Raises:
        LabelError: Lists all problems of the files, the rules or the folder; or if the disk of the source does not
            answer.
    """
    check_disk_answers(source, error_class=LabelError)
    state = ImportState(source if source.is_dir() else source.parent, classes, rules)
    check_rules(rules, classes)
    items = find_items(source, state)
    note_folders(items, state)
    with staged(folder) as new:
        before = _load_before(folder, classes)  # under the lock: another import may have finished meanwhile
        written: dict[str, LabelledCrop] = {}
        for done, item in enumerate(items, start=1):
            read = read_item(item, state)
            if read is not None:
                named = named_as_before(named_by_folder(read, item, state), before, taken=written)
                _take_in(named, new, state, before=before, written=written)
            if progress is not None:
                progress(done, len(items))
        _raise_problems(state)
        index = LabelIndex(new, classes.names, tuple(v for _, v in sorted({**before, **written}.items())))
        write_index(index)
        draw_sheet([replace(crop, folder=new) for crop in index.crops], classes).save(new / SHEET)
    crops = tuple(replace(crop, folder=folder) for _, crop in sorted(written.items()))
    replaced = len(written.keys() & before.keys())
    return ImportReport(crops, replaced, len(index.crops), _final_notes(state, crops), folder / SHEET)


def _load_before(folder: Path, classes: ClassList) -> dict[str, LabelledCrop]:
    if not (folder / INDEX_NAME).exists():
        return {}
    index = load_index(folder)
    if index.classes != classes.names:
        old, new = ", ".join(index.classes), ", ".join(classes.names)
        raise LabelError(
            f"{folder / INDEX_NAME}: created with the classes ({old}), but the recipe has ({new}). "
            f"Delete {folder} and import everything again."
        )
    return {crop.crop: crop for crop in index.crops}


def _take_in(
    read: ReadCrop,
    new: Path,
    state: ImportState,
    *,
    before: dict[str, LabelledCrop],
    written: dict[str, LabelledCrop],
) -> None:
    """Write a crop, unless its id is taken, it has no slide, or a newer correction of it has been written."""
    slide = _slide_of(read, state)
    twin, old = written.get(read.crop), before.get(read.crop)
    problem = None if is_unicode(f"{read.source}/{read.stem}") else NOT_UNICODE
    problem = problem or _clash(read, state, twin=twin, old=old, slide=slide) or _same_picture(read, state)
    if problem is not None:
        state.problems.append(f"{read.source}: {problem}")
    elif slide is not None and _is_newest(read, state):
        name = CropName(read.crop, slide, read.source)
        made = read.made or next((other.made for other in (twin, old) if other is not None and other.made), None)
        crop = write_crop(new, name, picture=read.picture, label_map=read.label_map, classes=state.classes, made=made)
        written[read.crop] = replace(crop, from_prediction=_is_from_prediction(read, state, old))
        write_original(new, read.crop, read.original)
        _drop_plain(read, new, before=before, written=written)


def _same_picture(read: ReadCrop, state: ImportState) -> str | None:
    """Return whether two folders hold the same image under the same name: a duplicate, not two crops."""
    if not read.plain:
        return None
    first = state.pictures.setdefault((read.plain, pixel_hash(read.picture)), read.source)
    if first == read.source:
        return None
    return f"has the same crop id '{read.plain}' and the same image as {first}. Remove one."


def _drop_plain(
    read: ReadCrop, new: Path, *, before: dict[str, LabelledCrop], written: Mapping[str, LabelledCrop]
) -> None:
    """Remove the crop's entry under the plain name it had before another folder used the same name."""
    old = before.get(read.plain)
    if old is not None and read.plain not in written and old.image_sha256 == pixel_hash(read.picture):
        del before[read.plain]
        remove_crop(new, read.plain)
        write_original(new, read.plain, OriginalAnnotation())


def _clash(
    read: ReadCrop, state: ImportState, *, twin: LabelledCrop | None, old: LabelledCrop | None, slide: str | None
) -> str | None:
    """Describe a conflict of a crop with one of this import or of an earlier import."""
    if twin is not None and (read.correction is None or read.crop not in state.corrections):
        return f"has the same crop id '{read.crop}' as {twin.source}. Rename one."
    advice = "Rename one." if twin is not None else "Rename one, or import the folder that holds both."
    for other, when in ((twin, "now"), (old, "before")):
        if other is None:
            continue
        if other.image_sha256 != pixel_hash(read.picture):
            return f"another image was imported as crop '{read.crop}' {when} ({other.source}). {advice}"
        # The slide decides between training and test side, and a correction must not move a crop.
        if read.correction is not None and other.slide != slide:
            return f"crop '{read.crop}' is of slide '{other.slide}', the correction says '{slide}'. Fix the correction."
    return None


def _is_from_prediction(read: ReadCrop, state: ImportState, old: LabelledCrop | None) -> bool:
    """Return whether a crop's labels began as a prediction; correcting them again does not change that."""
    if read.correction is None:
        return read.proposed
    if is_from_prediction(read.correction) or (old is not None and old.from_prediction):
        return True
    # Older versions did not record the origin of the corrected correction.
    others = state.corrections.get(read.crop, ())
    return read.correction.started_from in ("correction", RESOLUTION) and any(map(is_from_prediction, others))


def _is_newest(read: ReadCrop, state: ImportState) -> bool:
    """Record a correction; return whether it is the newest of its crop so far (True for anything else)."""
    if read.correction is None:
        return True
    others = state.corrections.setdefault(read.crop, [])
    newest = all(read.correction.time >= other.time for other in others)
    others.append(read.correction)
    return newest


def _slide_of(read: ReadCrop, state: ImportState) -> str | None:
    if read.original.origin is not None:
        return read.original.origin.slide
    if read.made is not None and read.made.slide:
        return read.made.slide
    if state.rules.slide_regex is None:
        return read.folder or read.stem
    match = re.search(state.rules.slide_regex, read.stem)
    slide = match.group(match.re.groups) if match else None
    if not slide:
        state.problems.append(
            f"{read.source}: --slide-regex '{state.rules.slide_regex}' finds no slide in '{read.stem}'. Fix "
            "the expression."
        )
    return slide


def _raise_problems(state: ImportState) -> None:
    problems = [*state.problems]
    if state.unknown:
        problems.append(unknown_message(state))
    if problems:
        raise LabelError(report(problems, what="label-import"))


def _file_notes(state: ImportState) -> list[str]:
    """Write notes on files that were read by guessing or look suspicious."""
    notes = []
    if state.guessed:
        notes.append(guesses(state).strip())
    if state.renamed:
        notes.append(
            f"Files with an imagePath that does not exist: {len(state.renamed)}, first {state.renamed[0]}; the image "
            "of the same name beside each was used."
        )
    if state.unsure:
        notes.append(
            f"Masks of images that were turned upright by their orientation tag: {len(state.unsure)}, first "
            f"{state.unsure[0]}. They fit the image as stored too, and were taken as drawn on the upright one. If the "
            "contact sheet shows otherwise, remove the tag from the images."
        )
    if state.unmarked:
        filled = "ignore" if state.classes.fill is None else f"'{state.classes.fill}'"
        notes.append(
            f"Files without a shape: {len(state.unmarked)}, first {state.unmarked[0]}; "
            f"all their pixels became {filled}."
        )
    return notes


def _generated_note(sources: Sequence[str]) -> str:
    return (
        f"Images that a diffusion model drew or edited: {len(sources)} (first {sources[0]}). They are used for "
        "training only, never as test crops; edits of test crops are not used at all."
    )


def _final_notes(state: ImportState, crops: Sequence[LabelledCrop]) -> tuple[str, ...]:
    notes = [*state.notes]
    for number, count in state.white.items():
        became = "ignore" if number == IGNORE else f"'{state.classes.names[number]}'"
        notes.append(
            f"Pixels of value 255 in masks: {count:,}; they became {became}. Override with --map "
            "255=NAME or --ignore 255."
        )
    if state.small:
        small = ", ".join(f"{state.classes.names[i]} in {count}" for i, count in sorted(state.small.items()))
        least = state.rules.least_px
        notes.append(f"Classes ignored in masks with fewer than {least} of their pixels (--ignore-below): {small}.")
    if state.instances:
        notes.append(
            f"Objects in instance maps: {sum(state.instances):,}. Touching objects form one area in a label map; "
            "the recipe's objects.split separates them in predictions."
        )
    notes += _file_notes(state)
    traced, drawn = state.polygons["traced"], state.polygons["drawn"]
    if state.rules.area == "centre" and traced > 9 * drawn:
        notes.append(
            f"{traced} of {traced + drawn} polygons have whole-number corners, as if traced from pixel indices. If a "
            "program wrote them, import with --area outline; with --area centre they are half a pixel too small."
        )
    for name in (*state.rules.class_map, *state.rules.ignore):
        if not (state.names[name] or state.names[composed(name)]):
            notes.append(f"--map or --ignore names '{name}', but no label has this name.")
    several = {crop: found for crop, found in sorted(state.corrections.items()) if len(found) > 1}
    if several:
        named = [f"{crop} by {', '.join(sorted({c.author for c in found}))}" for crop, found in several.items()]
        more = ", ..." if len(named) > 5 else ""
        notes.append(f"Corrected several times (newest used): {len(named)} ({'; '.join(named[:5])}{more}).")
    if made := [crop.source for crop in crops if crop.made is not None]:
        notes.append(_generated_note(made))
    absent = [name for name, count in total_pixels(crops).items() if not count]
    if absent:
        notes.append(f"Classes without a pixel in this import: {', '.join(absent)}.")
    return tuple(notes)
