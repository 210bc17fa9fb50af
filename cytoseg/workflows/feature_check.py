"""Feature check of a run's diffusion model (doctor, train-ddpm)."""

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.devices import pick_device
from cytoseg.diffusion.unet import build_unet
from cytoseg.errors import CytosegError, LabelError
from cytoseg.features.extract import FeatureExtractor, to_input
from cytoseg.features.settings import FeatureSettings
from cytoseg.labels.index import has_index
from cytoseg.recipe import Recipe
from cytoseg.seeds import seed_for
from cytoseg.slides.crops import RandSlideCropd
from cytoseg.studies.feature_check import Features, draw_clusters, probe_all, write_check
from cytoseg.studies.probe import Extract, ProbePixels, draw_probe_pixels
from cytoseg.terminal import Bar, progress, say
from cytoseg.workflows.backbone import backbone_folder, run_backbone
from cytoseg.workflows.crop_split import split_of

SHOWN, SHOWN_PX = 4, 256
DRAWS = 2
"""Number of networks with random weights."""
PATIENCE_S = 120.0

CHECK_FILES = ("check.md", "check.csv", "check.png")

Picture = NDArray[np.uint8]
Pictures = Callable[[], Sequence[Picture]]


def check_model(recipe: Recipe, folder: Path, pictures: Pictures, *, patience_s: float | None = None) -> None:
    """Compare the newest checkpoint's features with random weights and filters; write check/ and print the verdict.

    Args:
        recipe: The recipe; its train crops are probed, if there are any.
        folder: The run folder.
        pictures: Returns tissue crops to cluster; called only without labels.
        patience_s: Timeout in seconds, reported in a sentence; None for no limit.

    Raises:
        CheckpointError: If there is no checkpoint, or it is damaged, or produces NaN or infinite features.
        LabelError: If a labelled crop was changed after the import.
    """
    unet, _, _ = run_backbone(recipe, folder)
    pixels, why_not = _labelled(recipe)
    shown = [crop.picture() for crop in pixels.crops[:SHOWN]] if pixels is not None else list(pictures())
    features = _features(recipe, unet)
    scores = {}
    with progress("check", features.readings(pictures=len(shown), crops=len(pixels.crops) if pixels else 0)) as bar:
        on_crop = _watched(bar, patience_s)
        try:
            figure = draw_clusters(features, shown, seed=recipe.training.seed, on_crop=on_crop)
            if pixels is not None:
                scores = probe_all(features, pixels, classes=len(recipe.class_list()), on_crop=on_crop)
        except TimeoutError:
            say(f"Feature check stopped after {patience_s:.0f} s. Ask for it: cytoseg doctor RECIPE.")
            return
    base = "" if backbone_folder(recipe, folder) == folder / "ddpm" else str(recipe.training.init)
    say(write_check(folder / "check", figure, scores, pixels=pixels, why_not=why_not, base=base))
    say(f"See {folder / 'check' / 'check.png'}.")


def _watched(bar: Bar, patience_s: float | None) -> Callable[[], None]:
    """Return a callback that advances the bar and raises TimeoutError when the time is up."""
    end = math.inf if patience_s is None else time.monotonic() + patience_s
    done = itertools.count(1)

    def on_crop() -> None:
        bar.update(next(done))
        if time.monotonic() > end:
            raise TimeoutError

    return on_crop


def check_after_training(recipe: Recipe, folder: Path, pictures: Sequence[Picture], *, trained_s: float) -> None:
    """Check within two minutes, or a twentieth of the training time; errors are only reported.

    Args:
        recipe: The recipe of the training.
        folder: The run folder.
        pictures: From ``tissue_pictures``.
        trained_s: Training time in seconds.
    """
    try:
        check_model(recipe, folder, lambda: pictures, patience_s=max(PATIENCE_S, trained_s / 20))
    except CytosegError as error:
        say(f"The features were not checked: {error}")


def tissue_pictures(recipe: Recipe, crop: RandSlideCropd) -> list[Picture]:
    """Read a fixed set of random tissue crops, of tile size if the slides are large enough.

    Args:
        recipe: The recipe, with seed and sizes.
        crop: From ``tissue_crops``.

    Raises:
        SlideError: If a slide can no longer be read.
    """
    found = []
    with contextlib.closing(crop.larger(min(recipe.tile_px(), SHOWN_PX))) as large:
        for number in range(SHOWN):
            large.set_random_state(seed=seed_for(recipe.training.seed, number, what="check"))
            found.append(large({"image": number})["image"].numpy().transpose(1, 2, 0))
    return found


def _labelled(recipe: Recipe) -> tuple[ProbePixels | None, str]:
    """Draw the pixels to probe, or return the reason for none."""
    if not has_index(recipe.labels_folder()):
        return None, "there are no labels yet, and only with labels can trained features be compared with random ones."
    try:
        # Folds are scored on all of their crops, and a drawn image cannot tell how well features do on real ones.
        real = [crop for crop in split_of(recipe).train if crop.made is None]
        return draw_probe_pixels(real, seed=recipe.training.seed), ""
    except LabelError as error:
        return None, str(error)


def _features(recipe: Recipe, unet: nn.Module) -> Features:
    device = pick_device(recipe.training.device)
    if device.type == "cpu":
        tune_cpu_allocator()
    plain = replace(recipe.feature_settings(), extractors=("ddpm",))
    alone = replace(plain, extractors=("filters",))
    seeds = (seed_for(recipe.training.seed, draw, what="random weights") for draw in range(DRAWS))
    random = [build_unet(recipe.architecture(), seed=seed).eval() for seed in seeds]
    return Features(
        _extract(recipe, unet, plain, device),
        tuple(_extract(recipe, network, plain, device) for network in random),
        _extract(recipe, unet, alone, device),
    )


def _extract(recipe: Recipe, unet: nn.Module, settings: FeatureSettings, device: torch.device) -> Extract:
    extractor = FeatureExtractor(
        unet, recipe.architecture(), settings, device=device, precision=recipe.training.precision
    )
    return lambda picture: extractor(to_input(picture[None]))
