"""API: bundles that segment images and slides."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.api.arguments import as_overrides, as_path
from cytoseg.api.arrays import as_picture
from cytoseg.devices import pick_device
from cytoseg.errors import CheckpointError, PredictionError, SlideError
from cytoseg.interpreter import bundle as saved
from cytoseg.predict.array import predict_array
from cytoseg.predict.slide_task import attempt
from cytoseg.recipe import Recipe, recipe_of
from cytoseg.slides.open import open_slide
from cytoseg.torch_defaults import torch_defaults
from cytoseg.workflows.run_paths import BUNDLE
from cytoseg.workflows.slide_tasks import slide_task

_TILE_PX, _OVERLAP_PX = 256, 64
"""Tile sizes for older bundles, which have no recipe."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Prediction of a bundle for an image.

    Attributes:
        class_map: (H, W) uint8 class ids, the most probable class of each pixel.
        probabilities: (K, H, W) float32, sums to 1 over the classes.
        uncertainty: (H, W) float32 in nats, disagreement of the ensemble; 0 where all agree.
    """

    class_map: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    uncertainty: NDArray[np.float32]

    def __repr__(self) -> str:
        shapes = ", ".join(f"{field.name}={getattr(self, field.name).shape}" for field in fields(self))
        return f"Prediction({shapes})"


class Bundle:
    """Trained interpreters with everything needed for prediction.

    Args:
        content: The bundle of ``interpreter/bundle.py``.
        folder: Folder it is saved in; None if only in memory.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    @torch_defaults()
    def __init__(self, content: saved.Bundle, *, folder: Path | None = None, device: str = "auto") -> None:
        self._content, self._folder, self._device = content, folder, device
        self._predictor = saved.EnsemblePredictor(content, device=pick_device(device))
        self._recipe = _recipe_of(content, folder) if content.recipe else None

    def __repr__(self) -> str:
        folder = None if self._folder is None else str(self._folder)
        return f"Bundle(classes={self.classes}, mpp={self.mpp}, folder={folder!r}, device={self._device!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {"content": self._content, "folder": self._folder, "device": self._device}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc] # the predictor's functions cannot be pickled and are rebuilt

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, by id."""
        return self._content.classes.names

    @property
    def colours(self) -> tuple[tuple[int, int, int], ...]:
        """(red, green, blue) from 0 to 255 of each class, by id."""
        return self._content.classes.colours

    @property
    def mpp(self) -> float | None:
        """Micrometres per pixel of the training images; None if unknown."""
        return self._content.mpp

    @torch_defaults()
    def predict(self, image: NDArray[np.generic], *, value_range: str = "0..255") -> Prediction:
        """Segment an image.

        An image that fits into a tile of the bundle's recipe is predicted whole, a larger one in tiles, with the same
        result as ``cytoseg predict`` without skipping glass. There a side shorter than a tile is filled with white, so
        a long image of one pixel's height takes as long as one of a tile's height.

        Args:
            image: (H, W, 3) RGB or (H, W) grey, at the bundle's micrometres per pixel.
            value_range: ``0..255`` for uint8; ``0..1`` for floating-point numbers.

        Raises:
            ArrayError: If the image is invalid.
        """
        picture = as_picture(image, value_range=value_range)
        tile_px, overlap_px, batch = self._tiles()
        maps = predict_array(picture, self._predictor, tile_px=tile_px, overlap_px=overlap_px, batch=batch)
        return Prediction(maps[0].argmax(0).astype(np.uint8), *maps)

    @torch_defaults()
    def predict_slide(
        self, path: str | PathLike[str], out: str | PathLike[str] = "predictions", *, overrides: Sequence[str] = ()
    ) -> Path:
        """Segment a slide like ``cytoseg predict``; a finished one is not repeated.

        Args:
            path: The slide.
            out: Parent folder; the slide gets a subfolder.
            overrides: Overrides of the bundle's recipe, such as ``predict.overlap_px=32``.

        Returns:
            The slide's folder, with ``class_map.ome.tif``, ``uncertainty.ome.tif``, ``instances.ome.tif``,
            ``objects.geojson``, ``cells.csv``, ``preview.png`` and ``summary.json``.

        Raises:
            CheckpointError: If the bundle is not saved, or is of an older version without a recipe.
            RecipeError: If an override is wrong.
            SlideError: If the slide cannot be opened.
            PredictionError: If it cannot be predicted or the results cannot be written.
        """
        if self._folder is None:
            raise CheckpointError(
                "predict_slide: this bundle is in memory only. Save it, and use cs.load_bundle(folder)."
            )
        if self._recipe is None:
            raise CheckpointError(
                f"{self._folder}: a bundle written by an older version, without its recipe. Train it again."
            )
        path, out, overrides = (
            as_path(path, error=SlideError),
            as_path(out, error=PredictionError),
            as_overrides(overrides),
        )
        open_slide(path).close()  # report a bad file before starting
        recipe = recipe_of(self._content.recipe, [f"training.device={self._device}", *overrides], where=self._folder)
        task = slide_task(path, recipe=recipe, bundle=self._folder, out=out)
        outcome = attempt(task)
        if outcome.trace is not None:
            raise RuntimeError(outcome.trace)
        if outcome.error is not None:
            raise PredictionError(outcome.error)
        return task.folder

    def save(self, folder: str | PathLike[str]) -> None:
        """Write the bundle atomically; ``load_bundle`` and ``cytoseg predict`` read it.

        Args:
            folder: A new or empty folder, or a bundle, which is replaced.

        Raises:
            CheckpointError: If it cannot be written, or the folder holds other files.
        """
        saved.save_bundle(as_path(folder, error=CheckpointError, is_new=True), self._content)

    def _tiles(self) -> tuple[int, int, int]:
        """Return side and overlap of tiles, and the batch size."""
        tile_px, overlap_px, batch = _TILE_PX, _OVERLAP_PX, None
        if self._recipe is not None:
            p = self._recipe.predict
            tile_px, overlap_px, batch = self._recipe.tile_px(), p.overlap_px, p.batch
        return tile_px, overlap_px, batch or self._predictor.tiles_at_once(tile_px)


@torch_defaults()
def load_bundle(path: str | PathLike[str], *, device: str = "auto") -> Bundle:
    """Load a bundle written by ``cytoseg train-interpreter`` or ``PixelClassifier.save``.

    Args:
        path: Its folder, such as ``runs/mylab/interpreter/bundle``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        CheckpointError: If it is missing, damaged or not a bundle.
    """
    folder = as_path(path, error=CheckpointError)
    if (folder / BUNDLE).is_dir():
        raise CheckpointError(f"{folder}: is a run folder, not a bundle. Load {folder / BUNDLE}.")
    return Bundle(saved.load_bundle(folder), folder=folder.absolute(), device=device)


def _recipe_of(content: saved.Bundle, folder: Path | None) -> Recipe:
    return recipe_of(content.recipe, (), where=folder or Path("bundle"))
