"""Backend of the app's page Annotate."""

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from cytoseg.active_learning.candidates import Frame
from cytoseg.active_learning.queue_slides import QUEUE_FOLDER, QueuePlace, match_test_slides
from cytoseg.classes import IGNORE
from cytoseg.devices import pick_device
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.state import load_backbone
from cytoseg.errors import LabelError, SlideError
from cytoseg.features.extract import FeatureExtractor
from cytoseg.formats.sidecar import SIDECAR_SUFFIX, Cut, write_sidecar
from cytoseg.geometry import Region, Size, overlap
from cytoseg.interpreter.live import LiveInterpreter, LiveView
from cytoseg.interpreter.proposals_without_labels import MaskHeadProposals
from cytoseg.interpreter.train_mlps import check_two_classes
from cytoseg.labels.annotated import annotated_regions, waiting_regions
from cytoseg.labels.corrections import now
from cytoseg.labels.drawn_marks import CropMarks, Drawn, drawn_of, origin_of, read_marks
from cytoseg.labels.import_labels import import_labels
from cytoseg.labels.import_settings import ImportRules
from cytoseg.labels.index import INDEX_NAME, load_index
from cytoseg.labels.readings import place_of, readings_of, save_reading
from cytoseg.recipe import load_recipe
from cytoseg.slides.crops import RandSlideCropd
from cytoseg.slides.generated_mark import png_text, read_mark
from cytoseg.slides.image import read_picture
from cytoseg.slides.open import find_slides, open_slide, read_at, slide_id
from cytoseg.workflows.backbone import backbone_folder, needs_backbone
from cytoseg.workflows.labelled_pixels import ensemble_settings
from cytoseg.workflows.queue_rules import queue_rules
from cytoseg.workflows.random_places import choose_place, write_place
from cytoseg.workflows.training_crops import tissue_crops
from cytoseg.writing import atomic_path

RANDOM_CROPS = "to_label"
FOLDERS = (RANDOM_CROPS, QUEUE_FOLDER)
"""Folders of a run with crops to annotate: random or chosen ones, and the queue."""
MIN_PX, MAX_PX = 32, 1024
"""Shortest and longest side of a chosen crop: larger ones are slow to paint and to refit on."""
_QUICK_S = 3.0
"""After a slower view no further crop is rated, which takes a third of a second."""
_TRIES = 40
"""Random places tried before giving up."""


@dataclass(frozen=True)
class CropFile:
    """A crop that can be annotated.

    Attributes:
        path: Its PNG file.
        folder: Name of its folder, one of ``FOLDERS``.
        slide: Id of its slide.
        is_test: Whether it is a test crop, never used for training.
        drawn: Who saved the marks that training uses; None if unsaved.
        readers: Everyone whose own marks are kept.
    """

    path: Path
    folder: str
    slide: str
    is_test: bool
    drawn: Drawn | None
    readers: tuple[str, ...] = ()


