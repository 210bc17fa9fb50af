"""Results of a run's predicted slides, with their sign-offs, as one CSV table."""

from collections.abc import Sequence
from pathlib import Path

from cytoseg.csv_table import csv_text
from cytoseg.predict.sign_off_file import HEAD, cells_of
from cytoseg.predict.summary import ClassArea, SlideSummary, summary_of


def slides_csv(folders: Sequence[Path]) -> str:
    """Write one row per predicted slide.

    Args:
        folders: Folders of their results.

    Returns:
        CSV: the slide; of each class its share of the predicted pixels, its area in square micrometres and its number
        of objects, empty where unknown; and the sign-off: verdict, author, time, comment, hash of the bundle, and
        whether that is still the bundle of the prediction; empty without a sign-off.

    Raises:
        PredictionError: If a sign-off is damaged or may not be read.
    """
    summaries = {folder: summary_of(folder) for folder in folders}
    names = list(dict.fromkeys(name for summary in summaries.values() for name in summary.classes))
    head = ["slide", *(f"{what} {name}" for name in names for what in ("share", "area_um2", "objects")), *HEAD]
    rows = [[folder.name, *_of_classes(found, names), *cells_of(folder)] for folder, found in summaries.items()]
    return csv_text([head, *rows])


def _of_classes(summary: SlideSummary, names: Sequence[str]) -> list[float | None]:
    row: list[float | None] = []
    for name in names:
        area, totals = summary.classes.get(name, ClassArea()), summary.objects.get(name)
        row += [area.share, area.area_um2, None if totals is None else totals.objects]
    return row
