"""``cytoseg recipe new``: a commented recipe from three answers."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from cytoseg.errors import RecipeError
from cytoseg.recipe import load_recipe
from cytoseg.slides.open import find_slides
from cytoseg.slides.settings import MAX_MPP, MIN_MPP
from cytoseg.terminal import say, say_next
from cytoseg.workflows.recipe_text import Sizes, Wanted, base_model, inspect_slides, recipe_text
from cytoseg.writing import write_atomically

_OPTIONS = "Give all answers as options: --folder SLIDES --mpp 0.5 --classes background,cytoplasm,nucleus."


def new(
    path: Annotated[Path, typer.Argument(metavar="[FILE]", help="Recipe file to write.")] = Path("mylab.yaml"),
    folder: Annotated[list[Path] | None, typer.Option("--folder", help="Folder of slides. Repeatable.")] = None,
    mpp: Annotated[
        str | None,
        typer.Option("--mpp", help="Micrometres per pixel; none uses level 0."),
    ] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="Class names, such as background,cytoplasm,nucleus.")
    ] = None,
) -> None:
    """Write a commented recipe for your own slides from three answers; missing options are asked for.

    The proposed pixel size is read from the slides. `cytoseg recipe check` then opens all of them.
    """
    path = path if path.suffix or not path.name else path.with_suffix(".yaml")
    if path.exists():
        raise RecipeError(f"{path}: already exists. Choose another name, or remove it.")
    folders = folder or [Path(_asked("Folder of your slides", option="--folder"))]
    slides = find_slides(folders, ["**/*"])
    sizes = inspect_slides(slides)
    wanted = _mpp(mpp, sizes, slides=len(slides))
    names = _names(classes or _asked("Classes", default="background, cytoplasm, nucleus", option="--classes"))
    text = recipe_text(path.stem, folders, sizes, Wanted(wanted, names, base_model=base_model()))
    write_atomically(path, text)
    try:
        load_recipe(str(path))
    except RecipeError:
        path.unlink()
        raise
    say(f"Written: {path}, for {len(slides)} slides. Read it: every line is commented.")
    say_next("recipe", "check", str(path))


def _asked(question: str, *, option: str, default: str | None = None) -> str:
    try:
        return str(typer.prompt(question, default=default)).strip()
    except typer.Abort as error:
        say("")
        raise RecipeError(f"recipe new: no terminal for questions, here for {option}. {_OPTIONS}") from error


def _mpp(given: str | None, sizes: Sizes, *, slides: int) -> float | None:
    proposed = sizes.proposed
    if given is None:
        say(f"{slides} slides. {_said_of(sizes)}")
        default = "none" if proposed is None else f"{proposed:g}"
        given = _asked("Micrometres per pixel (none: level 0)", default=default, option="--mpp")
    if given.casefold() in ("none", "null"):
        return None
    try:
        found = float(given.replace(",", "."))
    except ValueError:
        found = 0.0
    if not MIN_MPP <= found <= MAX_MPP:
        raise RecipeError(
            f"--mpp {given[:40]!r}: write micrometres per pixel, {MIN_MPP:g} to {MAX_MPP:g}, such as 0.5, or none."
        )
    return found


def _said_of(sizes: Sizes) -> str:
    counts = Counter("not stated" if mpp is None else f"{mpp:.4g}" for mpp in sizes.mpp)
    return f"Micrometres per pixel: {', '.join(f'{text} ({count})' for text, count in counts.most_common(5))}."


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if len(names) < 2:
        raise RecipeError(f"--classes {text[:60]!r}: name at least two classes, separated by commas.")
    return names
