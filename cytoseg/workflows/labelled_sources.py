"""Reading a recipe's labelled sources, with class mapping and scale."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import IGNORE
from cytoseg.diffusion.mask_loss import OTHER
from cytoseg.errors import LabelError
from cytoseg.interpreter.source_parts import LabelledSource, SourceParts, translate
from cytoseg.labels.index import load_index
from cytoseg.labels.settings import SourceSection
from cytoseg.recipe import Recipe
from cytoseg.terminal import say
from cytoseg.workflows.object_size import median_diameter_px
from cytoseg.workflows.source_overlap import refuse_own_crops


def source_parts(recipe: Recipe) -> SourceParts | None:
    """Read the recipe's labelled sources; None if it names none.

    Raises:
        LabelError: If a source is missing, has classes not mapped by the recipe, or no known scale; or if one of its
            crops overlaps a labelled crop of this run.
    """
    if not recipe.labels.sources:
        return None
    sources = [_read(source, recipe, number) for number, source in enumerate(recipe.labels.sources)]
    return SourceParts(sources, size_px=recipe.crops.size_px, seed=recipe.training.seed)


def _read(source: SourceSection, recipe: Recipe, number: int) -> LabelledSource:
    where, index = f"labels.sources[{number}]", load_index(source.folder)
    refuse_own_crops(index, recipe, where)
    meaning = _meaning(index.classes, source, recipe, where)
    label_maps = [translate(crop.label_map(), meaning) for crop in index.crops]
    names = recipe.class_list().names
    return LabelledSource(
        [crop.picture() for crop in index.crops],
        label_maps,
        tuple(i in meaning for i in range(len(names))),
        _scale(source, recipe, label_maps, where),
        source,
    )


def _meaning(classes: Sequence[str], source: SourceSection, recipe: Recipe, where: str) -> list[int]:
    """Return for each id of the source an id of the recipe, ``OTHER``, or ignore."""
    ids = {"other": OTHER, "ignore": IGNORE} | {name: i for i, name in enumerate(recipe.class_list().names)}
    wanted = [source.classes.get(name, name) for name in classes]
    unknown = [name for name, here in zip(classes, wanted, strict=True) if here not in ids]
    strange = [name for name in source.classes if name not in classes]
    if unknown or strange:
        raise LabelError(
            f"{where}: {source.folder} has the classes {', '.join(classes)}; the recipe "
            f"does not say what {', '.join(unknown or strange)} means here. Write classes: "
            f"{{{(unknown or list(classes))[0]}: other}} there, or "
            f"one of {', '.join(ids)}."
        )
    meaning = [ids[name] for name in wanted]
    if not any(i < len(recipe.classes) for i in meaning):
        raise LabelError(f"{where}: {source.folder} shows none of the recipe's classes. Correct its classes.")
    return meaning


def _scale(source: SourceSection, recipe: Recipe, label_maps: Sequence[NDArray[np.uint8]], where: str) -> float:
    if source.object_px is not None:
        return source.object_px / _median_diameter_px(label_maps, where)
    if source.mpp is not None and recipe.slides.mpp is not None:
        return source.mpp / recipe.slides.mpp
    if source.mpp is None and recipe.slides.mpp is None:
        say(
            f"{where}: neither the source nor the slides state mpp, so its images are not rescaled. "
            "If its cells are larger or smaller than those of the slides, give object_px."
        )
        return 1.0
    raise LabelError(
        f"{where}: only {'the source states' if source.mpp else 'the slides state'} mpp, so the size of its cells "
        "is unknown. Give mpp in both places, or object_px."
    )


def _median_diameter_px(label_maps: Sequence[NDArray[np.uint8]], where: str) -> float:
    """Measure the objects of the rarest class: the diameter of a disc of the median area."""
    counts = np.sum([np.bincount(m.ravel(), minlength=256) for m in label_maps], axis=0)[:OTHER]
    rarest = min((int(i) for i in np.flatnonzero(counts)), key=lambda i: counts[i], default=None)
    diameter = median_diameter_px(m == rarest for m in label_maps) if rarest is not None else None
    if diameter is None:
        raise LabelError(f"{where}: contains no object to scale by. Give mpp instead of object_px.")
    return diameter
