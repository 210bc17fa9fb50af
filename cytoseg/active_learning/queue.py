"""The annotation queue: ranking, accepting and skipping regions."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from cytoseg.active_learning.candidates import Predicted, cached_candidates
from cytoseg.active_learning.choose_regions import Earlier, SelectedCandidate, choose, overlapping, reason
from cytoseg.active_learning.cut_crops import crop_path, cut_region, predicted_maps
from cytoseg.active_learning.gain import gain_sentences
from cytoseg.active_learning.queue_picture import RegionPicture, panels_of
from cytoseg.active_learning.queue_slides import ADVICE, QueuePlace, predicted_slides
from cytoseg.errors import CytosegError, LabelError, PredictionError, SlideError
from cytoseg.evaluation.learning_curve import read_curves
from cytoseg.evaluation.results_file import read_evaluation_file
from cytoseg.formats.annotation import UNSCORED
from cytoseg.geometry import Region, Size
from cytoseg.labels.annotated import annotated_regions, is_taken, remove_partial, waiting_regions
from cytoseg.labels.queue_file import (
    BEGUN,
    QUEUED,
    SKIPPED,
    Queue,
    QueueItem,
    Round,
    Scored,
    open_queue,
    read_queue,
    update_queue,
)
from cytoseg.metrics.results import ensemble_of
from cytoseg.predict.candidate_regions import Candidate
from cytoseg.slides.open import open_slide, read_at
from cytoseg.writing import write_atomically

SCANS = "queue_scans"
"""Folder of a run with the cached candidates."""


@dataclass(frozen=True)
class Ranking:
    """Ranked regions to annotate next.

    Attributes:
        chosen: Selected regions, best first.
        slides: The predicted slides searched, by name.
        notes: Sentences about skipped slides, and about regions that a killed queue had begun.
        waiting: Names of the crops of queued regions that are not annotated yet, oldest first.
    """

    chosen: tuple[SelectedCandidate, ...]
    slides: dict[str, Predicted]
    notes: tuple[str, ...]
    waiting: tuple[str, ...]


def rank(place: QueuePlace, n: int, *, on_part: Callable[[str, int, int], None]) -> Ranking:
    """Choose regions of the predicted slides that are neither annotated nor queued nor skipped.

    Args:
        place: The run and its queue.
        n: Number of regions; fewer if there are not enough.
        on_part: Called with the slide, the number of parts done and the total.

    Raises:
        PredictionError: If no slide was predicted.
        LabelError: If queue.json or the labels' index is damaged.
    """
    slides, notes = predicted_slides(place)
    if finished := _finish_begun(place, slides):
        notes.append(f"{finished} region{'s' * (finished != 1)} of an interrupted queue finished.")
    candidates: list[Candidate] = []
    used: dict[str, Predicted] = {}
    classes, frame = len(place.rules.cutting.classes), place.rules.cutting.frame
    for number, source in enumerate(slides):

        def on_share(done: int, total: int, number: int = number, name: str = source.name) -> None:
            on_part(name, number * 100 + 100 * done // total, 100 * len(slides))

        try:
            folder = place.run / SCANS
            candidates += cached_candidates(source, frame, classes=classes, folder=folder, on_part=on_share)
            used[source.name] = source
            on_share(1, 1)  # also for a cached slide
        except (PredictionError, SlideError) as error:
            notes.append(f"{source.name}: left out: {error}")
    annotated = annotated_regions(place.labels)
    queued = [item for item in read_queue(place.queue).items if item.state == QUEUED]
    waiting = tuple(item.crop for item in queued if item.region not in annotated.get(item.slide, ()))
    free = _free(candidates, place, annotated)
    chosen = choose(free, n, earlier=[Earlier(item.slide, item.appearance) for item in queued])
    return Ranking(tuple(chosen), used, tuple(notes), waiting)


def accept(place: QueuePlace, chosen: SelectedCandidate, slides: dict[str, Predicted]) -> Path | None:
    """Write crop, sidecar and proposal of a region into the queue folder, and record it in queue.json.

    Args:
        place: The run and its queue.
        chosen: The region.
        slides: From ``rank``.

    Returns:
        The crop; None if the region has already been decided on, or its crop exists, which is left unchanged.

    Raises:
        SlideError: If the slide cannot be read.
        PredictionError: If its maps are damaged.
        LabelError: If it was predicted with other classes since, or queue.json is damaged.
    """
    candidate, slide = chosen.candidate, slides[chosen.candidate.slide].slide
    path = crop_path(place.queue, slide, candidate.region)
    with open_queue(place.queue) as queue:
        if _is_decided(chosen, queue.content) or is_taken(path):
            return None
        # Recorded before its files are written: after a kill the next queue finishes it.
        item = _item(chosen, place, BEGUN, crop=path.stem)
        queue.write(replace(queue.content, items=(*queue.content.items, item)))
        try:
            _cut(item, place, slide)
        except CytosegError:
            queue.write(_without(item, queue.content))
            raise
        queue.write(_in_this_round(_queued(item, queue.content), place))
    return path


def _cut(item: QueueItem, place: QueuePlace, path: Path) -> None:
    """Write the files of a begun region from its slide."""
    cutting = place.rules.cutting
    with open_slide(path) as slide:
        if {item.region.width, item.region.height} != {cutting.frame.side(slide)}:
            raise LabelError(f"{item.crop}: was started with a size other than labels.crop_px.")
        cut_region(slide, item.region, place.run / "predictions", cutting=cutting, folder=place.queue)
    write_atomically(place.queue / "labels.txt", "\n".join([UNSCORED, *cutting.classes.names]) + "\n")


def _finish_begun(place: QueuePlace, slides: Sequence[Predicted]) -> int:
    """Finish the regions that a killed queue had begun, or drop those that can no longer be cut; return how many."""
    if all(item.state != BEGUN for item in read_queue(place.queue).items):
        return 0
    files, finished = {source.name: source.slide for source in slides}, 0
    with open_queue(place.queue) as queue:
        for item in [item for item in queue.content.items if item.state == BEGUN]:
            path = place.queue / f"{item.crop}.png"
            try:
                if not is_taken(path):
                    _cut(item, place, files[item.slide])
            except (KeyError, CytosegError):
                remove_partial(path)
                queue.write(_without(item, queue.content))
            else:
                queue.write(_in_this_round(_queued(item, queue.content), place))
                finished += 1
    return finished


def _queued(item: QueueItem, queue: Queue) -> Queue:
    done = replace(item, state=QUEUED)
    return replace(queue, items=tuple(done if one == item else one for one in queue.items))


def _without(item: QueueItem, queue: Queue) -> Queue:
    return replace(queue, items=tuple(one for one in queue.items if one != item))


def skip(place: QueuePlace, chosen: SelectedCandidate) -> None:
    """Record that a region should not be proposed again, unless it has been decided on meanwhile.

    Raises:
        LabelError: If queue.json is damaged.
    """
    item = _item(chosen, place, SKIPPED)

    def added(queue: Queue) -> Queue:
        return queue if _is_decided(chosen, queue) else Queue((*queue.items, item), queue.rounds)

    update_queue(place.queue, added)


def _is_decided(chosen: SelectedCandidate, queue: Queue) -> bool:
    """Return whether a region was already queued or skipped: two people may use the same list."""
    candidate = chosen.candidate
    return any((item.slide, item.region) == (candidate.slide, candidate.region) for item in queue.items)


def _in_this_round(queue: Queue, place: QueuePlace) -> Queue:
    """Count one more region queued under the current evaluation."""
    rounds, now = list(queue.rounds), current_scores(place.run)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    if rounds and rounds[-1].before == now:
        rounds[-1] = replace(rounds[-1], when=today, regions=rounds[-1].regions + 1)
    else:
        rounds.append(Round(today, 1, now))
    return Queue(queue.items, tuple(rounds))


def draw_region(place: QueuePlace, chosen: SelectedCandidate, slides: dict[str, Predicted]) -> RegionPicture:
    """Draw the panels of a region.

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
        raise PredictionError(f"{candidate.slide}: its prediction no longer exists. {ADVICE}")
    classes, region = place.rules.cutting.classes, candidate.region
    title = f"{candidate.slide}, x {region.x}, y {region.y}"
    return RegionPicture(title, reason(chosen, classes.names), panels_of(picture, maps.ids, maps.nats, classes))


