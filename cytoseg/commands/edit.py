"""``cytoseg edit``: a crop redrawn so that it shows an edited class map."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.devices import pick_device
from cytoseg.errors import LabelError
from cytoseg.interpreter.bundle import EnsemblePredictor, load_bundle
from cytoseg.predict.array import Maps
from cytoseg.slides.image import read_picture
from cytoseg.terminal import progress, say
from cytoseg.workflows.crop_prediction import predict_crops
from cytoseg.workflows.edited_map import changed_region, is_glass, read_map
from cytoseg.workflows.recorded_command import (
    Overrides,
    RecipeArgument,
    refuse_other_classes,
    refuse_other_mpp,
    start_run,
)
from cytoseg.workflows.redrawing import Edit, EditOptions, Editor, mark_of_edit, save_edited
from cytoseg.workflows.run_paths import BUNDLE


def run(
    recipe: RecipeArgument,
    crop: Annotated[Path, typer.Argument(help="The image to edit.")],
    wanted: Annotated[Path, typer.Option("--map", help="Class map to draw: a labelme file, or an image of class ids.")],
    overrides: Overrides = None,
    before: Annotated[
        Path | None, typer.Option("--before", help="The map before editing; default: the interpreter's prediction.")
    ] = None,
    strength: Annotated[
        float,
        typer.Option(
            "--strength", min=0.05, max=1.0, help="How much may change: smaller values keep more of the image."
        ),
    ] = 0.8,
    scale: Annotated[
        float | None,
        typer.Option("--scale", min=0.0, help="How closely the map is followed; default 0.3, conditional models 2."),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Network evaluations.")] = 50,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed draws other cells.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="PNG to write; default edited/ in the run folder.")] = None,
) -> None:
    """Redraw a part of an image so that it shows an edited class map.

    The run's diffusion model redraws where the map was changed, and 4 px around it: from the map itself if it was
    trained with diffusion.condition=map, otherwise guided by the run's interpreter. Everything outside stays unchanged.
    The PNG text of the file states that it is generated, so that label-import never uses it as a test crop.
    """
    with start_run(recipe, overrides, command="edit") as current:
        device = pick_device(current.recipe.training.device)
        if device.type == "cpu":
            tune_cpu_allocator()
        bundle = load_bundle(current.folder / BUNDLE)
        refuse_other_classes(bundle.classes.names, current.recipe, command="edit")
        refuse_other_mpp(bundle.mpp, current.recipe, command="edit")
        editor = Editor(current.recipe, current.folder, device=device)
        maps_of = predict_crops(EnsemblePredictor(bundle, device=device), current.recipe)
        picture = read_picture(crop, name=crop.name)
        after = read_map(wanted, bundle.classes, picture.shape[:2])
        now = _class_map(maps_of, picture)
        shown = now if before is None else read_map(before, bundle.classes, picture.shape[:2])
        region = changed_region(shown, after)
        if not region.any():
            raise LabelError(
                f"{wanted.name}: the map equals the current map of {crop.name}. Change at least one pixel."
            )
        _warn_of_glass(picture, region, current.recipe.slides.background.threshold, name=wanted.name)
        mark = mark_of_edit(crop, picture, current.recipe.labels_folder(), seed=seed)
        with progress("edit", steps) as bar:
            edit, options = Edit(picture, shown, after, region), EditOptions(strength, scale, steps, seed)
            drawn = editor(edit, options, on_step=bar.update)
        target = out or current.folder / "edited" / f"{crop.stem}_{seed}.png"
        save_edited(target, drawn, mark)
        shares = [float((found == after)[region].mean()) for found in (now, _class_map(maps_of, drawn))]
        current.entry.update(edited=str(target), agreement_before=shares[0], agreement=shares[1])
        say(
            f"Redrew {region.mean():.1%} of {crop.name}. There the interpreter agrees with the map on {shares[1]:.0%} "
            f"of the pixels, {shares[0]:.0%} before. See {target}."
        )


def _warn_of_glass(picture: NDArray[np.uint8], region: NDArray[np.bool_], threshold: float, *, name: str) -> None:
    if is_glass(picture, region, threshold):
        say(f"note: {name} changes bare glass only, and the model has learned from tissue: check the result.")


def _class_map(maps_of: Callable[[NDArray[np.uint8]], Maps], picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    class_map: NDArray[np.uint8] = maps_of(picture)[0].argmax(0).astype(np.uint8)
    return class_map
