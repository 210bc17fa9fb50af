"""The methods that ``study robustness`` compares, and the scale of its corruptions."""

from collections.abc import Set
from pathlib import Path

from cytoseg.errors import LabelError, RecipeError, SlideError
from cytoseg.interpreter.bundle import load_bundle
from cytoseg.labels.split import Split
from cytoseg.recipe import Recipe
from cytoseg.slides.corrupt import Scale
from cytoseg.slides.open import find_slides, open_slide, slide_id
from cytoseg.studies.class_sizes import class_diameters
from cytoseg.studies.compare import ComparedMethod, Predict
from cytoseg.workflows.backbone import run_backbone
from cytoseg.workflows.compared_methods import (
    TrainingData,
    all_methods,
    baselines,
    key_of_own_features,
    report_skipped_methods,
)
from cytoseg.workflows.recorded_command import refuse_other_classes, refuse_other_mpp
from cytoseg.workflows.run_paths import BUNDLE
from cytoseg.workflows.trained_bundle import ensemble_method, refuse_trained_on

COMMAND = "study robustness"
QUICK = ("commonest", "thresholds", "forest", "scratch")
"""Methods of --quick besides the run's bundle."""
_ALIKE = 1.05
"""Slides whose pixel sizes differ by no more than this factor are of one scanner setting."""


def scale_of(recipe: Recipe, split: Split) -> tuple[Scale, str]:
    """Measure the smallest objects of the train crops.

    Args:
        recipe: The recipe, with mpp and the classes that have objects.
        split: Split of the labelled crops.

    Returns:
        The scale, and the name of the class with the smallest objects.

    Raises:
        RecipeError: If the recipe states no mpp, and the slides of the crops state none, or different ones.
        LabelError: If no train crop shows an object.
    """
    mpp = recipe.slides.mpp or _level_0_mpp(recipe, {crop.slide for crop in (*split.train, *split.test)})
    names, wanted = recipe.class_list().names, recipe.object_settings().classes
    diameters = class_diameters([crop.label_map() for crop in split.train], len(names))
    found = [(px, name) for px, name in zip(diameters, names, strict=True) if px is not None and name in wanted]
    if not found:
        raise LabelError(
            f"{COMMAND}: no train crop shows an object ({', '.join(wanted)}), so the strength of blur cannot be scaled "
            "to one. Annotate some."
        )
    least_px, name = min(found)
    return Scale(mpp, least_px * mpp), name


def _level_0_mpp(recipe: Recipe, slides: Set[str]) -> float:
    """Return the pixel size of crops that were cut at level 0: what their slides state, or else what is assumed.

    Raises:
        RecipeError: If it is unknown, or differs between the slides.
    """
    found = sorted(mpp for path in _files_of(recipe, slides) if (mpp := _mpp_of(path, recipe)) is not None)
    assumed = recipe.slides.assume_mpp
    if not found and isinstance(assumed, float | int):  # the slides are not on this machine
        found = [assumed]
    if not found:
        raise RecipeError(
            f"{COMMAND}: recipe {recipe.name} states no pixel size, so blur in micrometres has no size in pixels. "
            "Set slides.mpp, or slides.assume_mpp to one value if the slides do not state theirs."
        )
    if found[-1] > _ALIKE * found[0]:
        raise RecipeError(
            f"{COMMAND}: slides.mpp is null, and the slides of the crops have {found[0]:.4g} to {found[-1]:.4g} µm per "
            "pixel, so blur in micrometres has no one size in pixels. Set slides.mpp and import the crops again."
        )
    return found[len(found) // 2]


def _files_of(recipe: Recipe, slides: Set[str]) -> list[Path]:
    """Find the files of slides in the folders of a recipe; fewer if they are not there."""
    section = recipe.slides
    try:
        files = find_slides(section.folders, include=section.include, exclude=section.exclude)
    except SlideError:
        return []
    return [path for path in files if slide_id(path) in slides]


def _mpp_of(path: Path, recipe: Recipe) -> float | None:
    """Return what a slide states, or else what is assumed of it."""
    with open_slide(path) as slide:
        return slide.mpp or recipe.slides.assumed_mpp(path)


def contenders(recipe: Recipe, split: Split, folder: Path, *, quick: bool) -> tuple[list[ComparedMethod], TrainingData]:
    """List the run's bundle and the other methods of ``compare``.

    Args:
        recipe: The recipe.
        split: Split of the labelled crops.
        folder: The run folder.
        quick: Only the bundle and the methods that take a few minutes.

    Returns:
        The methods, the bundle first, and the training data of the others.

    Raises:
        CheckpointError: If there is no bundle, it has other classes, or it was trained on a test crop.
        RecipeError: If it was trained at another pixel size.
    """
    bundle = load_bundle(folder / BUNDLE)
    refuse_other_classes(bundle.classes.names, recipe, command=COMMAND)
    refuse_other_mpp(bundle.mpp, recipe, command=COMMAND)
    refuse_trained_on(bundle, split, recipe=recipe.name, command=COMMAND)
    own = ensemble_method(bundle, recipe)

    def trained(_seed: int) -> Predict:
        return lambda picture: own.predict(picture).class_map

    methods = [ComparedMethod("ensemble", own.title, trained, {"bundle": bundle.origin}, seeded=False)]
    learning = TrainingData.of(recipe, split)
    if quick:
        return [*methods, *(method for method in baselines(learning) if method.key in QUICK)], learning
    report_skipped_methods()
    unet, _, backbone = run_backbone(recipe, folder)
    # The bundle is already the first.
    same = {"mlps": key_of_own_features(recipe), "decoder": "decoder", "segdiff": "segdiff"}.get(
        recipe.interpreter.kind
    )
    others = all_methods(learning, unet, backbone)
    return [*methods, *(method for method in others if method.key != same)], learning
