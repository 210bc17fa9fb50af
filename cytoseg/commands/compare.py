"""``cytoseg compare``: ours beside what a user would pick instead, all trained on the same crops."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import nn

from cytoseg.commands.common import Overrides, RecipeArgument, progress, say, start_run
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
from cytoseg.interpreter.train import check_two_classes, train_ensemble
from cytoseg.labels.dataset import Split
from cytoseg.recipe import Recipe
from cytoseg.runs import versions
from cytoseg.studies.compare import Contender, Predict, Task, as_markdown, compare

Map = NDArray[np.uint8]


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How often each method is trained.")] = 3,
) -> None:
    """Compare the recipe's method with baselines trained on the same crops.

    The commonest class, thresholds, a random forest on filters, a U-Net trained from scratch, and MLPs on filters, on
    the features of random weights, of the diffusion model, and of it joined with filters: IoU, time and memory of each
    into the run folder's compare/ as CSV, Markdown and a figure. What is finished is not done again.
    """
    with start_run(recipe, overrides, command="compare") as current:
        split = split_of(current.recipe)
        check_two_classes(name for crop in split.train for name, pixels in crop.pixels.items() if pixels)
        unet, _, backbone = load_backbone(current.folder / "ddpm", current.recipe.architecture())
        learning = Learning.of(current.recipe, split)
        task = task_of(current.recipe, split, learning.device, seeds=seeds)
        with progress("compare", 1) as bar:

            def on_run(title: str, done: int, total: int) -> None:
                bar.of(done, total)
                bar.at(done, title)

            methods = [*baselines(learning), *mlps(learning, unet, backbone)]
            rows = compare(methods, task, folder=current.folder / "compare", on_run=on_run)
        say(as_markdown(rows, task.classes))
        say(f"See {current.folder / 'compare' / 'compare.png'}.")


@dataclass(frozen=True)
class Learning:
    """What every method is given to learn from.

    Attributes:
        recipe: Decides the MLPs, their features and the precision.
        pictures: The train crops, each (H, W, 3) uint8 RGB.
        label_maps: One per crop, (H, W) uint8 ids, 255 for ignore.
        device: Where to compute.
    """

    recipe: Recipe
    pictures: list[Map]
    label_maps: list[Map]
    device: torch.device

    @classmethod
    def of(cls, recipe: Recipe, split: Split) -> "Learning":
        """Read the train crops."""
        device = pick_device(recipe.training.device)
        if device.type == "cpu":
            tune_cpu_allocator()
        return cls(recipe, [c.picture() for c in split.train], [c.label_map() for c in split.train], device)

    def only(self, numbers: Sequence[int]) -> "Learning":
        """Keep some of the train crops."""
        return replace(
            self, pictures=[self.pictures[i] for i in numbers], label_maps=[self.label_maps[i] for i in numbers]
        )


def baselines(learning: Learning) -> list[Contender]:
    """List what knows nothing of the diffusion model, simplest first."""
    pictures, label_maps = learning.pictures, learning.label_maps
    classes, precision = len(learning.recipe.class_list()), learning.recipe.training.precision
    network = {"channels": CHANNELS, "crop_px": CROP_PX, "batch": BATCH, "rate": RATE, "steps": STEPS}

    def always(_seed: int) -> Predict:
        commonest = commonest_class(label_maps)
        return lambda picture: np.full(picture.shape[:2], commonest, np.uint8)

    def thresholds(_seed: int) -> Predict:
        return fit_thresholds(pictures, label_maps, classes=classes).predict

    def forest(seed: int) -> Predict:
        return fit_forest(pictures, label_maps, seed=seed).predict

    def scratch(seed: int) -> Predict:
        return fit_scratch(
            pictures, label_maps, classes=classes, seed=seed, device=learning.device, precision=precision
        ).predict

    return [
        Contender("commonest", "Commonest class always", always, {}, seeded=False),
        Contender("thresholds", "Thresholds of optical density", thresholds, {"levels": LEVELS}, seeded=False),
        Contender("forest", "Random forest, 72 filters", forest, {"trees": TREES}),
        Contender("scratch", "U-Net from scratch", scratch, {**network, "precision": precision}),
    ]


def mlps(learning: Learning, unet: nn.Module, backbone: Mapping[str, object]) -> list[Contender]:
    """List the MLPs, trained alike on different features.

    Args:
        learning: What they learn from.
        unet: The trained noise predictor.
        backbone: Where it comes from, as ``load_backbone`` says.
    """
    recipe = learning.recipe
    plain = replace(feature_settings(recipe), filters=False)
    joined = replace(plain, filters=True)

    def trained(_seed: int) -> nn.Module:
        return unet

    def untrained(seed: int) -> nn.Module:
        return build_unet(recipe.architecture(), seed=seed).eval()

    def contender(
        key: str, title: str, *, features: FeatureSettings, network: Callable[[int], nn.Module], origin: object
    ) -> Contender:
        settings = {
            "features": asdict(features),
            "network": origin,
            "interpreter": recipe.interpreter.model_dump(mode="json"),
            "precision": recipe.training.precision,
        }
        return Contender(key, title, lambda seed: _fit_mlps(learning, network(seed), features, seed=seed), settings)

    random = recipe.architecture().as_json()
    alone = replace(joined, taps=(), timesteps=(), scale=1)
    return [
        contender("filters", "MLPs on 72 filters", features=alone, network=untrained, origin=None),
        contender("random", "MLPs on features of random weights", features=plain, network=untrained, origin=random),
        contender("ddpm", "MLPs on DDPM features", features=plain, network=trained, origin=backbone),
        contender("joined", "MLPs on DDPM features and 72 filters", features=joined, network=trained, origin=backbone),
    ]


def _fit_mlps(learning: Learning, unet: nn.Module, features: FeatureSettings, *, seed: int) -> Predict:
    recipe, device, precision = learning.recipe, learning.device, learning.recipe.training.precision
    architecture, i, classes = recipe.architecture(), recipe.interpreter, recipe.class_list()
    table = gather_pixels(
        FeatureExtractor(unet, architecture, features, device=device, precision=precision),
        zip(learning.pictures, learning.label_maps, strict=True),
        pixels_per_crop=i.pixels_per_crop,
        balance=i.balance,
        seed=seed,
    )
    ensemble = train_ensemble(table, len(classes), settings=ensemble_settings(recipe, seed), device=device)
    bundle = Bundle(unet, architecture, ensemble, features, classes, recipe.slides.mpp, i.vote, precision, origin={})
    predictor = EnsemblePredictor(bundle, device=device)

    def predict(picture: Map) -> Map:
        class_map: Map = predictor(picture[None])["probabilities"][0].argmax(0).astype(np.uint8)
        return class_map

    return predict


def task_of(recipe: Recipe, split: Split, device: torch.device, *, seeds: int) -> Task:
    """Say what methods are compared on, with all that decides their results and times.

    Args:
        recipe: Decides classes and the first seed.
        split: Of the labelled crops.
        device: Where the methods compute.
        seeds: How many.
    """
    parts = {"train": split.train, "test": split.test}
    crops = {part: [(c.crop, c.image_sha256, c.label_sha256) for c in found] for part, found in parts.items()}
    details = {"crops": crops, "device": device.type, "versions": versions()}
    first = recipe.training.seed
    return Task(split.test, recipe.class_list().names, list(range(first, first + seeds)), details)
