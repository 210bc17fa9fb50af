"""``cytoseg compare``: ours beside what a user would pick instead, all trained on the same crops."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from torch import nn

from cytoseg.commands.common import Overrides, RecipeArgument, Run, progress, say, start_run
from cytoseg.commands.train_interpreter import ensemble_settings, feature_settings, split_of
from cytoseg.devices import pick_device, tune_cpu_allocator
from cytoseg.diffusion.state import load_backbone
from cytoseg.diffusion.unet import build_unet
from cytoseg.features.extract import FeatureExtractor, FeatureSettings
from cytoseg.features.pixels import gather_pixels
from cytoseg.interpreter.bundle import Bundle, EnsemblePredictor
from cytoseg.interpreter.forest import TREES, commonest_class, fit_forest
from cytoseg.interpreter.scratch import BATCH, CHANNELS, CROP_PX, RATE, STEPS, fit_scratch
from cytoseg.interpreter.threshold import LEVELS, fit_thresholds
from cytoseg.interpreter.train import train_ensemble
from cytoseg.labels.dataset import LabelledCrop, Split
from cytoseg.recipe import Recipe
from cytoseg.studies.compare import Contender, Predict, as_markdown, compare

Map = NDArray[np.uint8]


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How often each method is trained.")] = 3,
) -> None:
    """Compare the recipe's method with baselines trained on the same crops.

    Thresholds, a random forest on filters, a U-Net trained from scratch, and MLPs on filters, on the features of random
    weights, of the diffusion model, and of it joined with filters: IoU, time and memory of each into the run folder's
    compare/ as CSV, Markdown and a figure. What is finished is not done again.
    """
    with start_run(recipe, overrides, command="compare") as current:
        split = split_of(current.recipe)
        unet, _, backbone = load_backbone(current.folder / "ddpm", current.recipe.architecture())
        with progress("compare", 1) as bar:

            def on_run(title: str, done: int, total: int) -> None:
                bar.of(done, total)
                bar.at(done, title)

            rows = compare(
                contenders(current.recipe, split, unet, backbone),
                split.test,
                classes=current.recipe.class_list().names,
                seeds=[current.recipe.training.seed + i for i in range(seeds)],
                folder=current.folder / "compare",
                details=_details(split, current),
                on_run=on_run,
            )
        say(as_markdown(rows, current.recipe.class_list().names))
        say(f"See {current.folder / 'compare' / 'compare.png'}.")


def contenders(recipe: Recipe, split: Split, unet: nn.Module, backbone: Mapping[str, object]) -> list[Contender]:
    """List the methods, simplest first.

    Args:
        recipe: Decides the MLPs, their features, and the device.
        split: Train crops are learnt from.
        unet: The trained noise predictor.
        backbone: Where it comes from, as ``load_backbone`` says.
    """
    pictures, label_maps = [c.picture() for c in split.train], [c.label_map() for c in split.train]
    classes, device = len(recipe.class_list()), pick_device(recipe.training.device)
    if device.type == "cpu":
        tune_cpu_allocator()

    def scratch(seed: int) -> Predict:
        return fit_scratch(pictures, label_maps, classes=classes, seed=seed, device=device).predict

    scratch_settings = {"channels": CHANNELS, "crop_px": CROP_PX, "batch": BATCH, "rate": RATE, "steps": STEPS}
    features = feature_settings(recipe)
    plain, joined = replace(features, filters=False), replace(features, filters=True)
    filters_alone = replace(joined, taps=(), timesteps=())

    def mlps(
        key: str, title: str, of: FeatureSettings, origin: object, network: Callable[[int], nn.Module]
    ) -> Contender:
        settings = {"features": repr(of), "backbone": origin, "mlps": repr(ensemble_settings(recipe, 0))}
        settings |= {"pixels": recipe.interpreter.pixels_per_crop, "balance": recipe.interpreter.balance}
        return Contender(key, title, lambda seed: _fit_mlps(recipe, split.train, network(seed), of, seed), settings)

    def trained(_seed: int) -> nn.Module:
        return unet

    def untrained(seed: int) -> nn.Module:
        return build_unet(recipe.architecture(), seed=seed).eval()

    return [
        Contender(
            "commonest", "Commonest class always", lambda _: _always(commonest_class(label_maps)), {}, seeded=False
        ),
        Contender(
            "thresholds",
            "Thresholds of optical density",
            lambda _: fit_thresholds(pictures, label_maps, classes=classes).predict,
            {"levels": LEVELS},
            seeded=False,
        ),
        Contender(
            "forest",
            "Random forest, 72 filters",
            lambda seed: fit_forest(pictures, label_maps, seed=seed).predict,
            {"trees": TREES},
        ),
        Contender("scratch", "U-Net from scratch", scratch, scratch_settings),
        mlps("filters", "MLPs on 72 filters", filters_alone, None, untrained),
        mlps("random", "MLPs on features of random weights", plain, recipe.architecture().as_json(), untrained),
        mlps("ddpm", "MLPs on DDPM features", plain, backbone, trained),
        mlps("joined", "MLPs on DDPM features and 72 filters", joined, backbone, trained),
    ]


def _always(class_id: int) -> Predict:
    return lambda picture: np.full(picture.shape[:2], class_id, np.uint8)


def _fit_mlps(
    recipe: Recipe, train: tuple[LabelledCrop, ...], unet: nn.Module, features: FeatureSettings, seed: int
) -> Predict:
    device, precision = pick_device(recipe.training.device), recipe.training.precision
    architecture, i = recipe.architecture(), recipe.interpreter
    table = gather_pixels(
        FeatureExtractor(unet, architecture, features, device=device, precision=precision),
        ((crop.picture(), crop.label_map()) for crop in train),
        pixels_per_crop=i.pixels_per_crop,
        balance=i.balance,
        seed=seed,
    )
    classes = recipe.class_list()
    ensemble = train_ensemble(table, len(classes), settings=ensemble_settings(recipe, seed), device=device)
    bundle = Bundle(unet, architecture, ensemble, features, classes, recipe.slides.mpp, i.vote, precision, origin={})
    predictor = EnsemblePredictor(bundle, device=device)

    def predict(picture: Map) -> Map:
        class_map: Map = predictor(picture[None])["probabilities"][0].argmax(0).astype(np.uint8)
        return class_map

    return predict


def _details(split: Split, current: Run) -> dict[str, Any]:
    """Say what decides every method's result."""
    hashes = {crop.crop: crop.label_sha256 for crop in (*split.train, *split.test)}
    labels = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
    return {"labels": labels, "precision": current.recipe.training.precision}
