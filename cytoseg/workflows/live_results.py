"""Live results of the app's page Annotate: networks that learn from the marks, and proposals."""

import threading
from collections.abc import Sequence
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cytoseg.classes import IGNORE
from cytoseg.devices import pick_device
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.state import load_backbone
from cytoseg.errors import LabelError
from cytoseg.features.extract import FeatureExtractor
from cytoseg.interpreter.live import LiveInterpreter, LiveView
from cytoseg.interpreter.proposals_without_labels import MaskHeadProposals
from cytoseg.labels.index import has_index, load_index
from cytoseg.slides.image import read_picture
from cytoseg.workflows.annotating import Annotating, CropFile
from cytoseg.workflows.backbone import backbone_folder
from cytoseg.workflows.labelled_pixels import ensemble_settings

_QUICK_S = 3.0
"""After a slower view no further crop is rated, which takes a third of a second."""


class LiveResults:
    """What networks make of the crops of a run, for one caller at a time; others wait.

    Args:
        annotating: The run.
    """

    def __init__(self, annotating: Annotating) -> None:
        self._annotating, self._recipe = annotating, annotating.recipe
        self._computing = threading.Lock()

    def view(self, crop: CropFile, picture: NDArray[np.uint8], label_map: NDArray[np.uint8]) -> LiveView:
        """Refit the MLPs on all train crops, including this one unless it is a test crop; see ``LiveInterpreter.view``.

        Raises:
            LabelError: If fewer than two classes are marked.
            CheckpointError: If the run has no network yet.
        """
        is_test = self._annotating.match_test_slides()
        index = load_index(self._annotating.labels).crops if has_index(self._annotating.labels) else ()
        others = [entry for entry in index if entry.crop != crop.path.stem and not is_test(entry.slide)]
        own = None if crop.is_test else label_map
        marked = [] if own is None else [self._annotating.classes.names[i] for i in np.unique(own[own != IGNORE])]
        _check_two_classes({*marked, *(name for entry in others for name, px in entry.pixels.items() if px)})
        with self._computing:
            return self._live.view(picture, own, others)

    def most_uncertain(self, crops: Sequence[CropFile], seen: LiveView) -> list[CropFile]:
        """Order the unmarked train crops by the disagreement of the MLPs of a view, most uncertain first.

        At most one crop that was not rated before is rated at a time, so the list grows with the strokes.

        Args:
            crops: All crops.
            seen: The last view.

        Raises:
            LabelError: If an image is damaged.
        """
        waiting = {
            str(crop.path): crop for crop in crops if crop.drawn is None and not crop.readers and not crop.is_test
        }
        reading = {name: partial(read_picture, crop.path, name=crop.path.name) for name, crop in waiting.items()}
        with self._computing:
            mean_disagreements = self._live.mean_disagreements(reading, new=1 if seen.seconds < _QUICK_S else 0)
        return [waiting[name] for name in sorted(mean_disagreements, key=mean_disagreements.__getitem__, reverse=True)]

    def propose(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Predict a proposal with the base model; (H, W) uint8 ids, 255 where unknown.

        Raises:
            CheckpointError: If the network cannot make proposals.
        """
        with self._computing:
            ids = self._guess(picture)
        ids[ids == self._annotating.classes.fill_id] = IGNORE
        return ids

    @cached_property
    def _network(self) -> tuple[nn.Module, Architecture]:
        folder = backbone_folder(self._recipe, self._annotating.run)
        unet, architecture, _ = load_backbone(folder, self._recipe.architecture())
        return unet, architecture

    @cached_property
    def _device(self) -> torch.device:
        return pick_device(self._recipe.training.device)

    @cached_property
    def _guess(self) -> MaskHeadProposals:
        precision = self._recipe.training.precision
        return MaskHeadProposals(self._network[0], self._annotating.classes, device=self._device, precision=precision)

    @cached_property
    def _live(self) -> LiveInterpreter:
        recipe = self._recipe
        precision, settings = recipe.training.precision, recipe.feature_settings()
        # The MLPs of this page are trained on the features, whatever the recipe's own interpreter takes.
        needed = "ddpm" in settings.extractors
        unet, architecture = self._network if needed else (nn.Identity(), recipe.architecture())
        extractor = FeatureExtractor(unet, architecture, settings, device=self._device, precision=precision)
        wanted, rule = ensemble_settings(recipe, recipe.training.seed), recipe.interpreter.vote
        return LiveInterpreter(extractor, len(self._annotating.classes), wanted, rule=rule, precision=precision)


def _check_two_classes(marked: set[str]) -> None:
    """Refuse marks of fewer than two classes, in words for someone who has just opened the first crop.

    Raises:
        LabelError: If there are fewer.
    """
    if len(marked) < 2:
        found = f"only '{marked.pop()}' is marked" if marked else "nothing is marked"
        raise LabelError(
            f"No live result yet: {found} in crops that are not for testing. Mark something in two classes or more."
        )
