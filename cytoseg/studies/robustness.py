"""Robustness: how much of the IoU methods keep on corrupted test crops."""

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.csv_table import write_csv
from cytoseg.errors import CytosegError
from cytoseg.evaluation.evaluate import ScoredCrop
from cytoseg.evaluation.learning_curve import TESTED
from cytoseg.metrics.results import Score
from cytoseg.metrics.segmentation import iou_kept, pooled_scores
from cytoseg.records import RecordFile, file_key
from cytoseg.seeds import seed_for
from cytoseg.slides.corrupt import CORRUPTIONS, Scale, corrupt, strength
from cytoseg.studies.compare import ComparedMethod, Task, run_or_reuse, stored_run
from cytoseg.studies.robustness_figure import draw_curves, draw_pictures
from cytoseg.studies.robustness_text import Kept, Robust, as_markdown, safe_sentences
from cytoseg.writing import atomic_path, write_atomically


@dataclass(frozen=True)
class Strengths:
    """How the test crops are corrupted.

    Attributes:
        corruptions: Keys of ``CORRUPTIONS``.
        severities: 1 to 5, ascending; the clean crops are always scored too.
        scale: Size of what the crops show.
        object_class: Name of the class whose objects ``scale`` measures.
    """

    corruptions: Sequence[str]
    severities: Sequence[int]
    scale: Scale
    object_class: str


@dataclass(frozen=True)
class CorruptedCrop:
    """A test crop whose image is corrupted; its truth is as before.

    Attributes:
        clean: The crop.
        corruption: Key of ``CORRUPTIONS``.
        severity: 1 to 5.
        scale: Size of what it shows.
        seed: Random seed, different for each crop and corruption, the same at every severity.
    """

    clean: ScoredCrop
    corruption: str
    severity: int
    scale: Scale
    seed: int

    @property
    def crop(self) -> str:
        """Its unique id."""
        return self.clean.crop

    @property
    def slide(self) -> str:
        """The slide it comes from."""
        return self.clean.slide

    def picture(self) -> NDArray[np.uint8]:
        """Read and corrupt the crop, (H, W, 3) uint8 RGB."""
        return corrupt(self.clean.picture(), self.corruption, self.severity, scale=self.scale, seed=self.seed)

    def label_map(self) -> NDArray[np.uint8]:
        """Read the truth, (H, W) uint8 ids, 255 for ignore."""
        return self.clean.label_map()


@dataclass(frozen=True)
class MeasuredObjects:
    """The class whose objects ``Scale`` measures, and their diameter in micrometres."""

    class_name: Annotated[str, file_key("class")]
    diameter_um: float


@dataclass(frozen=True)
class RobustnessRecord:
    """What robustness.json holds.

    Attributes:
        classes: Class names, in the order of every ``iou``.
        mpp: Micrometres per pixel of the crops.
        object: The class and size that scale the strengths.
        test_crops: Number of test crops.
        test_slides: Number of their slides.
        sentences: The answers for the first method.
        methods: Scores of each method.
    """

    classes: tuple[str, ...]
    mpp: float
    object: MeasuredObjects
    test_crops: int
    test_slides: int
    sentences: tuple[str, ...]
    methods: tuple[Robust, ...]


ROBUSTNESS = RecordFile(RobustnessRecord, CytosegError, "Run `cytoseg study robustness RECIPE` to write it again.")


