"""The methods that ``compare`` and ``study`` train, as the recipe sets them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cytoseg.commands.decoder import check_ceiling, read_labelled, tune_settings
from cytoseg.commands.from_recipe import feature_settings
from cytoseg.commands.pixels import check_rows, ensemble_settings, pixel_draw, room_of
from cytoseg.commands.unlabelled import unlabelled_slides
from cytoseg.devices import pick_device, tune_cpu_allocator
from cytoseg.diffusion.unet import build_unet
from cytoseg.features.extract import FeatureExtractor, FeatureSettings
from cytoseg.features.pixels import gather_pixels
from cytoseg.interpreter.bundle import Bundle, EnsemblePredictor
from cytoseg.interpreter.decoder import Decoder
from cytoseg.interpreter.forest import TREES, commonest_class, fit_forest
from cytoseg.interpreter.mlp import Ensemble
from cytoseg.interpreter.scratch import BATCH, CHANNELS, CROP_PX, RATE, STEPS, fit_scratch
from cytoseg.interpreter.threshold import LEVELS, fit_thresholds
from cytoseg.interpreter.train import train_ensemble
from cytoseg.interpreter.tune import LabelledPictures, TuneSettings, tune_decoder
from cytoseg.labels.dataset import LabelledCrop, Split
from cytoseg.recipe import Recipe
from cytoseg.runs import versions
from cytoseg.studies.compare import Contender, Predict, Task

Map = NDArray[np.uint8]


@dataclass(frozen=True)
class Learning:
    """What every method is given to learn from.

    Attributes:
        recipe: Decides the MLPs, their features and the precision.
        crops: The train crops.
        labelled: What they show.
        device: Where to compute.
    """

    recipe: Recipe
    crops: tuple[LabelledCrop, ...]
    labelled: LabelledPictures
    device: torch.device

    @classmethod
    def of(cls, recipe: Recipe, split: Split) -> "Learning":
        """Read the train crops."""
        device = pick_device(recipe.training.device)
        if device.type == "cpu":
            tune_cpu_allocator()
        return cls(recipe, split.train, read_labelled(split.train), device)

    def only(self, numbers: Sequence[int]) -> "Learning":
        """Keep some of the train crops."""
        return replace(self, crops=tuple(self.crops[i] for i in numbers), labelled=self.labelled.only(numbers))


def baselines(learning: Learning) -> list[Contender]:
    """List what knows nothing of the diffusion model, simplest first."""
    pictures, label_maps = learning.labelled.pictures, learning.labelled.label_maps
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
            "interpreter": recipe.interpreter.model_dump(mode="json", exclude={"kind"}),
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


def decoders(learning: Learning, unet: nn.Module, backbone: Mapping[str, object]) -> list[Contender]:
    """List the network tuned from the diffusion model and from random weights: the difference is what slides are worth.

    Args:
        learning: What they learn from.
        unet: The trained noise predictor.
        backbone: Where it comes from, as ``load_backbone`` says.
    """
    recipe = learning.recipe
    architecture, tuning = recipe.architecture(), recipe.decoder.model_dump(mode="json")
    # Weights that know nothing are not held back.
    freely = replace(tune_settings(recipe, 0), early=1.0)
    settings = {"decoder": tuning, "vote": recipe.interpreter.vote, "precision": recipe.training.precision}

    def trained(seed: int) -> Predict:
        return _fit_decoder(learning, unet, tune_settings(recipe, seed))

    def untrained(seed: int) -> Predict:
        return _fit_decoder(learning, build_unet(architecture, seed=seed), replace(freely, seed=seed))

    return [
        Contender("decoder", "DDPM's decoder, tuned", trained, {**settings, "network": backbone}),
        Contender(
            "decoder-random",
            "The same network from random weights",
            untrained,
            {**settings, "network": architecture.as_json()},
        ),
    ]


def _fit_decoder(learning: Learning, unet: nn.Module, settings: TuneSettings) -> Predict:
    recipe, names = learning.recipe, learning.recipe.class_list().names
    with unlabelled_slides(recipe) as unlabelled:
        found = tune_decoder(
            Decoder(unet, recipe.architecture(), len(names), seed=settings.seed, names=names),
            learning.labelled,
            settings=settings,
            device=learning.device,
            unlabelled=unlabelled,
            on_step=lambda step, _loss: check_ceiling(recipe, step=step),
        )
    return _predictor(recipe, found.decoder.unet, found.decoder, feature_settings(recipe), learning.device)


def _fit_mlps(learning: Learning, unet: nn.Module, features: FeatureSettings, *, seed: int) -> Predict:
    recipe, device, precision = learning.recipe, learning.device, learning.recipe.training.precision
    architecture, classes = recipe.architecture(), recipe.class_list()
    table = gather_pixels(
        FeatureExtractor(unet, architecture, features, device=device, precision=precision),
        list(zip(learning.labelled.pictures, learning.labelled.label_maps, strict=True)),
        pixel_draw(recipe, seed),
        room=room_of(recipe, recipe.run_folder() / "compare", device=device),
    )
    check_rows(table, [crop.crop for crop in learning.crops])
    trained = train_ensemble(
        table, len(classes), slides=learning.labelled.slides, settings=ensemble_settings(recipe, seed), device=device
    )
    return _predictor(recipe, unet, trained.ensemble, features, device)


def _predictor(
    recipe: Recipe, unet: nn.Module, interpreter: Ensemble | Decoder, features: FeatureSettings, device: torch.device
) -> Predict:
    vote, precision = recipe.interpreter.vote, recipe.training.precision
    bundle = Bundle(
        unet,
        recipe.architecture(),
        interpreter,
        features,
        recipe.class_list(),
        recipe.slides.mpp,
        vote,
        precision,
        origin={},
    )
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
    crops = {part: [(c.crop, c.slide, c.image_sha256, c.label_sha256) for c in found] for part, found in parts.items()}
    details = {"crops": crops, "device": device.type, "versions": versions()}
    first = recipe.training.seed
    return Task(split.test, recipe.class_list().names, list(range(first, first + seeds)), details)
