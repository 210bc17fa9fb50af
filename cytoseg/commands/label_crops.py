"""``cytoseg label-crops``: random tissue crops to annotate."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from cytoseg.active_learning.candidates import Frame
from cytoseg.active_learning.cut_crops import CropPlaces, Cutting, cut_chosen, parse_place
from cytoseg.devices import pick_device
from cytoseg.diffusion.state import load_backbone
from cytoseg.errors import RecipeError
from cytoseg.formats.annotation import UNSCORED
from cytoseg.interpreter.proposals_without_labels import MaskHeadProposals
from cytoseg.leftovers import sweep_files
from cytoseg.recipe import Recipe
from cytoseg.terminal import progress, say, say_next
from cytoseg.workflows.backbone import backbone_folder
from cytoseg.workflows.labelme_hint import say_labelme
from cytoseg.workflows.random_places import choose_places, write_place
from cytoseg.workflows.recorded_command import Overrides, RecipeArgument, Run, start_run
from cytoseg.workflows.training_crops import tissue_crops
from cytoseg.writing import write_atomically


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    n: Annotated[int, typer.Option("--n", min=1, help="How many crops.")] = 30,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; default to_label/ in the run folder.")] = None,
    size: Annotated[
        int | None, typer.Option("--size", help="Side of a crop in pixels; default labels.crop_px.")
    ] = None,
    slide: Annotated[Path | None, typer.Option("--slide", help="Slide to cut crops from, with --at.")] = None,
    at: Annotated[
        list[str] | None, typer.Option("--at", metavar="X,Y", help="Centre of a crop in level-0 pixels. Repeatable.")
    ] = None,
    propose: Annotated[
        bool, typer.Option("--propose", help="Add the base model's predictions as shapes to correct.")
    ] = False,
) -> None:
    """Cut tissue crops to annotate in labelme: random ones, or chosen ones with --slide and --at.

    Of a few random places the one with the highest contrast is taken; crops overlap only if there is no room, and
    near-empty glass is skipped.

    Each crop is a PNG with a sidecar <crop>.crop.json that holds slide and region for label-import; labels.txt has the
    class names for `labelme --labels labels.txt`. The same seed gives the same crops, and a larger number adds to the
    existing ones. Chosen crops of a predicted slide come with the prediction as polygons to correct.

    With --propose a model trained with labelled sources (this run's, or training.init) marks the classes it knows, such
    as nuclei, in random crops, without labels. label-import skips unsaved proposals.
    """
    if (slide is None) != (not at):
        raise RecipeError("--slide and --at belong together: the slide, and the centre of each crop on it.")
    if slide is not None and propose:
        raise RecipeError(
            "--propose is for random crops; crops chosen with --at get the prediction anyway. Omit one of them."
        )
    given = [f"labels.crop_px={size}"] if size is not None else []
    with start_run(recipe, [*(overrides or []), *given], command="label-crops") as current:
        folder = out or current.folder / "to_label"
        sweep_files(folder)
        if slide is not None:
            chosen = CropPlaces(slide, [parse_place(text) for text in at or ()], current.folder / "predictions")
            told = _cut_chosen(chosen, current.recipe, folder)
        else:
            told = _cut_random(n, current.recipe, folder, guess=_guess(current) if propose else None)
        write_atomically(folder / "labels.txt", "\n".join([UNSCORED, *current.recipe.class_list().names]) + "\n")
        say_labelme(f"{told} Annotate them", folder, "--labels", str(folder / "labels.txt"), recipe=recipe)
        say_next("label-import", str(folder), "--recipe", recipe)


def _cut_chosen(chosen: CropPlaces, recipe: Recipe, folder: Path) -> str:
    """Cut crops at chosen places; return a sentence for the user."""
    frame = Frame(recipe.labels.crop_px, recipe.slides)
    new, shapes = cut_chosen(chosen, Cutting(frame, recipe.class_list()), folder)
    return f"{new} new crops, {len(chosen.places) - new} already existed; {shapes} with the prediction."


def _guess(current: Run) -> MaskHeadProposals:
    """Load the model for proposals: the run's own, otherwise the one its recipe starts from."""
    recipe = current.recipe
    folder = backbone_folder(recipe, current.folder)
    unet, _, _ = load_backbone(folder)
    device = pick_device(recipe.training.device)
    guess = MaskHeadProposals(unet, recipe.class_list(), device=device, precision=recipe.training.precision)
    source = folder if folder == current.folder / "ddpm" else recipe.training.init
    say(f"{source} proposes {', '.join(guess.guessed)}.")
    return guess


def _cut_random(n: int, recipe: Recipe, folder: Path, *, guess: MaskHeadProposals | None) -> str:
    """Cut random crops; return sentences for the user."""
    with (
        contextlib.closing(tissue_crops(recipe)) as crops,
        contextlib.closing(crops.fitted(recipe.labels.crop_px)) as crop,
    ):
        shortest, longest = crop.sides_px
        if shortest < recipe.labels.crop_px:
            which = "No slide holds" if longest < recipe.labels.crop_px else "Not every slide holds"
            size = f"{longest} px" if shortest == longest else f"{shortest} to {longest} px"
            say(f"{which} a crop of {recipe.labels.crop_px} px (labels.crop_px): these have {size}.")
        with progress("crops", n) as bar:
            places = list(choose_places(crop, n, seed=recipe.training.seed, on_place=bar.update))
        new = 0
        with progress("proposals" if guess else "files", len(places)) as bar:
            for done, place in enumerate(places, start=1):
                new += write_place(place, recipe, folder, guess=guess)
                bar.update(done)
    told = f"{new} new crops, {len(places) - new} already existed."
    return told if len(places) == n else f"{told} {n - len(places)} places were almost all glass."
