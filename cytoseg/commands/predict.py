"""``cytoseg predict``: class maps, uncertainty maps and objects of slides."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import torch
import typer

from cytoseg.devices import pick_device
from cytoseg.errors import CheckpointError, PredictionError, SlideError, report
from cytoseg.interpreter.bundle import bundle_state
from cytoseg.objects.parquet import check_parquet
from cytoseg.predict.many_slides import in_processes, on_ray
from cytoseg.predict.outputs import PREVIEW, is_done, left_out_of, other_slide
from cytoseg.predict.slide_task import Outcome, SlideTask, attempt
from cytoseg.predict.summary import summary_of
from cytoseg.recipe import Recipe, recipe_of
from cytoseg.terminal import one_by_one, progress, say
from cytoseg.workflows.failed_slides import report_failed_slides
from cytoseg.workflows.recorded_command import start_run
from cytoseg.workflows.run_paths import BUNDLE
from cytoseg.workflows.slide_paths import expand, without_overrides
from cytoseg.workflows.slide_tasks import slide_task
from cytoseg.writing import changed_key_of_unfinished

STATE = "state.json"
"""File that identifies a bundle's folder."""

Slides = Annotated[
    list[str],
    typer.Argument(
        metavar="SLIDE... [SECTION.KEY=VALUE]...",
        help="Slides or images, folders of them, globs in quotes, or .txt files with one path per line; and overrides.",
    ),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Number of processes; default one per GPU, or one without GPUs.")
]


@dataclass(frozen=True)
class _Target:
    """Recipe, bundle and output folder of a prediction."""

    recipe: Recipe
    bundle: Path
    folder: Path


def run(
    target: Annotated[str, typer.Argument(metavar="RECIPE|BUNDLE", help="Recipe, or the folder of a bundle.")],
    slides: Slides,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder of the results; default: predictions/ in the run folder, or in the current folder."
        ),
    ] = None,
    workers: Workers = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option("--engine", help="local: processes of this machine; ray: Ray tasks.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option("--address", help="Address of a running Ray cluster, such as auto; default: start Ray here."),
    ] = None,
) -> None:
    """Segment slides: class map, uncertainty map, objects with measurements, preview.

    Writes into a folder for each slide: class_map.ome.tif, uncertainty.ome.tif and instances.ome.tif (tiled pyramids),
    objects.geojson (for QuPath), cells.csv, preview.png and summary.json.

    A slide that is already finished with the same bundle and settings is skipped, and an interrupted one continues from
    its last finished row. A slide that fails does not stop the others: it is listed at the end, with exit status 1. If
    only one slide is given, its failure has exit status 2.
    """
    named, overrides = without_overrides(slides)
    with _opened_target(target, overrides, out=out) as (found, entry):
        paths = expand(named, command="predict")
        tasks = _tasks(paths, found)
        entry["slides"] = [path.name for path in paths]
        if engine == "ray":
            outcomes = _watched(on_ray(tasks, address=address), len(tasks))
        else:
            outcomes = _on_this_machine(tasks, workers=workers, device_name=found.recipe.training.device)
        _tell_restarted(tasks)
        failed = [outcome for outcome in outcomes if not _tell_outcome(outcome)]
        entry["failed"] = [outcome.task.path.name for outcome in failed]
        if failed:
            _report_failed(failed, of=len(tasks), alone=len(paths) == 1 and Path(named[0]) == paths[0])


@contextlib.contextmanager
def _opened_target(
    target: str, overrides: Sequence[str], *, out: Path | None
) -> Iterator[tuple[_Target, dict[str, Any]]]:
    """Find recipe and bundle; yield them with the run's entry (none for a bundle alone)."""
    bundle = Path(target)
    if not (bundle / STATE).is_file():
        with start_run(target, overrides, command="predict") as current:
            folder = out or current.folder / "predictions"
            yield _Target(current.recipe, current.folder / BUNDLE, folder), current.entry
        return
    values = bundle_state(bundle).get("recipe")
    if not values:
        raise CheckpointError(
            f"{bundle}: a bundle written by an older version, without its recipe. Name the recipe instead."
        )
    recipe = recipe_of(values, overrides, where=bundle / STATE)
    yield _Target(recipe, bundle, out or Path("predictions")), {}


