"""Export of imported labels to labelme or QuPath, as drawn or traced."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.errors import LabelError, report
from cytoseg.formats.annotation import Shape
from cytoseg.formats.labelme import read_shapes
from cytoseg.formats.qupath import CROP_NAME, REGION, read_features
from cytoseg.formats.sidecar import SIDECAR_SUFFIX, Origin
from cytoseg.geometry import Region, Size
from cytoseg.labels.exported_shapes import (
    LABELME_VERSION,
    frame_feature,
    labelme_shape,
    moved_feature,
    outside,
    qupath_feature,
    traced,
)
from cytoseg.labels.index import LabelIndex, LabelledCrop, is_file_name
from cytoseg.labels.original_annotation import ADVICE, OriginalAnnotation, origin_entry, read_original
from cytoseg.labels.slide_crops import moved, placed
from cytoseg.leftovers import sweep_beside
from cytoseg.slides.generated_mark import png_text
from cytoseg.writing import replaced

Format = Literal["labelme", "geojson"]
"""labelme: one file beside each crop's image. geojson: one file per slide with known crop positions, in level-0
pixels, with the crops as regions; other crops get a file beside their image, in its pixels."""


_SUFFIXES: Mapping[Format, str] = {"labelme": ".json", "geojson": ".geojson"}


@dataclass(frozen=True)
class ExportReport:
    """Result of an export: number of crops, files written, and crops that had to be traced from their label maps."""

    crops: int
    files: tuple[Path, ...]
    traced: tuple[str, ...]


def export_labels(
    index: LabelIndex,
    folder: Path,
    *,
    form: Format,
    classes: ClassList,
    progress: Callable[[int, int], None] | None = None,
) -> ExportReport:
    """Write all crops of an index into a folder, with the original shapes and names.

    Args:
        index: The imported crops.
        folder: A new or empty folder, written atomically.
        form: File format.
        classes: Names and colours.
        progress: Called with the number of crops done and the total.

    Returns:
        Summary of the export.

    Raises:
        LabelError: If the folder is not empty or cannot be written, a slide's name is not a valid file name, or the
            labels folder is damaged.
    """
    if index.classes != classes.names:
        then, now = ", ".join(index.classes), ", ".join(classes.names)
        raise LabelError(
            f"{index.folder}: created with the classes ({then}), but the recipe has ({now}). Restore the "
            "recipe's classes."
        )
    sweep_beside(folder)
    _refuse_filled(folder)
    original = {crop.crop: read_original(index.folder, crop.crop) for crop in index.crops}
    files = _plan(index.crops, original, form=form)
    done = 0
    with replaced(folder, error=LabelError) as new:
        _refuse_filled(folder)  # checked again: another export may have been quicker
        for name, crops in files.items():
            _write(new / name, crops, original, classes)
            done += len(crops)
            if progress is not None:
                progress(done, len(index.crops))
    paths = tuple(folder / name for name in files)
    return ExportReport(done, paths, tuple(crop for crop, found in original.items() if not _is_drawn(found)))


def _refuse_filled(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise LabelError(f"{folder}: already exists and is not empty. Name a new folder.")


def _plan(
    crops: Sequence[LabelledCrop], original: Mapping[str, OriginalAnnotation], *, form: Format
) -> dict[str, list[LabelledCrop]]:
    """Group the crops by output file."""
    files: dict[str, list[LabelledCrop]] = {}
    slides: set[str] = set()
    alone: set[str] = set()
    problems = []
    for crop in crops:
        place = None if form == "labelme" else _place(original[crop.crop])
        name = crop.crop if place is None else place[0]
        if not is_file_name(name):
            problems.append(f"{crop.crop}: its slide is called '{name}', which is not a valid file name. {ADVICE}")
        (alone if place is None else slides).add(name)
        files.setdefault(f"{name}{_SUFFIXES[form]}", []).append(crop)
    for both in sorted(slides & alone):
        problems.append(
            f"'{both}' is both a slide and a crop whose position is unknown. Import one under a different name."
        )
    if problems:
        raise LabelError(report(problems, what="label-export"))
    return files


def _write(
    path: Path, crops: Sequence[LabelledCrop], original: Mapping[str, OriginalAnnotation], classes: ClassList
) -> None:
    """Write one file, and the images of its crops without a slide position."""
    if path.suffix == _SUFFIXES["labelme"]:
        (crop,) = crops
        _write_picture(crop, original[crop.crop], path.parent)
        text = json.dumps(_labelme_content(crop, original[crop.crop], classes), indent=2)
    else:
        for crop in crops:
            if _place(original[crop.crop]) is None:
                _write_picture(crop, original[crop.crop], path.parent)
        features = _merged(_features(crop, original[crop.crop], classes) for crop in crops)
        # Not indented: ten times faster for a slide's thousands of shapes.
        text = json.dumps({"type": "FeatureCollection", "features": features})
    path.write_text(text + "\n", encoding="ascii")


def _place(original: OriginalAnnotation) -> tuple[str, Region] | None:
    """Return slide and region, if both are known."""
    if original.origin is None or original.origin.region is None:
        return None
    return original.origin.slide, original.origin.region


def _is_drawn(original: OriginalAnnotation) -> bool:
    return original.labelme is not None or original.features is not None


def _write_picture(crop: LabelledCrop, original: OriginalAnnotation, folder: Path) -> None:
    """Write the crop's image and, unless its name implies the slide, a sidecar."""
    Image.fromarray(crop.picture()).save(folder / f"{crop.crop}.png", format="PNG", pnginfo=png_text(crop.made))
    if original.origin is not None or crop.slide != crop.crop:
        origin = original.origin or Origin(crop.slide, None)
        (folder / f"{crop.crop}{SIDECAR_SUFFIX}").write_text(json.dumps(origin_entry(origin)), encoding="ascii")


