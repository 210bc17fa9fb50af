"""``cytoseg anomaly``: anomaly maps and ranked regions of slides, against normal ones."""

import contextlib
from collections.abc import Iterator
from typing import Annotated

import typer

from cytoseg.anomaly.outputs import ANOMALY
from cytoseg.anomaly.regions import REGIONS_CSV, read_list
from cytoseg.anomaly.thresholds import Thresholds
from cytoseg.errors import PredictionError, RecipeError
from cytoseg.predict.slide import OnProgress
from cytoseg.predict.slide_task import SlideTask
from cytoseg.terminal import progress, say
from cytoseg.workflows.anomaly import known_thresholds, learn_thresholds, load_scorer, score_slides, trained_on
from cytoseg.workflows.failed_slides import report_failed_slides
from cytoseg.workflows.recorded_command import RecipeArgument, start_run
from cytoseg.workflows.slide_paths import expand, without_overrides


def run(
    recipe: RecipeArgument,
    slides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SLIDE]... [SECTION.KEY=VALUE]...", help="Slides as for `cytoseg predict`; and overrides."
        ),
    ] = None,
    normal: Annotated[
        list[str] | None,
        typer.Option(
            "--normal",
            metavar="SLIDE",
            help="A normal slide, folder or glob that the diffusion model has not seen; repeat for more. The "
            "thresholds are saved with the run, so later calls need none.",
        ),
    ] = None,
) -> None:
    """Find anomalies: maps of what normal slides do not show, and a ranked list of regions.

    The run's diffusion model, trained on normal slides, denoises each tile; a large error marks something unusual.
    Errors at low noise (texture) show ink and dirt, those at high noise (shape) show unusual shapes. Each class of the
    run's interpreter has its own threshold, which 2.5 % of its pixels on normal slides exceed.

    Writes into anomaly/ of the run folder, for each slide: anomaly.ome.tif (the larger of texture.ome.tif and
    shape.ome.tif, in thresholds), residual.ome.tif (how much anomalous parts change when redrawn), class_map.ome.tif,
    regions.csv and regions.json, images of the highest regions, and preview.png. An interrupted slide continues from
    its last finished row.
    """
    given = slides or []
    named, overrides = without_overrides(given)
    if not named and not normal:
        raise RecipeError("anomaly: no slide was named. Name slides to score, or normal ones with --normal.")
    with start_run(recipe, overrides, command="anomaly") as current:
        paths, reference = (expand(texts, command="anomaly") if texts else [] for texts in (named, normal))
        scorer = load_scorer(current, _watch)
        if reference:
            if seen := trained_on(current.recipe, reference):
                say(f"The diffusion model was trained on {', '.join(seen)}: held-out slides give better thresholds.")
            thresholds = learn_thresholds(scorer, reference)
            _tell_thresholds(thresholds)
        else:
            thresholds = known_thresholds(scorer, paths[0])
        outcomes = score_slides(scorer, paths, thresholds)
        failed = [error for _, error in outcomes if error is not None]
        current.entry.update(slides=[path.name for path in paths], normal=len(thresholds.slides), failed=len(failed))
        for task, error in outcomes:
            if error is None:
                _tell_slide(task)
        if failed:
            if len(outcomes) == 1:
                raise PredictionError(failed[0])
            report_failed_slides("anomaly", failed, of=len(outcomes))


@contextlib.contextmanager
def _watch(name: str) -> Iterator[OnProgress]:
    with progress(name, 1) as bar:
        yield bar.update_phase


def _tell_thresholds(thresholds: Thresholds) -> None:
    pixels = sum(slide.pixels for slide in thresholds.slides)
    count = len(thresholds.slides)
    say(f"Thresholds from {count} normal slide{'s' * (count > 1)}, {pixels:,} pixels.")


def _tell_slide(task: SlideTask) -> None:
    found = read_list(task.folder)
    if not found.tissue:
        say(f"{task.path.name}: no tissue was found, so nothing was scored.")
        return
    areas = ", ".join(f"{name} {share:.1%}" for name, share in found.areas.items())
    say(f"{task.path.name}: above the threshold {areas} (normal 2.5%); {len(found.regions)} regions listed in")
    say(f"  {task.folder / REGIONS_CSV}, map {task.folder / ANOMALY}")
