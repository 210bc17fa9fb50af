"""``cytoseg queue``: what to annotate next."""

from pathlib import Path
from typing import Annotated

import typer

from cytoseg.active_learning.queue import Ranking, accept, draw_region, gains, rank
from cytoseg.active_learning.queue_picture import RegionPicture, draw_queue
from cytoseg.active_learning.queue_slides import QUEUE_FOLDER, QueuePlace
from cytoseg.errors import PredictionError, report
from cytoseg.leftovers import sweep_files
from cytoseg.terminal import progress, say, say_next
from cytoseg.workflows.labelme_hint import say_labelme
from cytoseg.workflows.queue_rules import queue_rules
from cytoseg.workflows.recorded_command import Overrides, RecipeArgument, start_run
from cytoseg.writing import atomic_path


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Number of regions.")] = 10,
    size: Annotated[int | None, typer.Option("--size", help="Side of a region; default labels.crop_px.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; default queue/ in the run folder.")] = None,
) -> None:
    """Choose what to annotate next: regions where the ensemble disagrees, with its prediction.

    Searches the predicted slides, except test slides, and selects uncertain regions from many slides and of varied
    appearance. Writes each as a crop with its sidecar and with the prediction as polygons to correct in labelme, and an
    image of all with the reasons beside the folder. Regions that are annotated, queued or skipped are not proposed
    again, and existing files are not replaced. Import corrected files with `cytoseg label-import`; unsaved ones are
    skipped. After the next evaluation, reports the gain of the last round.
    """
    given = [f"labels.crop_px={size}"] if size is not None else []
    with start_run(recipe, [*(overrides or []), *given], command="queue") as current:
        folder = out or current.folder / QUEUE_FOLDER
        sheet = folder.with_name(f"{folder.name}.png")
        sweep_files(folder)
        sweep_files(sheet.parent, of=sheet.name)
        rules = queue_rules(current.recipe)
        place = QueuePlace(rules, current.folder, current.recipe.labels_folder(), folder)
        for sentence in gains(place):
            say(sentence)
        with progress("looking for disagreement", 1) as bar:
            ranking = rank(place, n, on_part=bar.update_phase)
        if not ranking.slides:
            raise PredictionError(report(ranking.notes, what="queue"))
        for note in ranking.notes:
            say(f"note: {note}")
        pictures = _accept_all(place, ranking)
        current.entry["regions"] = len(pictures)
        if not pictures:
            say("No uncertain region is left to annotate. Predict more slides.")
            return
        if len(pictures) < n:
            say(f"note: there are only {len(pictures)} such regions, not {n}.")
        with atomic_path(sheet) as path:
            draw_queue(pictures, current.recipe.class_list()).save(path)
        say_labelme(f"{len(pictures)} regions queued; look at {sheet}. Correct them", folder, recipe=recipe)
        say_next("label-import", str(folder), "--recipe", recipe)


def _accept_all(place: QueuePlace, ranking: Ranking) -> list[RegionPicture]:
    """Write the regions; return the images of the new ones."""
    pictures = []
    with progress("regions", len(ranking.chosen)) as bar:
        for done, chosen in enumerate(ranking.chosen, start=1):
            picture = draw_region(place, chosen, ranking.slides)
            if accept(place, chosen, ranking.slides) is not None:
                pictures.append(picture)
            bar.update(done)
    return pictures
