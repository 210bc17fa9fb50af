"""``cytoseg recipe new``: a commented recipe from three answers."""

import colorsys
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cytoseg.errors import RecipeError, SlideError, report, together
from cytoseg.recipe import load_recipe
from cytoseg.shipped import shipped_models
from cytoseg.slides.open import find_slides, open_slide
from cytoseg.terminal import say, say_next
from cytoseg.writing import write_atomically

LOOKED_AT = 50
"""So many slides of a collection are opened to propose a pixel size, spread over all of it."""
LARGEST_PX, MULTIPLE_PX = 256, 8
"""A crop's side, where the slides are so large; the network halves it three times."""
GLASS, COLOURS = "#f0f0f0", ("#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#0072b2", "#f0e442")


@dataclass(frozen=True)
class Sizes:
    """What the slides that were looked at say of themselves.

    Attributes:
        mpp: Micrometres per level-0 pixel of each; None where a slide does not say.
        sides_px: The shorter side of each in level-0 pixels.
    """

    mpp: tuple[float | None, ...]
    sides_px: tuple[int, ...]

    @property
    def proposed(self) -> float | None:
        """The coarsest of the sizes that are common: no slide of it has to be enlarged; None where none is said."""
        counts = Counter(round(mpp, 4) for mpp in self.mpp if mpp is not None)
        return max((mpp for mpp, count in counts.items() if 10 * count >= counts.total()), default=None)


def new(
    path: Annotated[Path, typer.Argument(metavar="[FILE]", help="The recipe to write.")] = Path("mylab.yaml"),
    folder: Annotated[list[Path] | None, typer.Option("--folder", help="Folder of slides. Repeatable.")] = None,
    mpp: Annotated[
        str | None,
        typer.Option("--mpp", help="Micrometres per pixel; none takes pixels as they are."),
    ] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="What is told apart, such as background,cytoplasm,nucleus.")
    ] = None,
) -> None:
    """Write a commented recipe for your own slides, from three answers; what no option says is asked.

    The pixel size that is proposed is read from the slides. `cytoseg recipe check` then opens all of them.
    """
    path = path if path.suffix else path.with_suffix(".yaml")
    if path.exists():
        raise RecipeError(f"{path}: is there already. Choose another name, or take it away.")
    folders = folder or [Path(_asked("Folder of your slides", option="--folder"))]
    slides = find_slides(folders, ["**/*"])
    sizes = _look_at(slides)
    wanted = _mpp(mpp, sizes, slides=len(slides))
    names = _names(classes or _asked("Classes", default="background, cytoplasm, nucleus", option="--classes"))
    text = recipe_text(path.stem, folders, sizes, mpp=wanted, classes=names)
    write_atomically(path, text)
    try:
        load_recipe(str(path))
    except RecipeError:
        path.unlink()
        raise
    say(f"Written: {path}, for {len(slides)} slides. Look at it: every line says what it is for.")
    say_next("recipe", "check", str(path))


def recipe_text(stem: str, folders: Sequence[Path], sizes: Sizes, *, mpp: float | None, classes: Sequence[str]) -> str:
    """Write a recipe.

    Args:
        stem: Of the file; names the run folder.
        folders: Of the slides.
        sizes: What the slides say.
        mpp: Micrometres per pixel at which they are read; None for pixels as they are.
        classes: Their names.
    """
    name = re.sub(r"[^\w.-]+", "-", stem).strip("-.")[:80] or "mylab"
    fill = next((label for label in classes if label.casefold() in ("background", "glass")), None)
    unsaid = sum(found is None for found in sizes.mpp)
    assumed = (
        f"  assume_mpp: {mpp:g}          # of slides that do not say; the scanner's value\n" if mpp and unsaid else ""
    )
    colours = (f'  - {{name: {_quoted(label)}, colour: "{colour}"}}' for label, colour in _coloured(classes, fill))
    return _TEMPLATE.format(
        name=_quoted(name),
        folders=", ".join(_quoted(str(folder)) for folder in folders),
        mpp="null" if mpp is None else f"{mpp:g}",
        assumed=assumed,
        size_px=_crop_px(sizes, mpp),
        models=", ".join(shipped_models()),
        model=next(iter(shipped_models()), "runs/other/ddpm"),
        classes="\n".join(colours),
        fill="null" if fill is None else _quoted(fill),
    )


