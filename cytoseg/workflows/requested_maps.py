"""Class maps that samples should show."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cytoseg.diffusion.class_map import MapConditioned, one_hot_map
from cytoseg.diffusion.sample import Guide
from cytoseg.errors import LabelError, RecipeError, report
from cytoseg.interpreter.bundle import Bundle, bundle_hashes, load_bundle
from cytoseg.interpreter.guide import guide_to_map, refuse_without_gradient
from cytoseg.recipe import Recipe
from cytoseg.workflows.edited_map import read_map
from cytoseg.workflows.recorded_command import refuse_other_classes, refuse_other_mpp
from cytoseg.workflows.run_paths import BUNDLE

OBEY = 2.0
"""How strongly a conditional model follows a map by default."""
GUIDE = 0.3
"""How strongly an interpreter guides to a map by default."""
LARGEST_SCALE = 100.0
_KINDS = (".json", ".png", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class RequestedMaps:
    """The maps that samples should show: sample i shows map i; after the last map they start over.

    Attributes:
        ids: (M, size, size) int64 ids, 255 where any class may be shown.
        classes: K.
        scale: How strongly the maps are followed.
        sha256: Hash of the maps.
        bundle: The interpreter that guides; None for a model that is conditioned on class maps.
        interpreter: Hash of its weights; empty without one.
    """

    ids: Tensor
    classes: int
    scale: float
    sha256: str
    bundle: Bundle | None = None
    interpreter: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, numbers: Sequence[int]) -> Tensor:
        """Return the maps of samples, (N, size, size)."""
        return self.ids[[number % len(self.ids) for number in numbers]]

    def steer(
        self, unet: nn.Module, numbers: Sequence[int], *, alpha_bars: Tensor, objective: str
    ) -> tuple[nn.Module, Guide | None]:
        """Return the network that draws these samples, and the guide if it is not conditioned on maps."""
        maps = self.of(numbers).to(next(unet.parameters()).device)
        if self.bundle is None:
            return MapConditioned(unet, one_hot_map(maps, self.classes), scale=self.scale), None
        guide = guide_to_map(self.bundle, maps, unet, scale=self.scale, alpha_bars=alpha_bars, objective=objective)
        return unet, guide


def requested_maps(recipe: Recipe, folder: Path, maps: Path | None, scale: float | None) -> RequestedMaps | None:
    """Read the class maps that samples should show; None if none are asked for.

    Args:
        recipe: The recipe of the samples.
        folder: The run folder.
        maps: Folder of labelme files and images of class ids, of the size of a sample.
        scale: How strongly they are followed; None for the default.

    Raises:
        LabelError: If there is no map in the folder, or one of another size or class; names each.
        RecipeError: If the scale is out of range, or the model is not conditioned on class maps and the run has no
            interpreter that could guide it.
        CheckpointError: If the interpreter is damaged or has other classes.
    """
    if maps is None:
        return None
    bundle, interpreter = guiding_bundle(recipe, folder, command=f"--maps {maps}")
    ids, sha256 = _read_all(maps, recipe)
    return RequestedMaps(ids, len(recipe.classes), scale_of(scale, bundle), sha256, bundle, interpreter)


def guiding_bundle(recipe: Recipe, folder: Path, *, command: str) -> tuple[Bundle | None, str]:
    """Load the interpreter that guides a model not conditioned on class maps, and the hash of its weights.

    Raises:
        RecipeError: If there is none, it has no gradient, or it was trained at another pixel size.
        CheckpointError: If it is damaged or has other classes.
    """
    if recipe.diffusion.condition == "map":
        return None, ""
    if not (folder / BUNDLE).is_dir():
        raise RecipeError(
            f"{command}: the model of this run is not conditioned on class maps, and there is no interpreter to guide "
            "it. Run `cytoseg train-interpreter`, or train a model with diffusion.condition=map."
        )
    bundle = load_bundle(folder / BUNDLE)
    refuse_without_gradient(bundle, command=command)
    refuse_other_classes(bundle.classes.names, recipe, command=command)
    refuse_other_mpp(bundle.mpp, recipe, command=command)
    weights = "".join(sorted(bundle_hashes(folder / BUNDLE).values()))
    return bundle, hashlib.sha256(weights.encode()).hexdigest()


def scale_of(asked: float | None, bundle: Bundle | None) -> float:
    """Return how strongly maps are followed.

    Raises:
        RecipeError: If it is out of range.
    """
    if asked is None:
        return OBEY if bundle is None else GUIDE
    if not 0.0 <= asked <= LARGEST_SCALE:
        raise RecipeError(f"--scale {asked:g}: give a number from 0 to {LARGEST_SCALE:g}.")
    return asked


def _read_all(folder: Path, recipe: Recipe) -> tuple[Tensor, str]:
    """Read the maps of a folder in the order of their names; also returns their hash."""
    if not folder.is_dir():
        raise LabelError(f"--maps {folder}: there is no such folder. Name a folder of class maps.")
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in _KINDS and path.is_file()]
    if not files:
        raise LabelError(f"--maps {folder}: holds no class map. Put images of class ids there (PNG), or labelme files.")
    size, found, problems = recipe.crops.size_px, [], []
    for path in files:
        try:
            found.append(torch.from_numpy(read_map(path, recipe.class_list(), (size, size), of="a sample").copy()))
        except LabelError as error:
            problems.append(str(error))
    if problems:
        raise LabelError(report(problems, what=f"--maps {folder}"))
    ids = torch.stack(found).long()
    return ids, hashlib.sha256(ids.byte().numpy().tobytes()).hexdigest()