def _tasks(paths: Sequence[Path], target: _Target) -> list[SlideTask]:
    """Make the task of each slide.

    Raises:
        SlideError: If two slides would share a folder.
        CheckpointError: If the bundle is missing, damaged, not a bundle, or of other classes.
    """
    recipe = target.recipe
    bundle_state(target.bundle)  # checked first, even without slides
    tasks = [slide_task(path, recipe=recipe, bundle=target.bundle, out=target.folder) for path in paths]
    _check_folders(tasks)
    if recipe.objects.parquet:  # report impossible tasks before starting
        check_parquet()
    return tasks


def _check_folders(tasks: Sequence[SlideTask]) -> None:
    """Refuse two slides in one folder, and a folder with the results of another slide."""
    folders = [task.folder for task in tasks]
    twice = sorted({folder.name for folder in folders if folders.count(folder) > 1})
    problems = [
        f"{name}: two slides of this name would share one folder. Give each its own with --out." for name in twice
    ]
    for task in tasks:
        if other := other_slide(task.folder, task.path):
            problems.append(f"{task.folder}: holds the results of {other}. Choose another folder with --out.")
    if problems:
        raise SlideError(report(problems, what="predict"))


def _tell_restarted(tasks: Sequence[SlideTask]) -> None:
    """Report which change discards the finished rows of an interrupted slide."""
    for task in tasks:
        other = changed_key_of_unfinished(task.folder, task.provenance)
        if other and not is_done(task.folder, task.provenance):
            say(f"{task.path.name}: starts over because its unfinished prediction used a different {other}.")


def _on_this_machine(tasks: Sequence[SlideTask], *, workers: int | None, device_name: str) -> Iterator[Outcome]:
    """Predict on this machine, by default with one process per GPU for ``auto`` or ``cuda``."""
    device = pick_device(device_name)
    count = workers or (torch.cuda.device_count() if device.type == "cuda" and device.index is None else 1)
    if min(count, len(tasks)) > 1:
        return _watched(in_processes(tasks, workers=min(count, len(tasks))), len(tasks))
    return map(_here, one_by_one(tasks, "slides"))


def _here(task: SlideTask) -> Outcome:
    with progress(task.path.name, 1) as bar:
        return attempt(task, bar.update_phase)


def _watched(outcomes: Iterator[Outcome], total: int) -> Iterator[Outcome]:
    with progress("slides", total) as bar:
        for done, outcome in enumerate(outcomes, start=1):
            bar.update(done, outcome.task.path.name)
            yield outcome


def _tell_outcome(outcome: Outcome) -> bool:
    """Report the outcome of a slide; return False if it failed."""
    task = outcome.task
    if outcome.error is None:
        note = f"{note}; " if (note := summary_of(task.folder).note) else ""
        say(f"{task.path.name}: {'done before, ' if outcome.before else ''}{note}see {task.folder / PREVIEW}")
        if task.objects and (left_out := left_out_of(task.folder, least_px=task.objects.least_px)):
            say(f"  counted but not outlined: {left_out}")
    return outcome.error is None


def _report_failed(failed: Sequence[Outcome], *, of: int, alone: bool) -> NoReturn:
    """List the failed slides and exit with status 1; a single slide is an input error."""
    for outcome in failed:
        if outcome.trace:
            typer.echo(outcome.trace, err=True)
    if alone and not failed[0].trace:
        raise PredictionError(failed[0].error or "")
    report_failed_slides("predict", [str(outcome.error) for outcome in failed], of=of)