_TEMPLATE = """\
# Written by `cytoseg recipe new`. `cytoseg recipe explain` tells of all keys, also of those that are not here.

name: {name}                  # names the run folder: runs/<name>
slides:
  folders: [{folders}]        # searched at any depth
  mpp: {mpp}                  # micrometres per pixel at which crops and tiles are read; null: pixels as they are
{assumed}crops:
  size_px: {size_px}                # side of the crops that the diffusion model learns from
training:
  crops: 1000000              # length of the training: days on a CPU, hours on a GPU; 20000 is a first look
  # init: {model}            # begin from a model that knows cells already ({models}): far fewer crops are needed
classes:                      # what is told apart, in the order of ids
{classes}
fill: {fill}                  # class of the pixels that nobody marked; null: they are ignored
labels:
  crop_px: 256                # side of the crops to annotate
"""


def _asked(question: str, *, option: str, default: str | None = None) -> str:
    try:
        return str(typer.prompt(question, default=default)).strip()
    except typer.Abort as error:
        raise RecipeError(f"recipe new: nobody answers here. Say it with {option}.") from error


def _look_at(slides: Sequence[Path]) -> Sizes:
    """Read pixel size and size of some slides.

    Raises:
        SlideError: If none can be opened.
    """
    found: list[tuple[float | None, int]] = []
    problems: list[str] = []
    for path in slides[:: max(1, -(-len(slides) // LOOKED_AT))]:
        try:
            with open_slide(path) as slide:
                size = slide.levels[0].size
                found.append((slide.mpp, min(size.width, size.height)))
        except SlideError as error:
            problems.append(str(error))
    if not found:
        raise SlideError(report(together(problems, noun="slides"), what="slides"))
    return Sizes(tuple(mpp for mpp, _ in found), tuple(side for _, side in found))


def _mpp(given: str | None, sizes: Sizes, *, slides: int) -> float | None:
    proposed = sizes.proposed
    if given is None:
        say(f"{slides} slides. {_said_of(sizes)}")
        default = "none" if proposed is None else f"{proposed:g}"
        given = _asked("Micrometres per pixel (none: pixels as they are)", default=default, option="--mpp")
    if given.casefold() in ("none", "null"):
        return None
    try:
        found = float(given.replace(",", "."))
    except ValueError:
        found = 0.0
    if not 0 < found <= 20:
        raise RecipeError(f"--mpp {given[:40]!r}: write micrometres per pixel such as 0.5, or none.")
    return found


def _said_of(sizes: Sizes) -> str:
    counts = Counter("not said" if mpp is None else f"{mpp:.4g}" for mpp in sizes.mpp)
    return f"Micrometres per pixel: {', '.join(f'{text} ({count})' for text, count in counts.most_common(5))}."


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if len(names) < 2:
        raise RecipeError(f"--classes {text[:60]!r}: name two classes or more, with commas between them.")
    return names


def _crop_px(sizes: Sizes, mpp: float | None) -> int:
    """Give the side of a crop: as usual, or as large as the smallest slide that was looked at allows."""
    rooms = [
        side * (found or mpp or 1.0) / mpp if mpp else side
        for found, side in zip(sizes.mpp, sizes.sides_px, strict=True)
    ]
    side = min(LARGEST_PX, int(min(rooms)) // MULTIPLE_PX * MULTIPLE_PX)
    if side < 2 * MULTIPLE_PX:
        raise SlideError(f"slides: one of {min(sizes.sides_px)} px a side is too small to learn from. Take it away.")
    return side


def _coloured(classes: Sequence[str], fill: str | None) -> list[tuple[str, str]]:
    others = [name for name in classes if name != fill]
    more = (colorsys.hsv_to_rgb(number / len(others), 0.75, 0.85) for number in range(len(others)))
    spread = ["#" + "".join(f"{round(255 * part):02x}" for part in colour) for colour in more]
    colours = COLOURS if len(others) <= len(COLOURS) else spread
    chosen = dict(zip(others, colours, strict=False))
    return [(name, chosen.get(name, GLASS)) for name in classes]


def _quoted(text: str) -> str:
    """Write a text so that YAML reads it back: as JSON does, where it is more than a plain word."""
    plain = re.fullmatch(r"[A-Za-z][\w./-]*", text, re.ASCII) and text.casefold() not in ("null", "true", "false")
    return text if plain else json.dumps(text, ensure_ascii=False)
