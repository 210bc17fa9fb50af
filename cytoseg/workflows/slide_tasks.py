"""Building the prediction task of a slide from recipe and bundle."""

from pathlib import Path
from typing import Any

from cytoseg.interpreter.bundle import bundle_state
from cytoseg.labels.settings import LabelsSection
from cytoseg.predict.settings import SlideSettings
from cytoseg.predict.slide_task import SlideTask
from cytoseg.recipe import Recipe
from cytoseg.slides.fingerprint import slide_stamp
from cytoseg.slides.open import slide_id
from cytoseg.workflows.recorded_command import refuse_other_classes

DECIDING = ("sha256", "features", "classes", "mpp", "vote", "precision")
"""Parts of a bundle besides its weights that determine the maps, such as the vote."""


def slide_task(path: Path, *, recipe: Recipe, bundle: Path, out: Path, command: str = "predict") -> SlideTask:
    """Build the task of a slide.

    Args:
        path: The slide.
        recipe: The recipe.
        bundle: Bundle folder.
        out: Parent folder; the slide gets a subfolder.
        command: The command, for the message.

    Raises:
        CheckpointError: If the bundle is missing, damaged, not a bundle, or of other classes.
    """
    state = bundle_state(bundle)
    refuse_other_classes(state["classes"]["names"], recipe, command=command)
    section, assumed = {**vars(recipe.predict), "tile_px": recipe.tile_px()}, recipe.slides.assumed_mpp(path)
    return SlideTask(
        path=path,
        folder=out / slide_id(path),
        bundle=bundle,
        settings=SlideSettings(**section, mpp=state["mpp"], assume_mpp=assumed),
        objects=recipe.object_settings(),
        background=recipe.slides.background,
        provenance=_provenance(path, recipe, {key: state[key] for key in DECIDING}),
        device=recipe.training.device,
    )


def _provenance(path: Path, recipe: Recipe, bundle: dict[str, Any]) -> dict[str, Any]:
    """Return everything that determines the result, to recognise a finished slide."""
    size, changed = slide_stamp(path)
    # The tiles of labelled crops of the usual size are not stored, so that results of earlier versions stay valid.
    follows_crops = recipe.predict.tile_px is None and recipe.labels.crop_px != LabelsSection().crop_px
    return {
        "slide_bytes": size,
        "slide_changed": changed,
        "bundle": bundle,
        "predict": recipe.section("predict"),
        "background": recipe.section("slides")["background"],
        "objects": recipe.section("objects"),
        "assume_mpp": recipe.slides.assumed_mpp(path),
        **({"tile_px": recipe.tile_px()} if follows_crops else {}),
        # Decides which classes have objects by default; the bundle's own, on which the maps depend, is in its classes.
        **({"fill": recipe.fill} if recipe.fill != bundle["classes"]["fill"] else {}),
    }
