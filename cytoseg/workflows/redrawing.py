"""Redrawing a part of an image so that it shows an edited class map."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from cytoseg.classes import IGNORE
from cytoseg.diffusion.add_noise import alpha_bar
from cytoseg.diffusion.channels import as_channels
from cytoseg.diffusion.class_map import MapConditioned, one_hot_map
from cytoseg.diffusion.redraw import redraw
from cytoseg.diffusion.sample import Guide
from cytoseg.diffusion.space import decoded, shrink_region, space_of
from cytoseg.diffusion.state import load_backbone
from cytoseg.errors import CytosegError
from cytoseg.features.extract import pad_to_multiple, to_input
from cytoseg.formats.sidecar import read_sidecar
from cytoseg.interpreter.guide import guide_to_map
from cytoseg.labels.index import has_index, load_index, pixel_hash
from cytoseg.recipe import Recipe
from cytoseg.seeds import generator_for
from cytoseg.slides.generated_mark import GeneratedMark, edited_mark, png_text, read_mark
from cytoseg.workflows.backbone import refuse_without_denoising
from cytoseg.workflows.crop_prediction import WHOLE_PX
from cytoseg.workflows.requested_maps import guiding_bundle, scale_of
from cytoseg.writing import atomic_path

Picture = NDArray[np.uint8]
CONTEXT_PX = 256
"""Margin around the region in which the network sees a large image, several cells wide."""


@dataclass(frozen=True)
class Edit:
    """What to draw, and where.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        shown: (H, W) uint8 ids that it shows now.
        wanted: (H, W) uint8 ids that it should show; 255 where the map is unlabelled.
        region: (H, W) bool, where it is redrawn.
    """

    picture: Picture
    shown: Picture
    wanted: Picture
    region: NDArray[np.bool_]

    def within(self, window: tuple[slice, slice]) -> "Edit":
        """Cut out the rows and columns of a window."""
        return Edit(self.picture[window], self.shown[window], self.wanted[window], self.region[window])


@dataclass(frozen=True)
class EditOptions:
    """How to draw it.

    Attributes:
        strength: How much may change, above 0 to 1; small values keep more of the image.
        scale: How closely the map is followed; None for the default.
        steps: Network evaluations.
        seed: Another seed draws other cells.
    """

    strength: float = 0.8
    scale: float | None = None
    steps: int = 50
    seed: int = 0


class Editor:
    """Redraws images by a run's diffusion model: one conditioned on class maps, or guided by the interpreter.

    Args:
        recipe: The recipe of the run.
        folder: The run folder.
        device: Where to draw.

    Raises:
        RecipeError: If the model is not conditioned on class maps and the interpreter cannot guide it.
        CheckpointError: If the model or the interpreter is missing or damaged, or the model cannot denoise.
    """

    def __init__(self, recipe: Recipe, folder: Path, *, device: torch.device) -> None:
        self._recipe, self._device = recipe, device
        self._bundle, _ = guiding_bundle(recipe, folder, command="edit")
        refuse_without_denoising(folder / "ddpm")
        unet, self._architecture, _ = load_backbone(folder / "ddpm", recipe.architecture())
        self._unet = unet.to(device)
        self._bars = alpha_bar(recipe.diffusion.schedule, recipe.diffusion.timesteps)

    def __call__(self, edit: Edit, options: EditOptions, *, on_step: Callable[[int], None] = lambda _: None) -> Picture:
        """Redraw the region of an image; the network sees of a large image only what surrounds the region.

        Returns:
            (H, W, 3) uint8; unchanged outside the region.

        Raises:
            CytosegError: If the model draws NaN or infinity.
        """
        window = window_of(edit.region) if edit.region.size > WHOLE_PX else np.s_[:, :]
        drawn: Picture = edit.picture.copy()
        drawn[window] = self._draw(edit.within(window), options, on_step)
        return drawn

    def _draw(self, edit: Edit, options: EditOptions, on_step: Callable[[int], None]) -> Picture:
        whole = as_channels(to_input(edit.picture[None]), self._recipe.diffusion.channels)
        padded = pad_to_multiple(whole, self._architecture.multiple_px).to(self._device)
        inside = self._padded(edit.region, padded, fill=False)
        unet, guide = self._steered(edit, padded, inside, scale_of(options.scale, self._bundle))
        generator, space = generator_for(options.seed, 0, what="edit"), space_of(self._unet)
        with torch.no_grad():
            values = space.encode(padded)
        found = redraw(
            unet,
            values,
            shrink_region(inside, space.factor),
            noises=iter(lambda: torch.randn(values.shape, generator=generator), None),
            alpha_bars=self._bars,
            objective=self._recipe.diffusion.objective,
            strength=options.strength,
            steps=options.steps,
            guide=guide,
            limit=space.limit,
            on_step=on_step,
        )
        found = decoded(space, found)
        if not bool(found.isfinite().all()):
            raise CytosegError("edit: the diffusion model drew no valid image. Train it longer, or lower --scale.")
        bytes_of = ((as_channels(found, 3)[0] + 1.0) * 127.5).round().clamp(0, 255).byte()
        height, width = edit.region.shape
        pixels = bytes_of.permute(1, 2, 0).numpy()[:height, :width]
        drawn: Picture = np.where(edit.region[..., None], pixels, edit.picture)
        return drawn

    def _steered(self, edit: Edit, padded: Tensor, inside: Tensor, scale: float) -> tuple[nn.Module, Guide | None]:
        """Return the network that draws, and the guide if it is not conditioned on class maps."""
        if self._bundle is None:
            whole = np.where(edit.wanted == IGNORE, edit.shown, edit.wanted)
            ids = self._padded(whole, padded, fill=IGNORE).long()
            return MapConditioned(self._unet, one_hot_map(ids[None], len(self._recipe.classes)), scale=scale), None
        wanted = torch.where(inside, self._padded(edit.wanted, padded, fill=0).long(), IGNORE)
        objective = self._recipe.diffusion.objective
        guide = guide_to_map(self._bundle, wanted, self._unet, scale=scale, alpha_bars=self._bars, objective=objective)
        return self._unet, guide

    def _padded(self, values: NDArray[Any], like: Tensor, *, fill: int) -> Tensor:
        below, right = like.shape[-2] - values.shape[0], like.shape[-1] - values.shape[1]
        padded = np.pad(values, ((0, below), (0, right)), constant_values=fill)
        return torch.from_numpy(padded).to(self._device)


def window_of(region: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the rows and columns of a region with their surroundings.

    Args:
        region: (H, W), at least one pixel.
    """
    found = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
    rows, columns = (slice(max(0, int(at[0]) - CONTEXT_PX), int(at[-1]) + 1 + CONTEXT_PX) for at in found)
    return rows, columns


def mark_of_edit(crop: Path, picture: Picture, labels: Path, *, seed: int) -> GeneratedMark:
    """Return the mark of an edited image, with the slide of the original if it is known.

    Args:
        crop: File of the image that is edited; itself perhaps an edited one.
        picture: Its pixels, (H, W, 3) uint8 RGB.
        labels: The run's labels folder, whose crops have slides.
        seed: Seed of the edit.

    Raises:
        LabelError: If the sidecar of the image or the index of the labels is damaged.
    """
    before, sha256, beside = read_mark(crop), pixel_hash(picture), read_sidecar(crop)
    slide = "" if beside is None else beside.slide
    if before is not None:
        slide, sha256 = before.slide or slide, before.of or sha256
    if not slide and has_index(labels):
        slide = next((known.slide for known in load_index(labels).crops if known.image_sha256 == sha256), "")
    return edited_mark(f"{crop.name}, seed {seed}", slide=slide, of=sha256)


def save_edited(path: Path, picture: Picture, mark: GeneratedMark) -> None:
    """Write an edited image as PNG; its text states that it is generated.

    Args:
        path: PNG to write.
        picture: (H, W, 3) uint8 RGB.
        mark: From `mark_of_edit`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG", pnginfo=png_text(mark))