def robustness(
    methods: Sequence[ComparedMethod],
    task: Task,
    strengths: Strengths,
    *,
    folder: Path,
    on_run: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> list[Robust]:
    """Score every method on the clean and on the corrupted test crops, reusing finished scores.

    Each method is trained once, on clean crops with the task's first seed, or not at all if all its scores are stored.

    Args:
        methods: The methods; the sentences are about the first.
        task: The clean test crops.
        strengths: The corruptions.
        folder: Takes runs/ and robustness.json, .csv, .md, .png, and corruptions.png. Each score is stored as soon as
            it is known.
        on_run: Called before each scoring with its description, the number done, and the total.

    Returns:
        One entry per method, in their order.
    """
    cells = _cells(strengths)
    total, found = len(methods) * (1 + len(cells)), []
    for number, method in enumerate(methods):
        once = replace(method, fit=functools.cache(method.fit))
        counts = []
        for done, cell in enumerate([None, *cells], start=number * (1 + len(cells))):
            on_run(f"{method.title}, {'clean' if cell is None else strength(*cell, strengths.scale)}", done, total)
            counts.append(_by_slide(once, task, strengths, cell=cell, folder=folder))
        found.append(_robust(method, counts, cells, task=task, scale=strengths.scale))
    on_run("done", total, total)
    _write(found, task, strengths, folder=folder)
    return found


def seconds_each(methods: Sequence[ComparedMethod], task: Task, strengths: Strengths, *, folder: Path) -> list[float]:
    """Estimate the seconds of each scoring in order, the first of a method with its training, 0 for finished ones.

    Parameters are those of ``robustness``.
    """
    found = []
    for method in methods:
        training_s = method.about_s - method.scoring_s
        for cell in (None, *_cells(strengths)):
            asked, path = _asked(method, task, strengths, cell=cell, folder=folder)
            if stored_run(method, asked.seeds[0], asked, path=path):
                found.append(0.0)
            else:
                found.append(training_s + method.scoring_s)
                training_s = 0.0
    return found


def _cells(strengths: Strengths) -> list[tuple[str, int]]:
    return [(name, severity) for name in strengths.corruptions for severity in strengths.severities]


def _asked(
    method: ComparedMethod, task: Task, strengths: Strengths, *, cell: tuple[str, int] | None, folder: Path
) -> tuple[Task, Path]:
    """Return the task of one scoring, and its result file."""
    path = folder / "runs" / f"{method.key}-clean.json"
    if cell is None:
        return task, path
    return _corrupted(task, *cell, scale=strengths.scale), path.with_name(f"{method.key}-{cell[0]}-{cell[1]}.json")


def _by_slide(
    method: ComparedMethod, task: Task, strengths: Strengths, *, cell: tuple[str, int] | None, folder: Path
) -> NDArray[np.int64]:
    """Return the counts of a method on each slide, (S, K, K), slides sorted by name."""
    task, path = _asked(method, task, strengths, cell=cell, folder=folder)
    run = run_or_reuse(method, task.seeds[0], task, path=path)
    counts, slides = np.array(run.counts, np.int64), [crop.slide for crop in task.crops]
    return np.stack([counts[[s == slide for s in slides]].sum(axis=0) for slide in sorted(set(slides))])


def _corrupted(task: Task, name: str, severity: int, *, scale: Scale) -> Task:
    seeds = [seed_for(task.seeds[0], number, what=f"corrupt {name}") for number in range(len(task.crops))]
    crops = [CorruptedCrop(c, name, severity, scale, seed) for c, seed in zip(task.crops, seeds, strict=True)]
    done = {"name": name, "severity": severity, "strength": strength(name, severity, scale), "mpp": scale.mpp}
    return replace(task, crops=crops, details={**task.details, "corruption": done, "first_seed": task.seeds[0]})


def _robust(
    method: ComparedMethod,
    counts: Sequence[NDArray[np.int64]],
    cells: Sequence[tuple[str, int]],
    *,
    task: Task,
    scale: Scale,
) -> Robust:
    clean, seed = counts[0], task.seeds[0]

    def iou_of(changed: NDArray[np.int64]) -> tuple[Score, ...]:
        return tuple(entry.iou for entry in pooled_scores(changed, task.classes, seed=seed)[0])

    kept = tuple(
        Kept(*cell, strength(*cell, scale), iou_of(changed), iou_kept(changed, clean, seed=seed))
        for cell, changed in zip(cells, counts[1:], strict=True)
    )
    return Robust(method.key, method.title, iou_of(clean), kept)


def _write(found: Sequence[Robust], task: Task, strengths: Strengths, *, folder: Path) -> None:
    content = ROBUSTNESS.content_of(_record(found, task, strengths))
    write_atomically(folder / "robustness.json", json.dumps(content, indent=1) + "\n")
    write_csv(folder / "robustness.csv", _table(found, task))
    told = [*safe_sentences(found[0], task.classes), *([task.note] if task.note else [])]
    text = as_markdown(found, task.classes, of_class=strengths.object_class, told=told)
    write_atomically(folder / "robustness.md", text)
    with atomic_path(folder / "robustness.png") as path:
        k = list(task.classes).index(strengths.object_class)
        draw_curves(found, strengths.corruptions, k, name=strengths.object_class).savefig(path, dpi=120)
    with atomic_path(folder / "corruptions.png") as path:
        _pictures_of(task, strengths).savefig(path, dpi=120)


def _pictures_of(task: Task, strengths: Strengths) -> Any:
    k = list(task.classes).index(strengths.object_class)
    shown = max(range(len(task.crops)), key=lambda i: int((task.crops[i].label_map() == k).sum()))
    rows = {}
    for name in strengths.corruptions:
        tasks = [_corrupted(task, name, severity, scale=strengths.scale) for severity in strengths.severities]
        rows[CORRUPTIONS[name].title] = [one.crops[shown].picture() for one in tasks]
    return draw_pictures(task.crops[shown].picture(), rows, strengths.severities)


def _record(found: Sequence[Robust], task: Task, strengths: Strengths) -> RobustnessRecord:
    return RobustnessRecord(
        tuple(task.classes),
        strengths.scale.mpp,
        MeasuredObjects(strengths.object_class, strengths.scale.object_um),
        test_crops=len(task.crops),
        test_slides=len({crop.slide for crop in task.crops}),
        sentences=tuple(safe_sentences(found[0], task.classes)),
        methods=tuple(found),
    )


def _table(found: Sequence[Robust], task: Task) -> Iterator[list[Any]]:
    columns = ("iou", "iou low", "iou high", "kept", "kept low", "kept high")
    scores = [f"{name} {column}" for name in task.classes for column in columns]
    yield ["method", "title", "corruption", "severity", "strength", *scores, *TESTED]
    tested, whole = (len(task.crops), task.corrected), Score(1.0)
    for method in found:
        kept = tuple(whole if score.value else Score(None) for score in method.clean)
        for cell in (Kept("clean", 0, "none", method.clean, kept), *method.cells):
            scores_of = [score for pair in zip(cell.iou, cell.kept, strict=True) for score in pair]
            values = [end for score in scores_of for end in (score.value, score.low, score.high)]
            yield [method.key, method.title, cell.corruption, cell.severity, cell.strength, *values, *tested]
