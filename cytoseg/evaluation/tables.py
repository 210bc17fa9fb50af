"""An evaluation as tables: printed, and as CSV files."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from cytoseg.csv_table import write_csv
from cytoseg.metrics.results import ObjectScores, Score


def evaluation_table(evaluation: Mapping[str, Any]) -> list[list[str]]:
    """Make the printed table: a header, then one row per method with the IoU of each class and their mean.

    Args:
        evaluation: Result of ``evaluate``.

    Returns:
        Rows of equal length; a cell is like ``0.62 (0.55-0.68)``, without an interval ``0.62``, or ``n/a``.
    """
    header = ["method", *(f"IoU {entry['name']}" for entry in evaluation["classes"]), "mIoU"]
    rows = [
        [method["title"], *(_cell(entry, "iou") for entry in method["classes"]), _cell(method, "miou")]
        for method in evaluation["methods"]
    ]
    return [header, *rows]


def _cell(record: Mapping[str, Any], key: str) -> str:
    return Score(record[key], record[f"{key}_low"], record[f"{key}_high"]).text()


def write_tables(folder: Path, evaluation: Mapping[str, Any], *, stains: Mapping[str, str]) -> None:
    """Write the values of evaluation.json as CSV; undefined values are empty.

    Args:
        folder: The evaluation folder.
        evaluation: Content of evaluation.json.
        stains: Stain by slide, for the corrected crops of each stain.
    """
    names = [entry["name"] for entry in evaluation["classes"]]
    per_class: list[list[Any]] = [
        ["method", "class", "iou", "iou_low", "iou_high", "dice", "precision", "recall", "pixels"]
    ]
    per_slide: list[list[Any]] = [["method", "slide", "crops", "miou", *(f"iou {name}" for name in names)]]
    confusion: list[list[Any]] = [["method", "truth", *(f"predicted {name}" for name in names)]]
    objects: list[list[Any]] = [["method", "class", *(column.name for column in fields(ObjectScores))]]
    per_stain: list[list[Any]] = [["method", "stain", "slides", *per_class[0][1:]]]
    for method in evaluation["methods"]:
        key = method["key"]
        per_class += [[key, *entry.values()] for entry in method["classes"]]
        per_slide += [[key, e["slide"], e["crops"], e["miou"], *e["iou"]] for e in method["slides"]]
        objects += [[key, name, *entry.values()] for name, entry in method["objects"].items()]
        per_stain += [
            [key, e["stain"], e["slides"], *entry.values()] for e in method["stains"] for entry in e["classes"]
        ]
        confusion += [[key, name, *row] for name, row in zip(names, method["confusion"], strict=True)]
    tables = {"per_class": per_class, "per_slide": per_slide, "confusion": confusion, "objects": objects}
    if len(per_stain) > 1:
        tables["per_stain"] = per_stain
    if any(crop.get("from_prediction") for crop in evaluation["crops"]):
        _mark_corrected(tables, evaluation["crops"], stains)
    for stem, rows in tables.items():
        write_csv(folder / f"{stem}.csv", rows)


def _mark_corrected(
    tables: Mapping[str, list[list[Any]]], crops: Sequence[Mapping[str, Any]], stains: Mapping[str, str]
) -> None:
    """Add to each table the number of crops per row that were corrected from a prediction."""
    slides = [crop["slide"] for crop in crops if crop.get("from_prediction")]
    counted = {"per_slide": slides, "per_stain": [stains.get(slide) for slide in slides]}
    for stem, (head, *rows) in tables.items():
        head.append("crops corrected from a prediction")
        for row in rows:
            row.append(counted[stem].count(row[1]) if stem in counted else len(slides))