def gains(place: QueuePlace) -> list[str]:
    """Report the gain of each queue round next to the estimate of the label-efficiency study.

    Raises:
        LabelError: If queue.json is damaged.
        CytosegError: If the evaluation is damaged.
    """
    names = place.rules.cutting.classes.names
    curves = read_curves(place.run / "label_efficiency", names)
    curve = curves.get(place.rules.kind)
    return gain_sentences(read_queue(place.queue).rounds, current_scores(place.run), curve=curve, names=names)


def current_scores(run: Path) -> Scored | None:
    """Return the scores of a run's evaluation, None if there is none.

    Raises:
        CytosegError: If the evaluation is damaged.
    """
    path = run / "evaluation" / "evaluation.json"
    return _scored(path, path.stat().st_mtime_ns) if path.is_file() else None


@lru_cache(maxsize=64)
def _scored(path: Path, written_ns: int) -> Scored | None:
    """Cache the scores per version of the file: every click in the app requests them."""
    found = read_evaluation_file(path)
    best = ensemble_of(found)
    if best is None:
        return None
    return Scored(found.created, found.train_crops, best.miou.value, {c.name: c.iou.value for c in best.classes})


def _free(candidates: list[Candidate], place: QueuePlace, annotated: Mapping[str, Sequence[Region]]) -> list[Candidate]:
    """Drop regions that are annotated, queued or skipped."""
    taken = {slide: list(regions) for slide, regions in annotated.items()}
    for slide, regions in waiting_regions(place.queue).items():
        taken.setdefault(slide, []).extend(regions)
    for item in read_queue(place.queue).items:
        taken.setdefault(item.slide, []).append(item.region)
    return [c for c in candidates if not any(overlapping(c.region, region) for region in taken.get(c.slide, ()))]


def _item(chosen: SelectedCandidate, place: QueuePlace, state: str, *, crop: str = "") -> QueueItem:
    candidate = chosen.candidate
    return QueueItem(
        slide=candidate.slide,
        region=candidate.region,
        state=state,
        crop=crop,
        reason=reason(chosen, place.rules.cutting.classes.names),
        score=candidate.score,
        appearance=candidate.appearance,
    )
