"""Test crops that two people corrected differently, and resolving them by a third."""

from collections.abc import Collection, Mapping
from pathlib import Path

from sqlalchemy import URL

from cytoseg.classes import ClassList
from cytoseg.errors import LabelError
from cytoseg.formats.sidecar import Origin
from cytoseg.labels.corrections import (
    Correction,
    SavedCorrection,
    latest_corrections,
    now,
    read_correction,
    resolution_of,
    save_correction,
)
from cytoseg.labels.reviewer_names import same_person
from cytoseg.review.conflicts import Conflict, Side, compared, worst_first
from cytoseg.review.resolutions import Decision, recorded
from cytoseg.slides.image import read_picture


def find_correction_conflicts(
    folder: Path, slides: Mapping[str, str], classes: ClassList, resolved: Collection[tuple[str, frozenset[str]]]
) -> tuple[list[Conflict], list[str]]:
    """Compare the latest corrections of each pair of people on each test crop, leaving out resolutions.

    Args:
        folder: From `corrections.corrections_folder`; need not exist.
        slides: Slide of each test crop.
        classes: Names of the ids.
        resolved: Crop and hashes of both maps of each resolved conflict.

    Returns:
        The open conflicts, the largest disagreement first; and a sentence for each unreadable correction, which is
        left out.
    """
    found: list[Conflict] = []
    problems: list[str] = []
    for crop, slide in slides.items():
        found += [
            one
            for one in _of_crop(folder, crop, slide=slide, classes=classes, problems=problems)
            if (one.crop, one.pair) not in resolved
        ]
    return worst_first(found), problems


def resolve_correction(
    log: URL, run: str, conflict: Conflict, decision: Decision, *, classes: ClassList, origin: Origin
) -> SavedCorrection:
    """Save one person's correction as the third person's, so that it is the newest, and record it; all others are kept.

    Args:
        log: From ``append_only.log_of``.
        run: Name of the run, as in the log.
        conflict: The conflict as the third person has seen it.
        decision: The decision. Anyone who continues drawing starts from the saved correction.
        classes: Names of the ids.
        origin: Where the crop was cut from.

    Returns:
        The third person's correction.

    Raises:
        LabelError: If the person may not resolve it, the conflict has changed or was resolved meanwhile, or something
            cannot be written: the newest correction is unchanged then.
    """
    folder, crop = conflict.picture.parents[1], conflict.crop

    def present() -> list[Conflict]:
        return _of_crop(folder, crop, slide=conflict.slide, classes=classes, problems=[])

    with recorded(log, run, conflict, decision, present) as side:
        latest = latest_corrections(folder, crop)[0]  # by names, whose spelling may have changed since it was seen
        taken = next(one for name, one in latest.items() if same_person(name, side.person))
        return save_correction(
            folder,
            Correction(crop, decision.author, now(), resolution_of(taken.correction)),
            origin=origin,
            picture=read_picture(taken.path.with_suffix(".png"), name=f"{taken.path.stem}.png"),
            label_map=side.ids,
            classes=classes,
        )


def _of_crop(folder: Path, crop: str, *, slide: str, classes: ClassList, problems: list[str]) -> list[Conflict]:
    if not (folder / crop).is_dir():  # most crops
        return []
    latest, wrong = latest_corrections(folder, crop)
    problems += wrong
    sides = []
    for author, saved in sorted(latest.items()) if len(latest) > 1 else ():
        try:
            sides.append(Side(author, saved.correction.time, read_correction(saved.path, classes)))
        except LabelError as error:
            problems.append(str(error))
    if len(sides) < 2:
        return []
    picture = latest[sides[0].person].path.with_suffix(".png")
    return compared(sides, classes, crop=crop, slide=slide, picture=picture)
