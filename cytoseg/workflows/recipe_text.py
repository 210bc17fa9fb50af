"""Writing a commented recipe for new slides."""

import colorsys
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cytoseg.errors import RecipeError, SlideError, report, together
from cytoseg.features.fitting_scale import best_scale, fits, known_sizes
from cytoseg.json_text import load_json
from cytoseg.patterns import is_unicode
from cytoseg.quoting import printable
from cytoseg.shipped import find_base_model, shipped_models
from cytoseg.slides.open import open_slide

MAX_INSPECTED = 50
"""Number of slides opened to propose a pixel size, spread over the collection."""
LARGEST_PX, MULTIPLE_PX = 256, 8
"""Default side of a crop if the slides are large enough; the network downsamples it three times."""
_NUCLEUS_UM = 8.0
"""Usual width of the nucleus of a squamous cell."""
GLASS, COLOURS = "#f0f0f0", ("#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#0072b2", "#f0e442")


@dataclass(frozen=True)
class Sizes:
    """Pixel sizes and sizes of the inspected slides.

    Attributes:
        mpp: Micrometres per level-0 pixel of each; None if not stated.
        sides_px: The shorter side of each in level-0 pixels.
    """

    mpp: tuple[float | None, ...]
    sides_px: tuple[int, ...]

    @property
    def proposed(self) -> float | None:
        """The coarsest common pixel size, so that no slide is enlarged; None if none is stated."""
        counts = Counter(round(mpp, 4) for mpp in self.mpp if mpp is not None)
        return max((mpp for mpp, count in counts.items() if 10 * count >= counts.total()), default=None)


