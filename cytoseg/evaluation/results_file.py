"""Read the result of an evaluation from a run's evaluation.json, checking every part of it."""

import math
from pathlib import Path
from typing import TypeVar

from cytoseg.errors import CytosegError
from cytoseg.evaluation.run_folder import readable
from cytoseg.json_text import load_json
from cytoseg.metrics.results import (
    MEASURES,
    ClassScores,
    ConfidenceBin,
    CropScores,
    Evaluation,
    MethodScores,
    ObjectScores,
    Risk,
    Score,
    SlideScores,
    StainScores,
    UncertaintyScores,
)
from cytoseg.metrics.risk import COVERAGES
from cytoseg.writing import put_back

FORMAT = 1
Value = TypeVar("Value")


def read_evaluation(run: Path) -> Evaluation | None:
    """Read the evaluation of a run and check that its parts belong together.

    Args:
        run: The run folder.

    Returns:
        The evaluation, or None if the run has not been evaluated.

    Raises:
        CytosegError: If the file is damaged, incomplete, of another format or may not be read.
    """
    path = run / "evaluation" / "evaluation.json"
    put_back(path.parent)
    with readable(path.name):
        return read_evaluation_file(path) if path.is_file() else None


def read_evaluation_file(path: Path) -> Evaluation:
    """Read an evaluation and check that its parts belong together.

    Args:
        path: evaluation.json of a run, or a copy of it.

    Raises:
        CytosegError: If the file is damaged, incomplete, of another format or may not be read.
    """
    try:
        with readable("evaluation.json"):
            record = load_json(path, numbers="nan as null")
    except ValueError as error:
        raise _damaged("the file", "is not complete JSON") from error
    if _get(record, "format", int, "the file") != FORMAT:
        raise _damaged("the file", f"has format {record['format']}, this version reads format {FORMAT}")
    return _evaluation(record)


def _evaluation(record: object) -> Evaluation:
    classes = _records(record, "classes", "the file")
    names = tuple(_get(entry, "name", str, "classes") for entry in classes)
    size = len(names)
    methods = enumerate(_records(record, "methods", "the file"), 1)
    crops = enumerate(_records(record, "crops", "the file"), 1)
    return Evaluation(
        created=_get(record, "created", str, "the file"),
        recipe=_get(record, "recipe", str, "the file"),
        class_names=names,
        colours=tuple(_colour(entry) for entry in classes),
        train_crops=_get(record, "train_crops", int, "the file"),
        test_crops=_get(record, "test_crops", int, "the file"),
        test_slides=_get(record, "test_slides", int, "the file"),
        methods=tuple(_method(entry, size, f"method {number}") for number, entry in methods),
        crops=tuple(_crop(entry, size, f"crop {number}") for number, entry in crops),
    )


def _method(record: object, size: int, where: str) -> MethodScores:
    seconds = _get(record, "seconds", dict, where)
    classes = _records(record, "classes", where)
    confusion = tuple(_counts(row, size, where) for row in _get(record, "confusion", list, where))
    if len(classes) != size or len(confusion) != size:
        raise _damaged(where, f"has {len(classes)} classes and {len(confusion)} confusion rows, expected {size}")
    return MethodScores(
        key=_get(record, "key", str, where),
        title=_get(record, "title", str, where),
        train_s=_optional(seconds, "train", where),
        predict_s=_optional(seconds, "predict", where),
        classes=tuple(_class_scores(entry, where) for entry in classes),
        miou=_score(record, "miou", where),
        confusion=confusion,
        slides=tuple(_slide(entry, size, where) for entry in _records(record, "slides", where)),
        ece=_ece(record, where),
        objects=_objects(record, where),
        stains=_stains(record, size, where),
        bins=_bins(record, where),
        class_ece=_class_ece(record, size, where),
        uncertainty=_uncertainty(record, size, where),
    )


def _stains(record: object, size: int, where: str) -> tuple[StainScores, ...]:
    """Read the scores by stain; evaluations from before stains were named have none."""
    if not isinstance(record, dict) or "stains" not in record:
        return ()
    return tuple(_stain(entry, size, where) for entry in _records(record, "stains", where))


def _stain(record: object, size: int, where: str) -> StainScores:
    classes = tuple(_class_scores(entry, where) for entry in _records(record, "classes", where))
    if len(classes) != size:
        raise _damaged(where, f"has a stain with {len(classes)} classes, expected {size}")
    slides = _get(record, "slides", int, where)
    return StainScores(_get(record, "stain", str, where), slides, _score(record, "miou", where), classes)


def _bins(record: object, where: str) -> tuple[ConfidenceBin, ...]:
    """Read what the calibration error comes from; evaluations from before it was measured have none."""
    if not isinstance(record, dict) or record.get("calibration") is None:
        return ()
    return tuple(
        ConfidenceBin(_get(e, "pixels", int, where), _optional(e, "confidence", where), _optional(e, "right", where))
        for e in _records(record["calibration"], "bins", where)
    )


def _ece(record: object, where: str) -> float | None:
    """Read the calibration error; evaluations from before it was measured have none."""
    if not isinstance(record, dict) or record.get("calibration") is None:
        return None
    return _optional(record["calibration"], "ece", where)


def _class_ece(record: object, size: int, where: str) -> tuple[float | None, ...]:
    """Read the calibration error of each predicted class; evaluations from before it was measured have none."""
    calibration = record.get("calibration") if isinstance(record, dict) else None
    if not isinstance(calibration, dict) or "classes" not in calibration:
        return ()
    return _shares(calibration, "classes", size, where)


