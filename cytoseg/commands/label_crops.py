"""``cytoseg label-crops``: random tissue crops to annotate."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from cytoseg.commands.chosen_crops import Chosen, Cutting, cut_chosen, parse_place
from cytoseg.commands.common import Overrides, RecipeArgument, progress, say, start_run
from cytoseg.commands.train_ddpm import tissue_crops
from cytoseg.devices import seed_for
from cytoseg.errors import LabelError, RecipeError
from cytoseg.labels.annotation import UNSCORED
from cytoseg.labels.sidecar import SUFFIX
from cytoseg.predict.candidates import Frame
from cytoseg.recipe import Recipe
from cytoseg.slides.crops import RandSlideCropd
from cytoseg.slides.open import slide_id
from cytoseg.writing import atomic_path, write_atomically


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    n: Annotated[int, typer.Option("--n", min=1, help="How many crops.")] = 30,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; default to_label/ in the run folder.")] = None,
    slide: Annotated[Path | None, typer.Option("--slide", help="Slide to cut chosen crops from, with --at.")] = None,
    at: Annotated[
        list[str] | None, typer.Option("--at", metavar="X,Y", help="Middle of a crop in level-0 pixels. Repeatable.")
    ] = None,
) -> None:
    """Cut tissue crops to annotate in labelme: random ones, or with --slide and --at chosen ones.

    Each crop is a PNG with a sidecar <crop>.crop.json that says slide and region, so that label-import knows where it
    is from; labels.txt holds the class names for `labelme --labels labels.txt`. The same seed gives the same crops, and
    asking for more adds to those that are there. Chosen crops of a slide that was predicted come with the prediction as
    polygons to correct.
    """
    if (slide is None) != (not at):
        raise RecipeError("--slide and --at belong together: the slide, and the middle of each crop on it.")
    with start_run(recipe, overrides, command="label-crops") as current:
        folder = out or current.folder / "to_label"
        if slide is not None:
            places = [parse_place(text) for text in at or ()]
            sizes, settings = current.recipe.crops, current.recipe.slides
            frame = Frame(sizes.size_px, settings.mpp, settings.assumed_mpp)
            cutting = Cutting(frame, current.recipe.class_list())
            new, shapes = cut_chosen(Chosen(slide, places, current.folder / "predictions"), cutting, folder)
            _finish(folder, current.recipe)
            say(
                f"{new} new crops, {len(places) - new} were there; {shapes} with the prediction. Look: labelme {folder}"
            )
            return
        with contextlib.closing(tissue_crops(current.recipe)) as crop, progress("crops", n) as bar:
            new = sum(_cut(crop, number, current.recipe, folder, seen=bar.at) for number in range(n))
        _finish(folder, current.recipe)
        say(f"{new} new crops, {n - new} were there. Annotate them: labelme {folder} --labels {folder / 'labels.txt'}")


def _finish(folder: Path, recipe: Recipe) -> None:
    names = [UNSCORED, *recipe.class_list().names]
    write_atomically(folder / "labels.txt", "\n".join(names) + "\n")


def _cut(crop: RandSlideCropd, number: int, recipe: Recipe, folder: Path, *, seen: Callable[[int], None]) -> bool:
    """Write crop ``number`` if it is not there; gives whether it was written."""
    crop.set_random_state(seed=seed_for(recipe.training.seed, number, what="label-crops"))
    pixels = crop({"image": number})["image"].numpy().transpose(1, 2, 0)
    seen(number + 1)
    region = crop.region
    slide = slide_id(crop.source.path)
    path = folder / f"{slide}_{region.x}_{region.y}.png"
    sidecar = {"slide": slide, "region": [region.x, region.y, region.width, region.height], "mpp": recipe.slides.mpp}
    beside = path.with_name(path.stem + SUFFIX)
    if path.exists():
        if json.loads(beside.read_text()) != sidecar:
            raise LabelError(f"{path}: is there already, cut at another size. Choose another folder with --out.")
        return False
    write_atomically(beside, json.dumps(sidecar))
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary)
    return True
