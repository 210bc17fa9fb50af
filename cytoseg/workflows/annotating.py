"""Crops to annotate and their marks, for the app's page Annotate; without the networks, which load for seconds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoseg.active_learning.candidates import Frame
from cytoseg.active_learning.queue_slides import QUEUE_FOLDER, QueuePlace, match_test_slides
from cytoseg.errors import LabelError
from cytoseg.formats.sidecar import SIDECAR_SUFFIX, Cut, write_sidecar
from cytoseg.geometry import Region, Size, overlap
from cytoseg.labels.corrections import now
from cytoseg.labels.drawn_marks import CropMarks, Drawn, drawn_of, origin_of, read_marks
from cytoseg.labels.import_labels import import_labels
from cytoseg.labels.import_settings import ImportRules
from cytoseg.labels.readings import place_of, readings_of, save_reading
from cytoseg.recipe import load_recipe
from cytoseg.slides.generated_mark import png_text, read_mark
from cytoseg.slides.image import read_picture
from cytoseg.slides.open import open_slide, read_at
from cytoseg.workflows.queue_rules import queue_rules
from cytoseg.writing import atomic_path

RANDOM_CROPS = "to_label"
FOLDERS = (RANDOM_CROPS, QUEUE_FOLDER)
"""Folders of a run with crops to annotate: random or chosen ones, and the queue."""
MIN_PX, MAX_PX = 32, 1024
"""Shortest and longest side of a chosen crop: larger ones are slow to paint and to refit on."""


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
    """A run whose crops are annotated.

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

    def crops(self) -> tuple[list[CropFile], list[str]]:
        """List the crops to annotate by folder and name, and a sentence for each unusable one.

        Raises:
            LabelError: If the labels' index is damaged.
        """
        is_test = self.match_test_slides()
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

    def match_test_slides(self) -> Callable[[str], bool]:
        """Return the function that tells by a slide's id whether it is a test slide."""
        rules = queue_rules(self.recipe)
        return match_test_slides(QueuePlace(rules, self.run, self.labels, self.run / QUEUE_FOLDER))


def _check_chosen(at: Region, path: Path) -> None:
    """Refuse a chosen region that is too small or large in the crop's pixels, or begins where another crop does."""
    if min(at.width, at.height) < MIN_PX or max(at.width, at.height) > MAX_PX:
        raise LabelError(
            f"{path.stem}: {at.width} x {at.height} pixels cannot be annotated. Draw a rectangle with sides of "
            f"{MIN_PX} to {MAX_PX} pixels."
        )
    if path.exists():
        raise LabelError(f"{path.stem}: another crop begins at the same pixel. Move the rectangle slightly.")