def inspect_slides(slides: Sequence[Path]) -> Sizes:
    """Read pixel sizes and sizes of some slides.

    Raises:
        SlideError: If none can be opened.
    """
    found: list[tuple[float | None, int]] = []
    problems: list[str] = []
    for path in slides[:: max(1, -(-len(slides) // MAX_INSPECTED))]:
        try:
            with open_slide(path) as slide:
                size = slide.levels[0].size
                found.append((slide.mpp, min(size.width, size.height)))
        except SlideError as error:
            problems.append(str(error))
    if not found:
        raise SlideError(report(together(problems), what="slides"))
    return Sizes(tuple(mpp for mpp, _ in found), tuple(side for _, side in found))


@dataclass(frozen=True)
class Wanted:
    """The user's choices for a recipe.

    Attributes:
        mpp: Micrometres per pixel at which slides are read; None for level 0.
        classes: Names of the classes.
        colours: ``#rrggbb`` by class name; other classes get a default colour.
        base_model: Base model to take features from; None requires ``train-ddpm``.
    """

    mpp: float | None
    classes: Sequence[str]
    colours: Mapping[str, str] = field(default_factory=dict)
    base_model: str | None = None


def base_model() -> str | None:
    """Name the model whose features a new project begins with, if one came with the program."""
    return next(iter(shipped_models()), None)


def recipe_text(stem: str, folders: Sequence[Path], sizes: Sizes, wanted: Wanted) -> str:
    """Write a recipe.

    Args:
        stem: File stem, also the name of the run folder.
        folders: Slide folders.
        sizes: Sizes of the slides.
        wanted: The user's choices.

    Raises:
        RecipeError: If the name of a folder or class is not UTF-8.
    """
    mpp, classes = wanted.mpp, wanted.classes
    name = re.sub(r"[^\w.-]+", "-", stem).strip("-.")[:80] or "mylab"
    fill = _fill_of(classes)
    unsaid = sum(found is None for found in sizes.mpp)
    assumed = (
        f"  assume_mpp: {mpp:g}          # for slides that do not state it; the scanner's value\n"
        if mpp and unsaid
        else ""
    )
    colours = (f'  - {{name: {_quoted(label)}, colour: "{colour}"}}' for label, colour in class_colours(wanted))
    return _TEMPLATE.format(
        name=_quoted(name),
        folders=", ".join(_quoted(str(folder)) for folder in folders),
        mpp="null" if mpp is None else f"{mpp:g}",
        assumed=assumed,
        size_px=training_crop_px(sizes, mpp),
        init=_init(wanted.base_model),
        features="" if wanted.base_model is None else _base_features(wanted.base_model, mpp or sizes.proposed),
        classes="\n".join(colours),
        fill="null" if fill is None else _quoted(fill),
    )


_TEMPLATE = """\
# Written by `cytoseg recipe new`. `cytoseg recipe explain` describes all keys, including those not listed here.

name: {name}                  # names the run folder: runs/<name>
slides:
  folders: [{folders}]        # searched at any depth
  mpp: {mpp}                  # micrometres per pixel at which crops and tiles are read; null: level 0
{assumed}crops:
  size_px: {size_px}                # side of the training crops of the diffusion model
training:
{init}
  crops: 1000000              # length of train-ddpm: days on a CPU, hours on a GPU; 20000 is a first look
classes:                      # the classes, in the order of ids
{classes}
fill: {fill}                  # class of unmarked pixels; null: ignore
labels:
  crop_px: 256                # side of the crops to annotate
{features}"""
_BASE_FEATURES = """\
features:
  timesteps: [0]              # the base model's mask head was trained without noise
  extractors: [ddpm, filters] # the model's features beside those of image filters
"""
_SCALED = """\
  scale: {scale:g}                # nuclei of {um:g} um are {px:.0f} px wide here, and the base model knows smaller ones
"""


def _base_features(model: str, mpp: float | None) -> str:
    """Write the section features for a base model; ``mpp`` is None if unknown."""
    known = known_sizes(load_json(find_base_model(Path(model)) / "state.json"))
    px = None if mpp is None else _NUCLEUS_UM / mpp
    if known is None or px is None or px < known[0] or fits(px, known):
        return _BASE_FEATURES
    return _BASE_FEATURES + _SCALED.format(scale=best_scale(px, known), um=_NUCLEUS_UM, px=px)


def _init(named: str | None) -> str:
    models = ", ".join(shipped_models())
    if named is not None:
        told = f"features of this model ({models}) are used unchanged; without this line train-ddpm trains one first"
        return f"  init: {named}         # {told}"
    model = base_model() or "runs/other/ddpm"
    told = f"start from a model pretrained on cells ({models}): far fewer crops are needed"
    return f"  # init: {model}            # {told}"


def training_crop_px(sizes: Sizes, mpp: float | None) -> int:
    """Return the default side of a training crop, or the largest one that fits the smallest inspected slide.

    Raises:
        SlideError: If a slide is too small for any.
    """
    rooms = [
        side * (found or mpp or 1.0) / mpp if mpp else side
        for found, side in zip(sizes.mpp, sizes.sides_px, strict=True)
    ]
    side = min(LARGEST_PX, int(min(rooms)) // MULTIPLE_PX * MULTIPLE_PX)
    if side < 2 * MULTIPLE_PX:
        raise SlideError(f"slides: one of {min(sizes.sides_px)} px a side is too small for training. Remove it.")
    return side


def class_colours(wanted: Wanted) -> list[tuple[str, str]]:
    """Return the colour of each class, ``#rrggbb``: the wanted one, otherwise one that no other class has."""
    taken = {colour.lower() for colour in wanted.colours.values()}
    usual = coloured(wanted.classes, _fill_of(wanted.classes))
    free = iter([colour for colour in COLOURS if colour not in {*taken, *(colour for _, colour in usual)}])
    return [
        (label, wanted.colours.get(label) or (next(free, colour) if colour in taken else colour))
        for label, colour in usual
    ]


def _fill_of(classes: Sequence[str]) -> str | None:
    return next((label for label in classes if label.casefold() in ("background", "glass")), None)


def coloured(classes: Sequence[str], fill: str | None) -> list[tuple[str, str]]:
    """Assign each class a colour, ``#rrggbb``: glass to the fill class, colour-blind safe ones to the others."""
    others = [name for name in classes if name != fill]
    more = (colorsys.hsv_to_rgb(number / len(others), 0.75, 0.85) for number in range(len(others)))
    spread = ["#" + "".join(f"{round(255 * part):02x}" for part in colour) for colour in more]
    colours = COLOURS if len(others) <= len(COLOURS) else spread
    chosen = dict(zip(others, colours, strict=False))
    return [(name, chosen.get(name, GLASS)) for name in classes]


def _quoted(text: str) -> str:
    """Quote a text for YAML, unless it is a plain word.

    Raises:
        RecipeError: If it is the name of a file, or was typed, in another encoding.
    """
    if not is_unicode(text):
        raise RecipeError(f"{text}: is not UTF-8, as a recipe is. Use another name.")
    plain = re.fullmatch(r"[A-Za-z][\w./-]*", text, re.ASCII) and text.casefold() not in ("null", "true", "false")
    # Of all characters that JSON leaves as they are, YAML takes some for line breaks and refuses others.
    return text if plain else printable(json.dumps(text, ensure_ascii=False))
