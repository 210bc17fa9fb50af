"""What ``cytoseg queue`` and the app's page share: finding what to annotate next, accepting it, and passing it over."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from cytoseg.commands.chosen_crops import cut_region, predicted_maps
from cytoseg.commands.queue_slides import AGAIN, QueuePlace, predicted_slides
from cytoseg.errors import PredictionError, SlideError, report
from cytoseg.geometry import Size
from cytoseg.labels.annotated import annotated_regions, waiting_regions
from cytoseg.labels.annotation import UNSCORED
from cytoseg.labels.queue_file import (
    QUEUED,
    SKIPPED,
    Queue,
    QueueItem,
    Round,
    Scored,
    file_hash,
    read_queue,
    update_queue,
)
from cytoseg.metrics.results import ensemble_of
from cytoseg.metrics.results_file import read_evaluation_file
from cytoseg.predict.candidates import Predicted
from cytoseg.predict.disputed import Candidate
from cytoseg.predict.queue_picture import Shown, panels_of
from cytoseg.predict.scan_file import scanned
from cytoseg.predict.spread import Chosen, Earlier, choose, overlapping, reason
from cytoseg.slides.open import open_slide, read_at
from cytoseg.studies.growth import read_curves
from cytoseg.studies.queue_gain import gain_sentences
from cytoseg.writing import write_atomically

SCANS = "queue_scans"
"""Folder of the run that keeps what was found on each slide."""


@dataclass(frozen=True)
class Ranking:
    """What to annotate next.

    Attributes:
        chosen: The best first.
        slides: The predicted slides that they are of, by name.
        notes: Which slides were left out and why, a sentence each.
    """

    chosen: tuple[Chosen, ...]
    slides: dict[str, Predicted]
    notes: tuple[str, ...]


def rank(place: QueuePlace, n: int, *, on_part: Callable[[str, int, int], None]) -> Ranking:
    """Choose regions of the predicted slides that are neither annotated nor queued nor skipped.

    Args:
        place: The run and its queue.
        n: How many; fewer, if there are not so many.
        on_part: Told which slide is looked through, how many parts of all are done, and of how many.

    Raises:
        PredictionError: If no slide was predicted, or none of those can be used; says why of each.
        LabelError: If queue.json or the labels' index is damaged.
    """
    slides, notes = predicted_slides(place)
    candidates: list[Candidate] = []
    used: dict[str, Predicted] = {}
    classes, frame = len(place.rules.cutting.classes), place.rules.cutting.frame
    for number, source in enumerate(slides):

        def told(done: int, total: int, number: int = number, name: str = source.name) -> None:
            on_part(name, number * 100 + 100 * done // total, 100 * len(slides))

        try:
            folder = place.run / SCANS
            candidates += scanned(source, frame, classes=classes, folder=folder, on_part=told)
            used[source.name] = source
            told(1, 1)  # also where it had been looked through before
        except (PredictionError, SlideError) as error:
            notes.append(f"{source.name}: left out: {error}")
    if not used:
        raise PredictionError(report(notes, what="queue"))
    free, earlier = _free(candidates, place)
    chosen = choose(free, n, earlier=earlier)
    return Ranking(tuple(chosen), used, tuple(notes))


def accept(place: QueuePlace, chosen: Chosen, slides: dict[str, Predicted]) -> Path | None:
    """Write crop, sidecar and proposal of a region into the queue folder, and note it in queue.json.

    Args:
        place: The run and its queue.
        chosen: The region.
        slides: As ``rank`` gave them.

    Returns:
        The crop; None if it was there already, and is left as it is.

    Raises:
        SlideError: If the slide cannot be read.
        PredictionError: If its maps are damaged.
        LabelError: If it was predicted with other classes since, or queue.json is damaged.
    """
    read_queue(place.queue)  # a damaged one is told before anything is written
    with open_slide(slides[chosen.candidate.slide].slide) as slide:
        region = chosen.candidate.region
        path = cut_region(slide, region, place.run / "predictions", cutting=place.rules.cutting, folder=place.queue)
    if path is None:
        return None
    names = [UNSCORED, *place.rules.cutting.classes.names]
    write_atomically(place.queue / "labels.txt", "\n".join(names) + "\n")
    item = _item(chosen, place, QUEUED, path=path)
    now = scored_now(place.run)

    def added(queue: Queue) -> Queue:
        rounds = list(queue.rounds)
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        if rounds and rounds[-1].before == now:
            rounds[-1] = replace(rounds[-1], when=today, regions=rounds[-1].regions + 1)
        else:
            rounds.append(Round(today, 1, now))
        return Queue((*queue.items, item), tuple(rounds))

    update_queue(place.queue, added)
    return path


def skip(place: QueuePlace, chosen: Chosen) -> None:
    """Note that a region shall not be proposed again.

    Raises:
        LabelError: If queue.json is damaged.
    """
    item = _item(chosen, place, SKIPPED)
    update_queue(place.queue, lambda queue: Queue((*queue.items, item), queue.rounds))


def shown(place: QueuePlace, chosen: Chosen, slides: dict[str, Predicted]) -> Shown:
    """Make the pictures of a region.

    Raises:
        SlideError: If the slide cannot be read.
        PredictionError: If its maps are missing or damaged.
        LabelError: If it was predicted with other classes since.
    """
    candidate, size = chosen.candidate, place.rules.cutting.frame.size_px
    with open_slide(slides[candidate.slide].slide) as slide:
        picture = read_at(slide, candidate.region, Size(size, size))
        maps = predicted_maps(slide, candidate.region, place.run / "predictions", place.rules.cutting)
    if maps is None:
        raise PredictionError(f"{candidate.slide}: its prediction is gone. {AGAIN}")
    classes, region = place.rules.cutting.classes, candidate.region
    title = f"{candidate.slide}, x {region.x}, y {region.y}"
    return Shown(title, reason(chosen, classes.names), panels_of(picture, maps.ids, maps.nats, classes))


def gains(place: QueuePlace) -> list[str]:
    """Say what each round of the queue gave, beside what the label-efficiency study had estimated.

    Raises:
        LabelError: If queue.json is damaged.
        CytosegError: If the evaluation is damaged.
    """
    names = place.rules.cutting.classes.names
    curves = read_curves(place.run / "label_efficiency", names)
    curve = curves.get(place.rules.kind)
    return gain_sentences(read_queue(place.queue).rounds, scored_now(place.run), curve=curve, names=names)


def scored_now(run: Path) -> Scored | None:
    """Give the scores of a run's evaluation, None if there is none.

    Raises:
        CytosegError: If the evaluation is damaged.
    """
    path = run / "evaluation" / "evaluation.json"
    return _scored(path, path.stat().st_mtime_ns) if path.is_file() else None


@lru_cache(maxsize=64)
def _scored(path: Path, written_ns: int) -> Scored | None:
    """Read the scores once for each time they are written: every press of a button in the app asks for them."""
    found = read_evaluation_file(path)
    best = ensemble_of(found)
    if best is None:
        return None
    return Scored(found.created, found.train_crops, best.miou.value, {c.name: c.iou.value for c in best.classes})


def _free(candidates: list[Candidate], place: QueuePlace) -> tuple[list[Candidate], list[Earlier]]:
    """Leave out what is annotated, waits or was skipped; and give what was queued, for new ones to look unlike it."""
    items = read_queue(place.queue).items
    taken = annotated_regions(place.labels)
    for slide, regions in waiting_regions(place.queue).items():
        taken.setdefault(slide, []).extend(regions)
    for item in items:
        taken.setdefault(item.slide, []).append(item.region)
    free = [c for c in candidates if not any(overlapping(c.region, region) for region in taken.get(c.slide, ()))]
    return free, [Earlier(item.slide, item.looks) for item in items if item.state == QUEUED]


def _item(chosen: Chosen, place: QueuePlace, state: str, *, path: Path | None = None) -> QueueItem:
    candidate = chosen.candidate
    return QueueItem(
        slide=candidate.slide,
        region=candidate.region,
        state=state,
        crop="" if path is None else path.stem,
        reason=reason(chosen, place.rules.cutting.classes.names),
        score=candidate.score,
        looks=candidate.looks,
        proposal_sha256="" if path is None else file_hash(path.with_suffix(".json")),
    )
