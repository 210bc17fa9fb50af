"""API: pixel classifier with scikit-learn's conventions."""

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
import sklearn.base
import sklearn.exceptions
from numpy.typing import NDArray
from torch import nn

from cytoseg.api.arguments import as_path, as_texts
from cytoseg.api.arrays import as_class_names, as_groups, as_label_maps, as_list, as_picture
from cytoseg.api.bundle import Bundle, Prediction
from cytoseg.api.scores import evaluate
from cytoseg.classes import IGNORE
from cytoseg.devices import pick_device
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.state import load_backbone
from cytoseg.errors import ArrayError, CheckpointError, CytosegError, LabelError, RecipeError
from cytoseg.features.extract import FeatureExtractor
from cytoseg.features.pixel_table import gather_pixels
from cytoseg.interpreter import bundle as saved
from cytoseg.interpreter.holdout import MIN_SLIDES
from cytoseg.interpreter.train_mlps import train_ensemble
from cytoseg.recipe import Recipe, recipe_of
from cytoseg.recipe.base_model import WITH_MASK_HEAD
from cytoseg.runs import versions
from cytoseg.shipped import find_base_model
from cytoseg.torch_defaults import torch_defaults
from cytoseg.workflows.labelled_pixels import check_rows, ensemble_settings, memory_limits, pixel_draw
from cytoseg.workflows.new_bundle import new_bundle
from cytoseg.workflows.object_size import size_advice
from cytoseg.workflows.recipe_text import coloured

Image = NDArray[np.generic]
LabelMap = NDArray[np.integer]
_PARAMETERS = {
    "features.extractors": "extractors",
    "features.scale": "scale",
    "interpreter.members": "members",
    "interpreter.steps": "steps",
    "interpreter.calibrate": "calibrate",
    "slides.mpp": "mpp",
    "training.device": "device",
    "training.init": "backbone",
    "training.seed": "random_state",
}
"""Recipe key to the parameter that sets it."""
_SHOWN_BY_MODEL = ("dim", "dim_mults", "timesteps", "schedule", "objective", "backbone", "channels", "adm")
"""Keys of the section diffusion that the backbone's own values fill in."""


class NotFittedError(CytosegError, sklearn.exceptions.NotFittedError):  # type: ignore[misc] # scikit-learn has no types
    """``fit`` has not been called."""