def _uncertainty(record: object, size: int, where: str) -> tuple[UncertaintyScores, ...]:
    """Read what each measure of uncertainty is worth; evaluations from before it was scored have none."""
    if not isinstance(record, dict) or "uncertainty" not in record:
        return ()
    return tuple(_measure(entry, size, where) for entry in _records(record, "uncertainty", where))


def _measure(record: object, size: int, where: str) -> UncertaintyScores:
    classes = tuple(_risk(entry, where) for entry in _records(record, "classes", where))
    if len(classes) != size:
        raise _damaged(where, f"has a measure of uncertainty with {len(classes)} classes, expected {size}")
    measure = _get(record, "measure", str, where)
    if measure not in MEASURES:
        raise _damaged(where, f"has an unknown measure of uncertainty ({measure[:40]!r})")
    return UncertaintyScores(
        measure=measure,
        whole=_risk(_get(record, "whole", dict, where), where),
        classes=classes,
        curve=_shares(record, "curve", len(COVERAGES), where),
    )


def _risk(record: object, where: str) -> Risk:
    return Risk(
        pixels=_get(record, "pixels", int, where),
        error=_optional(record, "error", where),
        aurc=_optional(record, "aurc", where),
        aurc_best=_optional(record, "aurc_best", where),
        found=_optional(record, "found", where),
    )


def _objects(record: object, where: str) -> tuple[ObjectScores, ...]:
    """Read the scores of objects; evaluations from before objects were matched have none."""
    if not isinstance(record, dict) or record.get("objects") is None:
        return ()
    return tuple(_object_scores(name, entry, where) for name, entry in _get(record, "objects", dict, where).items())


def _object_scores(name: str, record: object, where: str) -> ObjectScores:
    return ObjectScores(
        name=name,
        truth=_get(record, "truth", int, where),
        predicted=_get(record, "predicted", int, where),
        matched=_get(record, "matched", int, where),
        precision=_optional(record, "precision", where),
        recall=_optional(record, "recall", where),
        f1=_optional(record, "f1", where),
        aji=_optional(record, "aji", where),
        pq=_optional(record, "pq", where),
        sq=_optional(record, "sq", where),
        rq=_optional(record, "rq", where),
    )


def _class_scores(record: object, where: str) -> ClassScores:
    return ClassScores(
        name=_get(record, "name", str, where),
        iou=_score(record, "iou", where),
        dice=_optional(record, "dice", where),
        precision=_optional(record, "precision", where),
        recall=_optional(record, "recall", where),
        pixels=_get(record, "pixels", int, where),
    )


def _slide(record: object, size: int, where: str) -> SlideScores:
    return SlideScores(
        slide=_get(record, "slide", str, where),
        crops=_get(record, "crops", int, where),
        miou=_optional(record, "miou", where),
        iou=_shares(record, "iou", size, where),
    )


def _crop(record: object, size: int, where: str) -> CropScores:
    folder = _get(record, "folder", str, where)
    path = Path(folder)
    if path.is_absolute() or ".." in path.parts:
        raise _damaged(where, f"has a folder outside the evaluation ({folder!r})")
    return CropScores(
        crop=_get(record, "crop", str, where),
        slide=_get(record, "slide", str, where),
        miou=_optional(record, "miou", where),
        iou=_shares(record, "iou", size, where),
        disagreement=_optional(record, "disagreement", where),
        folder=folder,
        from_prediction=isinstance(record, dict) and record.get("from_prediction") is True,
    )


def _damaged(where: str, what: str) -> CytosegError:
    return CytosegError(f"evaluation.json: {where} {what}. Run `cytoseg evaluate RECIPE` to write it again.")


def _get(record: object, key: str, kind: type[Value], where: str) -> Value:
    found = record.get(key) if isinstance(record, dict) else None
    if isinstance(found, kind):
        return found
    raise _damaged(where, f"has no usable '{key}' (found {str(found)[:40]!r})")


def _records(record: object, key: str, where: str) -> list[object]:
    return list(_get(record, key, list, where))


def _optional(record: object, key: str, where: str) -> float | None:
    if not isinstance(record, dict) or key not in record:
        raise _damaged(where, f"has no usable '{key}' (found 'None')")
    return _number(record[key], key, where)


def _number(found: object, key: str, where: str) -> float | None:
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise _damaged(where, f"has no usable '{key}' (found {str(found)[:40]!r})")
    # Python's json module writes a not-a-number without complaint; it means the same as null here.
    return None if math.isnan(found) else float(found)


def _shares(record: object, key: str, size: int, where: str) -> tuple[float | None, ...]:
    found = _records(record, key, where)
    if len(found) != size:
        raise _damaged(where, f"has {len(found)} values in '{key}', expected {size}")
    return tuple(_number(value, key, where) for value in found)


def _score(record: object, key: str, where: str) -> Score:
    low, high = _optional(record, f"{key}_low", where), _optional(record, f"{key}_high", where)
    return Score(_optional(record, key, where), low, high)


def _counts(row: object, size: int, where: str) -> tuple[int, ...]:
    if not isinstance(row, list) or len(row) != size or not all(isinstance(count, int) for count in row):
        raise _damaged(where, f"has a confusion row that is not {size} whole numbers")
    return tuple(row)


def _colour(record: object) -> tuple[int, int, int]:
    found = _get(record, "colour", list, "classes")
    if len(found) != 3 or not all(isinstance(part, int) and 0 <= part <= 255 for part in found):
        raise _damaged("classes", f"has a colour that is not three numbers from 0 to 255 ({found})")
    return found[0], found[1], found[2]
