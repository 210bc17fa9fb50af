"""What determines a trained interpreter, by which a bundle is recognised as up to date."""

from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from cytoseg.diffusion.efficientnet import WEIGHTS_SHA256
from cytoseg.errors import CheckpointError
from cytoseg.features.settings import FeatureSettings
from cytoseg.interpreter.bundle import Bundle, load_bundle
from cytoseg.interpreter.distillation import SIZE_PX
from cytoseg.interpreter.part_draw import part_px
from cytoseg.labels.index import LabelledCrop
from cytoseg.recipe import Recipe
from cytoseg.workflows.generated_pairs import generated_crops
from cytoseg.workflows.recorded_command import Run
from cytoseg.workflows.unlabelled_crops import unlabelled_inputs


def interpreter_features(recipe: Recipe) -> FeatureSettings:
    """Return the feature settings, which a decoder or SegDiff does not need."""
    settings = recipe.feature_settings()
    return replace(settings, extractors=("ddpm",)) if recipe.interpreter.kind in ("decoder", "segdiff") else settings


def training_inputs(recipe: Recipe, train: Sequence[LabelledCrop], backbone: dict[str, object]) -> dict[str, Any]:
    """Return everything that determines the result, which for a student includes what determines its teacher."""
    kinds = {recipe.interpreter.kind, *([recipe.student.teacher] if recipe.interpreter.kind == "student" else [])}
    slides = ("decoder" in kinds and recipe.decoder.unlabelled) or ("student" in kinds and recipe.student.crops)
    return {
        "recipe": recipe.name,
        "backbone": backbone,
        "labels": {crop.crop: crop.label_sha256 for crop in train},
        "pictures": {crop.crop: [crop.slide, crop.image_sha256] for crop in train},
        "classes": list(recipe.class_list().names),
        "mpp": recipe.slides.mpp,
        "seed": recipe.training.seed,
        "precision": recipe.training.precision,
        "features": [
            list(recipe.taps()),
            list(recipe.feature_timesteps()),
            {key: value for key, value in recipe.section("features").items() if key != "memory_gb"},
        ],
        "encoder": WEIGHTS_SHA256 if "pretrained" in interpreter_features(recipe).extractors else None,
        "interpreter": recipe.section("interpreter"),
        "decoder": recipe.section("decoder") if "decoder" in kinds else None,
        "student": recipe.section("student") if "student" in kinds else None,
        "tiles": [recipe.tile_px(), recipe.predict.overlap_px] if "student" in kinds else None,
        "segdiff": recipe.section("segdiff") if recipe.interpreter.kind == "segdiff" else None,
        "unlabelled": unlabelled_inputs(recipe) if slides else None,
        **_smaller_parts(recipe, train, kinds),
    }


def _smaller_parts(recipe: Recipe, train: Sequence[LabelledCrop], kinds: Set[str]) -> dict[str, Any]:
    """Return the sides of parts that small crops reduce; bundles of larger crops have no such key."""
    wanted = {"decoder": recipe.decoder.size_px, "segdiff": recipe.segdiff.size_px, "student": SIZE_PX}
    sizes = [(crop.height, crop.width) for crop in train]
    smaller = {kind: px for kind in wanted.keys() & kinds if (px := part_px(wanted[kind], sizes)) < wanted[kind]}
    return {"part_px": smaller} if smaller else {}


def generated_inputs(current: Run) -> dict[str, Any]:
    """Return the generated pairs that a student is trained on, as part of its inputs; empty without any."""
    recipe = current.recipe
    if recipe.interpreter.kind != "student" or not recipe.student.made:
        return {}
    crops = generated_crops(current.folder, recipe.student.made, recipe.class_list())
    return {"made": {crop.crop: [crop.image_sha256, crop.label_sha256] for crop in crops}}


def up_to_date_bundle(folder: Path, inputs: dict[str, Any]) -> Bundle | None:
    """Load the saved bundle if it is intact and its inputs are unchanged."""
    try:
        bundle = load_bundle(folder)
    except CheckpointError:
        return None
    return bundle if all(bundle.origin.get(key) == value for key, value in inputs.items()) else None
