"""Making a bundle of a trained interpreter."""

from typing import Any

from torch import nn

from cytoseg.features.extract import FeatureExtractor
from cytoseg.interpreter.bundle import Bundle, Interpreter
from cytoseg.interpreter.decoder import Decoder
from cytoseg.interpreter.segdiff import SegDiff
from cytoseg.interpreter.student import Student
from cytoseg.recipe import Recipe


def new_bundle(interpreter: Interpreter, extractor: FeatureExtractor, recipe: Recipe, origin: dict[str, Any]) -> Bundle:
    """Make the bundle of an interpreter that was trained on the features of an extractor.

    Args:
        interpreter: The MLPs, decoder, student or SegDiff.
        extractor: Computes its features, with the network.
        recipe: The recipe of the training.
        origin: Everything that determined the result.
    """
    return Bundle(
        unet=_network(interpreter, extractor),
        architecture=extractor.architecture,
        interpreter=interpreter,
        features=extractor.settings,
        classes=recipe.class_list(),
        mpp=recipe.slides.mpp,
        vote=recipe.interpreter.vote,
        precision=recipe.training.precision,
        origin=origin,
        recipe=recipe.model_dump(mode="json"),
        encoder=extractor.encoder,
    )


def _network(interpreter: Interpreter, extractor: FeatureExtractor) -> nn.Module:
    """Return the network stored in a bundle beside its interpreter."""
    if isinstance(interpreter, Student | SegDiff):
        return nn.Identity()
    return interpreter.unet if isinstance(interpreter, Decoder) else extractor.unet
