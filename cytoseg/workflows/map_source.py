"""Class maps of training crops, for a diffusion model that is conditioned on them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytoseg.checkpoints import is_checkpoint
from cytoseg.classes import IGNORE
from cytoseg.diffusion.class_map import one_hot_map
from cytoseg.errors import RecipeError
from cytoseg.features.extract import to_input
from cytoseg.interpreter.bundle import EnsemblePredictor, bundle_hashes, load_bundle
from cytoseg.labels.index import LabelledCrop, has_index
from cytoseg.recipe import Recipe
from cytoseg.seeds import seed_for
from cytoseg.slides.settings import CropsSection
from cytoseg.terminal import say
from cytoseg.workflows.crop_split import split_of
from cytoseg.workflows.recorded_command import refuse_other_classes, refuse_other_mpp
from cytoseg.workflows.run_paths import BUNDLE

UNKNOWN_SHARE = 0.1
"""Share of crops whose map is dropped, so that the model also draws without one."""
LABELLED_SHARE = 0.25
"""Share of crops that are parts of labelled crops, if there are any: hardly any random crop shows a label."""
SURE = 0.7
"""Least probability of a predicted class; below it the pixel is unknown."""


@dataclass(frozen=True)
class TrainingMaps:
    """Gives each training crop its class map, as a function of the seed, its number and the crop.

    Attributes:
        predictor: The ensemble; None for unknown maps of all but labelled crops.
        labelled: Labelled crops, each (H, W, 3) uint8 RGB and (H, W) uint8 ids, none smaller than a training crop.
        classes: K.
        settings: Size and augmentation of the training crops.
        seed: Random seed.
        sha256: Hash of ensemble and labels.
    """

    predictor: EnsemblePredictor | None
    labelled: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]]
    classes: int
    settings: CropsSection
    seed: int
    sha256: str

    def __call__(self, numbers: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (N, 3, H, W) crops, some replaced by labelled ones, and the (N, K + 1, H, W) maps."""
        x0, ids = x0.clone(), self._predicted(x0)
        for i, number in enumerate(numbers.tolist()):
            rng = np.random.default_rng(seed_for(self.seed, number, what="class map"))
            dropped, labelled = rng.random(2)
            if self.labelled and labelled < LABELLED_SHARE:
                x0[i], ids[i] = self._part(rng)
            if dropped < UNKNOWN_SHARE:
                ids[i] = IGNORE
        return x0, one_hot_map(ids, self.classes)

    def _predicted(self, x0: Tensor) -> Tensor:
        ids = torch.full((len(x0), *x0.shape[2:]), IGNORE)
        if self.predictor is None:
            return ids
        pixels = ((x0 + 1.0) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        together = self.predictor.tiles_at_once(x0.shape[-1])
        for first in range(0, len(x0), together):
            found = torch.from_numpy(self.predictor(pixels[first : first + together])["probabilities"])
            surest, classes = found.max(1)
            ids[first : first + together] = torch.where(surest >= SURE, classes, IGNORE)
        return ids

    def _part(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Cut a square out of a labelled crop, flipped and turned as training crops are."""
        picture, label_map = self.labelled[int(rng.integers(len(self.labelled)))]
        size = self.settings.size_px
        y, x = (int(rng.integers(side - size + 1)) for side in label_map.shape)
        part = to_input(picture[None, y : y + size, x : x + size])[0]
        ids = torch.from_numpy(label_map[y : y + size, x : x + size].astype(np.int64))
        both = torch.cat([part, ids[None].float()])
        for axis in (1, 2):
            both = both.flip(axis) if self.settings.flips and rng.random() < 0.5 else both
        if self.settings.turns:
            both = both.rot90(int(rng.integers(4)), (1, 2))
        return both[:-1], both[-1].long()


def crop_maps(recipe: Recipe, folder: Path, *, device: torch.device) -> TrainingMaps | None:
    """Open the source of class maps for training crops; None for a model that is not conditioned on them.

    Args:
        recipe: The recipe.
        folder: The run folder.
        device: Where to predict.

    Raises:
        RecipeError: If there is neither an interpreter nor a labelled crop, or the interpreter was trained at another
            pixel size.
        CheckpointError: If the interpreter is damaged or has other classes.
        LabelError: If a label is damaged.
    """
    if recipe.diffusion.condition == "none":
        return None
    bundle, crops = _bundle_folder(recipe, folder), _labelled(recipe)
    if bundle is None and not crops:
        raise RecipeError(
            "diffusion.condition=map: class maps come from labels or an interpreter, and this run has "
            "neither. Run `cytoseg label-import` and `cytoseg train-interpreter` first, with features that need no "
            "diffusion model (features.extractors=[filters]) or with those of training.init."
        )
    hashes = [crop.image_sha256 + crop.label_sha256 for crop in crops]
    hashes += sorted(bundle_hashes(bundle).values()) if bundle else []
    _announce(bundle, len(crops))
    return TrainingMaps(
        _predictor(bundle, recipe, device) if bundle else None,
        [(crop.picture(), crop.label_map()) for crop in crops],
        len(recipe.classes),
        recipe.crops,
        recipe.training.seed,
        hashlib.sha256("".join(hashes).encode()).hexdigest(),
    )


def _bundle_folder(recipe: Recipe, folder: Path) -> Path | None:
    """Find the run's interpreter, or else that of the run whose network this one starts from."""
    folders, init = [folder], recipe.training.init
    if init is not None and init.is_dir():  # not the name of a base model
        folders.append((init.parent if is_checkpoint(init) else init).parent)
    return next((run / BUNDLE for run in folders if (run / BUNDLE).is_dir()), None)


def _labelled(recipe: Recipe) -> list[LabelledCrop]:
    """List the labelled crops of training slides that are large enough.

    Without images that a diffusion model drew or edited: trained on its own images, a model drifts away from real ones.

    Source: Shumailov et al., AI models collapse when trained on recursively generated data, Nature 2024.
    """
    if not has_index(recipe.labels_folder()):
        return []
    real = (crop for crop in split_of(recipe).train if crop.made is None)
    return [crop for crop in real if min(crop.width, crop.height) >= recipe.crops.size_px]


def _predictor(bundle: Path, recipe: Recipe, device: torch.device) -> EnsemblePredictor:
    found = load_bundle(bundle)
    refuse_other_classes(found.classes.names, recipe, command="train-ddpm")
    refuse_other_mpp(found.mpp, recipe, command="train-ddpm")
    return EnsemblePredictor(found, device=device)


def _announce(bundle: Path | None, crops: int) -> None:
    labelled = f"{crops} labelled crops of at least crops.size_px"
    say(f"Class maps come from {labelled}" + (f", elsewhere from {bundle}." if bundle else "; elsewhere unknown."))
