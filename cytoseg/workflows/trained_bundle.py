"""The run's bundle as a method to score, and the checks before it is scored."""

import numpy as np
from numpy.typing import NDArray

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.devices import pick_device
from cytoseg.errors import CheckpointError
from cytoseg.evaluation.evaluate import CropPrediction, Method
from cytoseg.features.extract import describe_extractors
from cytoseg.interpreter.bundle import Bundle, EnsemblePredictor
from cytoseg.interpreter.decoder import Decoder
from cytoseg.interpreter.segdiff import SegDiff
from cytoseg.interpreter.student import Student
from cytoseg.labels.split import Split
from cytoseg.quoting import join_first
from cytoseg.recipe import Recipe
from cytoseg.workflows.crop_prediction import predict_crops


def ensemble_method(bundle: Bundle, recipe: Recipe) -> Method:
    """Wrap a bundle as a method that ``evaluate`` can score, with the tiles and the device of a recipe."""
    device = pick_device(recipe.training.device)
    if device.type == "cpu":
        tune_cpu_allocator()
    maps_of = predict_crops(EnsemblePredictor(bundle, device=device), recipe)

    def predict(picture: NDArray[np.uint8]) -> CropPrediction:
        probabilities, disagreement = maps_of(picture)
        return CropPrediction(probabilities.argmax(0).astype(np.uint8), disagreement, probabilities)

    return Method("ensemble", _title(bundle), predict, bundle.origin["train_seconds"])


def _title(bundle: Bundle) -> str:
    if isinstance(bundle.interpreter, Student):
        return "Student of the decoder or the MLPs"
    if isinstance(bundle.interpreter, Decoder):
        return "Decoder, tuned from the backbone"
    if isinstance(bundle.interpreter, SegDiff):
        return f"SegDiff, {bundle.interpreter.votes} draws"
    features = describe_extractors(bundle.features.extractors, channels=bundle.architecture.channels)
    return f"{features[0].upper()}{features[1:]}, {bundle.interpreter.members} MLPs"


def refuse_trained_on(bundle: Bundle, split: Split, *, recipe: str, command: str) -> None:
    """Check that the bundle was not trained on a test crop.

    Args:
        bundle: The bundle.
        split: Split of the labelled crops.
        recipe: Name of the recipe, for the message.
        command: The command, for the message.

    Raises:
        CheckpointError: If it was trained on a test crop.
    """
    trained = bundle.origin["labels"]
    both = [crop.crop for crop in split.test if crop.crop in trained]
    if both:
        named = join_first(both, max_parts=3, between=", ")
        raise CheckpointError(
            f"{command}: the bundle was trained on {len(both)} of the test crops ({named}). "
            f"Run `cytoseg train-interpreter` again with the split of recipe {recipe}."
        )