def _labelme_content(crop: LabelledCrop, original: OriginalAnnotation, classes: ClassList) -> dict[str, Any]:
    if original.labelme is not None:
        content = dict(original.labelme)
    else:
        marks = _marks_of_features(crop, original) if original.features is not None else _traced_marks(crop, classes)
        content = {"version": LABELME_VERSION, "flags": {}, "shapes": marks}
    picture = {"imagePath": f"{crop.crop}.png", "imageData": None}
    return content | picture | {"imageHeight": crop.height, "imageWidth": crop.width}


def _traced_marks(crop: LabelledCrop, classes: ClassList) -> list[dict[str, Any]]:
    return [labelme_shape(shape) for shape in traced(crop.label_map(), classes)]


def _marks_of_features(crop: LabelledCrop, original: OriginalAnnotation) -> list[dict[str, Any]]:
    """Convert the features of a crop to labelme shapes, in paint order."""
    assert original.features is not None
    assert original.area is not None
    size = Size(crop.width, crop.height)
    problems: list[str] = []
    features = list(read_features(original.features, name=crop.crop, problems=problems).features)
    if problems:
        raise LabelError(f"{problems[0]} {ADVICE}")
    frame = None if original.frame is None else features.pop(original.frame)
    marks = []
    for feature, shape in placed(features, original.area, size, area="centre"):
        group_id = feature.number if len(feature.shapes) > 1 else None
        marks.append(labelme_shape(shape, group_id=group_id, description=feature.name))
    if frame is not None:
        delimiting = [moved(shape, original.area, size) for shape in frame.shapes]
        marks += [labelme_shape(shape) for shape in outside(delimiting, size)]
    return marks


def _features(crop: LabelledCrop, original: OriginalAnnotation, classes: ClassList) -> list[dict[str, Any]]:
    """Convert the shapes of a crop to QuPath features, on its slide if known, otherwise in its image."""
    whole = Region(0, 0, crop.width, crop.height)
    if original.features is not None:
        features = [dict(feature) for feature in original.features]
    else:
        features = [qupath_feature(shape, entry, classes) for shape, entry in _drawn(crop, original, classes)]
    place = _place(original)
    before, after = original.area or whole, whole if place is None else place[1]
    if before != after:
        features = [moved_feature(feature, before=before, after=after) for feature in features]
    if place is not None and original.frame is None:
        features.append(frame_feature(after, name=f"{CROP_NAME}{crop.crop}", label=REGION))
    return features


def _drawn(
    crop: LabelledCrop, original: OriginalAnnotation, classes: ClassList
) -> Iterator[tuple[Shape, Mapping[str, Any]]]:
    """Return the shapes of a labelme file with their entries; traced shapes if there is no file."""
    if original.labelme is None:
        yield from ((shape, {}) for shape in traced(crop.label_map(), classes))
        return
    problems: list[str] = []
    shapes = read_shapes(original.labelme, crop.crop, problems)
    if problems:
        raise LabelError(f"{problems[0]} {ADVICE}")
    yield from zip(shapes, original.labelme["shapes"], strict=True)


def _merged(lists: Iterable[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Merge the features of all crops of a slide without duplicates."""
    most: Counter[str] = Counter()
    merged = []
    for features in lists:
        here: Counter[str] = Counter()
        for feature in features:
            key = json.dumps(feature, sort_keys=True)
            here[key] += 1
            if here[key] > most[key]:
                most[key] += 1
                merged.append(feature)
    return merged
