"""``cytoseg predict``: class maps and uncertainty maps of slides."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cytoseg.commands.common import RecipeArgument, Run, progress, say, start_run
from cytoseg.commands.train_interpreter import BUNDLE
from cytoseg.devices import pick_device, tune_cpu_allocator
from cytoseg.errors import SlideError, report
from cytoseg.interpreter.bundle import Bundle, EnsemblePredictor, bundle_hashes, load_bundle
from cytoseg.predict.outputs import Destination, is_done
from cytoseg.predict.slide import SlideSettings, predict_slide
from cytoseg.recipe import Recipe
from cytoseg.slides.background import tissue_mask
from cytoseg.slides.open import open_slide, slide_id


def run(
    recipe: RecipeArgument,
    slides: Annotated[
        list[str], typer.Argument(metavar="SLIDE... [SECTION.KEY=VALUE]...", help="Slides or pictures, and overrides.")
    ],
) -> None:
    """Segment slides: class map, uncertainty map, preview.

    Writes class_map.ome.tif, uncertainty.ome.tif (tiled pyramids), preview.png and summary.json into
    predictions/<slide>/ of the run folder. A slide that is finished already with the same bundle and settings is left
    as it is, so the same command goes on after an interruption.
    """
    # A slide's file name may hold a "=", so what exists as a file is a slide.
    overrides = [text for text in slides if "=" in text and not Path(text).exists()]
    paths = [Path(text) for text in slides if text not in overrides]
    with start_run(recipe, overrides, command="predict") as current:
        _check(paths)
        device = pick_device(current.recipe.training.device)
        if device.type == "cpu":
            tune_cpu_allocator()
        folder = current.folder / BUNDLE
        bundle = load_bundle(folder)
        predictor = EnsemblePredictor(bundle, device=device)
        current.entry["slides"] = [path.name for path in paths]
        for path in paths:
            _predict(path, predictor, bundle, current=current, hashes=bundle_hashes(folder))


def _check(paths: list[Path]) -> None:
    """Open every slide before the first is predicted, so that a wrong name costs no time."""
    problems = []
    for path in paths:
        try:
            open_slide(path).close()
        except SlideError as error:
            problems.append(str(error))
    names = [slide_id(path) for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    problems += [f"{name}: two slides of this name would share one folder. Predict them one by one." for name in twice]
    if not paths:
        problems.append("predict: no slide was named.")
    if problems:
        raise SlideError(report(problems, what="predict"))


def _predict(path: Path, predictor: EnsemblePredictor, bundle: Bundle, *, current: Run, hashes: dict[str, str]) -> None:
    recipe = current.recipe
    folder = current.folder / "predictions" / slide_id(path)
    provenance = _provenance(path, recipe, hashes)
    if is_done(folder, provenance):
        say(f"{path.name}: done before, see {folder / 'preview.png'}")
        return
    p, background = recipe.predict, recipe.slides.background
    with open_slide(path) as slide, progress(path.name, 1) as bar:
        tissue = tissue_mask(slide, rule=background.rule, threshold=background.threshold) if p.skip_glass else None
        predict_slide(
            slide,
            predictor,
            Destination(folder, bundle.classes, provenance),
            settings=SlideSettings(p.tile_px, p.overlap_px, p.batch, bundle.mpp, recipe.slides.assumed_mpp(path)),
            tissue=tissue,
            on_tile=bar.of,
        )
    say(f"{path.name}: see {folder / 'preview.png'}")


def _provenance(path: Path, recipe: Recipe, hashes: dict[str, str]) -> dict[str, Any]:
    """Say what decides the result, so that a finished slide is known again."""
    stat = path.stat()
    return {
        "slide_bytes": stat.st_size,
        "slide_changed": int(stat.st_mtime),
        "bundle": hashes,
        "predict": recipe.predict.model_dump(mode="json"),
        "background": recipe.slides.background.model_dump(mode="json"),
        "assume_mpp": recipe.slides.assumed_mpp(path),
    }