class Annotating:
    """A run whose crops are annotated; not thread-safe while computing.

    Args:
        run: The run folder; relative paths of its recipe refer to the current folder.

    Raises:
        RecipeError: If its recipe cannot be read.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.recipe = load_recipe(str(run / "recipe.yaml"))
        self.classes = self.recipe.class_list()
        self.labels = self.recipe.labels_folder()
        self._computing = threading.Lock()
        self._cutting = threading.Lock()

    def crops(self) -> tuple[list[CropFile], list[str]]:
        """List the crops to annotate by folder and name, and a sentence for each unusable one.

        Raises:
            LabelError: If the labels' index is damaged.
        """
        is_test = self._is_test()
        found, problems = [], []
        for folder in FOLDERS:
            for beside in sorted((self.run / folder).glob(f"[!.]*{SIDECAR_SUFFIX}")):
                path = beside.with_name(beside.name.removesuffix(SIDECAR_SUFFIX) + ".png")
                if not path.is_file():  # a partly written crop
                    continue
                try:
                    slide = origin_of(path).slide
                except LabelError as error:
                    problems.append(str(error))
                    continue
                readers = tuple(reading.drawn.author for reading in readings_of(path))
                found.append(CropFile(path, folder, slide, is_test(slide), drawn_of(path), readers))
        return found, problems

    def open(self, crop: CropFile, person: str = "") -> tuple[NDArray[np.uint8], CropMarks]:
        """Read a crop, (H, W, 3) uint8, and a person's marks of it; without a name, those that training uses.

        Raises:
            CytosegError: If its image or its marks are damaged.
        """
        picture = read_picture(crop.path, name=crop.path.name)
        place = place_of(crop.path, person)
        return picture, read_marks(place, (picture.shape[0], picture.shape[1]), self.classes)

    def cut_random(self) -> Path:
        """Cut the next random crop of a training slide.

        Returns:
            Its PNG file.

        Raises:
            CytosegError: If no place is left, or a slide cannot be read.
        """
        folder = self.run / RANDOM_CROPS
        with self._cutting, contextlib.closing(self._tissue.of_size(self.recipe.labels.crop_px)) as crop:
            is_test, taken = self._is_test(), self._taken()
            first = len(list(folder.glob(f"[!.]*{SIDECAR_SUFFIX}")))
            for number in range(first, first + _TRIES):
                place = choose_place(crop, number, seed=self.recipe.training.seed, taken=taken)
                if place is not None and not is_test(slide_id(place.slide)):
                    name = f"{slide_id(place.slide)}_{place.region.x}_{place.region.y}.png"
                    if write_place(place, self.recipe, folder, guess=None):
                        return folder / name
        raise SlideError(f"{RANDOM_CROPS}: {_TRIES} random places held glass, or lay on test slides or on other crops.")

    def cut(self, slide: Path, name: str, region: Region) -> Path:
        """Cut a chosen region of a slide.

        Args:
            slide: File of the slide.
            name: Its id.
            region: The region; parts beyond the slide are left out.

        Returns:
            Its PNG file; the one that exists if this very region was cut before.

        Raises:
            CytosegError: If it is too small or too large, or the slide cannot be read.
        """
        with open_slide(slide) as opened:
            within = overlap(region, opened.levels[0].size)
            frame = Frame(self.recipe.labels.crop_px, self.recipe.slides)
            at = within.at(frame.side(opened) / frame.size_px)
            path = self.run / RANDOM_CROPS / f"{name}_{within.x}_{within.y}.png"
            if path.exists() and origin_of(path).region == within:
                return path
            _check_chosen(at, path)
            picture = read_at(opened, within, Size(at.width, at.height))
        write_sidecar(path, Cut(name, within, self.recipe.slides.mpp))
        with atomic_path(path) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG", pnginfo=png_text(read_mark(slide)))
        return path

    def save(self, crop: CropFile, author: str, label_map: NDArray[np.uint8], known: Drawn | None = None) -> Path:
        """Save a person's marks of a crop; see ``save_reading``.

        Returns:
            The labelme file; that beside the crop if training uses these marks.

        Raises:
            LabelError: If it cannot be saved, or another window has saved other marks of this person.
        """
        place = save_reading(crop.path, author, now(), label_map=label_map, classes=self.classes, known=known)
        return place.with_suffix(".json")

    def take_in(self, saved: Path) -> None:
        """Import the saved marks into the run's labels, like ``cytoseg label-import``.

        Raises:
            LabelError: If they cannot be imported, for example beside labels of other classes.
        """
        import_labels(saved, self.labels, classes=self.classes, rules=ImportRules())

    def view(self, crop: CropFile, picture: NDArray[np.uint8], label_map: NDArray[np.uint8]) -> LiveView:
        """Refit the MLPs on all train crops, including this one unless it is a test crop; see ``LiveInterpreter.view``.

        Raises:
            LabelError: If fewer than two classes are marked.
            CheckpointError: If the run has no network yet.
        """
        is_test = self._is_test()
        index = load_index(self.labels).crops if (self.labels / INDEX_NAME).exists() else ()
        others = [entry for entry in index if entry.crop != crop.path.stem and not is_test(entry.slide)]
        own = None if crop.is_test else label_map
        marked = [] if own is None else [self.classes.names[i] for i in np.unique(own[own != IGNORE])]
        check_two_classes([*marked, *(name for entry in others for name, px in entry.pixels.items() if px)])
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
        ids[ids == self.classes.fill_id] = IGNORE
        return ids

    def _is_test(self) -> Callable[[str], bool]:
        rules = queue_rules(self.recipe)
        return match_test_slides(QueuePlace(rules, self.run, self.labels, self.run / QUEUE_FOLDER))

    def _taken(self) -> list[tuple[Path, Region]]:
        """List annotated and waiting regions by slide path."""
        by_slide = [annotated_regions(self.labels), *(waiting_regions(self.run / folder) for folder in FOLDERS)]
        slides = self.recipe.slides
        paths = {slide_id(path): path for path in find_slides(slides.folders, slides.include, slides.exclude)}
        return [
            (paths[slide], region)
            for found in by_slide
            for slide, regions in found.items()
            if slide in paths
            for region in regions
        ]

    @cached_property
    def _tissue(self) -> RandSlideCropd:
        """Return the tissue masks of all slides, without keeping slides open."""
        return tissue_crops(self.recipe)

    @cached_property
    def _network(self) -> tuple[nn.Module, Architecture]:
        unet, architecture, _ = load_backbone(backbone_folder(self.recipe, self.run), self.recipe.architecture())
        return unet, architecture

    @cached_property
    def _device(self) -> torch.device:
        return pick_device(self.recipe.training.device)

    @cached_property
    def _guess(self) -> MaskHeadProposals:
        precision = self.recipe.training.precision
        return MaskHeadProposals(self._network[0], self.classes, device=self._device, precision=precision)

    @cached_property
    def _live(self) -> LiveInterpreter:
        recipe = self.recipe
        unet, architecture = self._network if needs_backbone(recipe) else (nn.Identity(), recipe.architecture())
        precision = recipe.training.precision
        settings = recipe.feature_settings()
        extractor = FeatureExtractor(unet, architecture, settings, device=self._device, precision=precision)
        wanted, rule = ensemble_settings(recipe, recipe.training.seed), recipe.interpreter.vote
        return LiveInterpreter(extractor, len(self.classes), wanted, rule=rule, precision=precision)


def _check_chosen(at: Region, path: Path) -> None:
    """Refuse a chosen region that is too small or large in the crop's pixels, or begins where another crop does."""
    if min(at.width, at.height) < MIN_PX or max(at.width, at.height) > MAX_PX:
        raise LabelError(
            f"{path.stem}: {at.width} x {at.height} pixels cannot be annotated. Draw a rectangle with sides of "
            f"{MIN_PX} to {MAX_PX} pixels."
        )
    if path.exists():
        raise LabelError(f"{path.stem}: another crop begins at the same pixel. Move the rectangle slightly.")