class PixelClassifier(sklearn.base.BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
    """An ensemble of per-pixel MLPs on features of a diffusion model and on image filters.

    The defaults suit stained cytology at about half a micrometre per pixel. Images and label maps are lists because
    sizes may differ; a label map has class ids from 0, and 255 for unlabelled pixels.

    Args:
        classes: Names of the classes, by id; None derives numbered names from the ids in the label maps.
        backbone: Name of a shipped base model, or folder of a trained diffusion model.
        extractors: Feature extractors: some of ``ddpm`` (the backbone), ``filters``, ``pretrained``.
        scale: Factor by which the backbone's input is resized: 0.25, 0.5, 1, 2 or 4. ``cytology-base`` knows nuclei of
            7 to 18 pixels, so larger ones need 0.5 or 0.25.
        members: Number of MLPs that vote together.
        steps: Most optimiser updates of each MLP.
        calibrate: Fit a temperature on held-out groups; needs at least five ``groups`` in ``fit``, or else warns.
        mpp: Micrometres per pixel of the images, at which ``predict_slide`` reads slides. None uses level 0.
        value_range: ``0..255`` for uint8 images, ``0..1`` for floating point.
        random_state: Integer seed of pixels, weights and batches, for reproducible classifiers.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Attributes:
        bundle_: After ``fit``: the trained ``Bundle``.
        classes_: After ``fit``: the ids, in the order of ``predict_proba``.
    """

    def __init__(
        self,
        classes: Sequence[str] | None = None,
        *,
        backbone: str | PathLike[str] = "cytology-base",
        extractors: Sequence[str] = ("ddpm", "filters"),
        scale: float = 1,
        members: int = 10,
        steps: int = 1500,
        calibrate: bool = False,
        mpp: float | None = None,
        value_range: str = "0..255",
        random_state: int = 0,
        device: str = "auto",
    ) -> None:
        self.classes = classes
        self.backbone = backbone
        self.extractors = extractors
        self.scale = scale
        self.members = members
        self.steps = steps
        self.calibrate = calibrate
        self.mpp = mpp
        self.value_range = value_range
        self.random_state = random_state
        self.device = device

    def fit(
        self, images: Sequence[Image], label_maps: Sequence[LabelMap], groups: Sequence[object] | None = None
    ) -> Self:
        """Train on annotated images.

        Args:
            images: (H, W, 3) RGB or (H, W) grey each.
            label_maps: (H, W) integers each, 255 for ignore.
            groups: The slide of each image; calibration holds out whole groups.

        Raises:
            ArrayError: If images, label maps or groups do not match, or ``classes`` are not different names, or
                ``extractors`` is not a list of texts.
            LabelError: If fewer than two classes are labelled.
            RecipeError: If a parameter is out of range.
            CheckpointError: If the backbone is unknown or damaged.

        Warns:
            UserWarning: If the objects of a class ``nucleus`` have another size than the backbone knows.
        """
        names = None if self.classes is None else as_class_names(self.classes)
        if isinstance(self.extractors, str):
            raise ArrayError(f"extractors: {self.extractors!r} is one text. Pass a list: [{self.extractors!r}].")
        as_texts(self.extractors, name="extractors", error=ArrayError)
        pictures = self._pictures(images)
        maps = as_label_maps(label_maps, pictures, 255 if names is None else len(names))
        slides = as_groups(groups, images=len(maps))
        if self.calibrate and slides is None:
            raise ArrayError("calibrate=True holds groups out. Pass fit(..., groups=) with the slide of each image.")
        with torch_defaults():
            content = self._train(pictures, maps, names or _numbered(maps), slides or [""] * len(maps))
        self.bundle_ = Bundle(content, device=self.device)
        self.classes_ = np.arange(len(content.classes))
        return self

    def predict(self, images: Sequence[Image]) -> list[NDArray[np.uint8]]:
        """Predict the class map of each image, (H, W) uint8.

        Raises:
            NotFittedError: If ``fit`` has not been called.
            ArrayError: If an image is invalid.
        """
        return [found.class_map for found in self._predictions(images)]

    def predict_proba(self, images: Sequence[Image]) -> list[NDArray[np.float32]]:
        """Predict the probabilities of each image, (H, W, K) float32, classes last as in scikit-learn.

        Raises:
            NotFittedError: If ``fit`` has not been called.
            ArrayError: If an image is invalid.
        """
        return [np.moveaxis(found.probabilities, 0, -1) for found in self._predictions(images)]

    def score(self, images: Sequence[Image], label_maps: Sequence[LabelMap]) -> float:
        """Return the mean IoU over the classes that occur, pooled over all images; NaN without labels."""
        found = evaluate(self._predictions(images), label_maps, self._fitted().classes)
        return float("nan") if found.mean_iou.value is None else found.mean_iou.value

    def save(self, folder: str | PathLike[str]) -> None:
        """Write the bundle, for ``load_bundle`` and ``cytoseg predict``.

        Args:
            folder: A new or empty folder, or a bundle, which is replaced.

        Raises:
            NotFittedError: If ``fit`` has not been called.
            CheckpointError: If it cannot be written, or the folder holds other files.
        """
        self._fitted().save(folder)

    def _fitted(self) -> Bundle:
        if not hasattr(self, "bundle_"):
            raise NotFittedError("this PixelClassifier is not fitted yet. Call fit(images, label_maps) first.")
        return self.bundle_

    def _predictions(self, images: Sequence[Image]) -> list[Prediction]:
        bundle = self._fitted()
        return [bundle.predict(picture) for picture in self._pictures(images)]

    def _pictures(self, images: Sequence[Image]) -> list[NDArray[np.uint8]]:
        found = as_list(images, name="images")
        if not found:
            raise ArrayError("images: an empty list. Pass at least one image.")
        return [as_picture(each, value_range=self.value_range, name=f"images[{i}]") for i, each in enumerate(found)]

    def _train(
        self,
        pictures: list[NDArray[np.uint8]],
        maps: list[NDArray[np.uint8]],
        classes: Sequence[str],
        slides: list[str],
    ) -> saved.Bundle:
        network, architecture, origin = self._network()
        _check_two_classes(maps)
        side = max(max(picture.shape[:2]) for picture in pictures)
        recipe = self._recipe(architecture, classes, crop_px=side)
        if "ddpm" in self.extractors and (advice := size_advice(recipe, maps, find_base_model(Path(self.backbone)))):
            warnings.warn(_with_parameters(advice), stacklevel=3)
        device, seed = pick_device(self.device), recipe.training.seed
        extractor = FeatureExtractor(network, architecture, recipe.feature_settings(), device=device)
        room = memory_limits(recipe, Path(tempfile.gettempdir()), device=device)
        table = gather_pixels(extractor, list(zip(pictures, maps, strict=True)), pixel_draw(recipe, seed), room=room)
        check_rows(table, [f"images[{i}]" for i in range(len(maps))])
        names = recipe.class_list()
        trained = train_ensemble(
            table, len(names), slides=slides, settings=ensemble_settings(recipe, seed), device=device
        )
        if self.calibrate and trained.calibration is None:
            warnings.warn(
                f"calibrate=True has no effect: it needs {MIN_SLIDES} groups, with each class in several.", stacklevel=3
            )
        inputs = {"backbone": origin, "labels": {}, "train_seconds": None, "versions": versions()}
        return new_bundle(trained.ensemble, extractor, recipe, inputs)

    def _network(self) -> tuple[nn.Module, Architecture, Mapping[str, object]]:
        """Load the backbone; a network without weights if no extractor uses it."""
        folder = as_path(self.backbone, error=CheckpointError)
        try:
            network, architecture, origin = load_backbone(find_base_model(folder))
        except CheckpointError as error:
            raise CheckpointError(_with_parameters(str(error))) from error
        return (network, architecture, origin) if "ddpm" in self.extractors else (nn.Identity(), architecture, {})

    def _recipe(self, architecture: Architecture, names: Sequence[str], *, crop_px: int) -> Recipe:
        """Convert the parameters to a recipe, which validates them and provides all other settings."""
        values: dict[str, Any] = {
            "name": "pixel-classifier",
            "slides": {"mpp": self.mpp},
            "diffusion": {key: architecture.values()[key] for key in _SHOWN_BY_MODEL},
            "training": {"seed": self.random_state, "device": self.device},
            "classes": [{"name": name, "colour": colour} for name, colour in coloured(names, next(iter(names), None))],
            "labels": {"crop_px": min(max(crop_px, 16), 512)},
            "features": {"extractors": list(self.extractors), "scale": self.scale},
            "interpreter": {"members": self.members, "steps": self.steps, "calibrate": self.calibrate},
        }
        if architecture.mask_classes:
            values["features"] |= WITH_MASK_HEAD["features"]
            values["interpreter"] = {**WITH_MASK_HEAD["interpreter"], **values["interpreter"]}
        try:
            return recipe_of(values, (), where=Path("PixelClassifier"))
        except RecipeError as error:
            raise RecipeError(_with_parameters(str(error))) from error


def _with_parameters(message: str) -> str:
    """Return a message with the names of our parameters instead of recipe keys."""
    for key, parameter in _PARAMETERS.items():
        message = message.replace(key, parameter)
    return message


def _check_two_classes(maps: Sequence[NDArray[np.uint8]]) -> None:
    """Refuse label maps of fewer than two classes before the features are computed."""
    present = set().union(*(np.unique(ids[ids != IGNORE]).tolist() for ids in maps))
    if len(present) < 2:
        shown = f"only class id {present.pop()}" if present else f"no labelled pixel, only {IGNORE} (ignore)"
        raise LabelError(f"label_maps: hold {shown}; at least two classes are needed. Label pixels of another class.")


def _numbered(maps: Sequence[NDArray[np.uint8]]) -> list[str]:
    """Name the classes by the ids in label maps."""
    found = [int(ids[ids != IGNORE].max(initial=1)) for ids in maps]
    return [f"class {number}" for number in range(max(found) + 1)]
