"""Training one variant of the diffusion model with one seed, and measuring it."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from cytoseg.devices import pick_device
from cytoseg.diffusion.add_noise import add_noise, alpha_bar
from cytoseg.diffusion.network_output import split_output
from cytoseg.diffusion.sample import ddim, predict_x0_and_noise, starting_noise
from cytoseg.diffusion.space import decoded, space_of
from cytoseg.diffusion.train import start_in_space
from cytoseg.diffusion.train_steps import new_accelerator, new_state, train_steps
from cytoseg.evaluation.generative_features import feature_network, standardised
from cytoseg.evaluation.generative_scores import frechet_distance, kernel_distance
from cytoseg.labels.index import LabelledCrop
from cytoseg.metrics.counts import confusion_counts
from cytoseg.metrics.segmentation import iou
from cytoseg.recipe import Recipe
from cytoseg.seeds import generator_for
from cytoseg.slides.crops import RandSlideCropd
from cytoseg.studies.architectures import VariantOutcome
from cytoseg.workflows.autoencoder import trained_autoencoder
from cytoseg.workflows.compared_methods import TrainingData, mlps_on
from cytoseg.workflows.training_crops import cut_crops, settings_of, training_crops

SAMPLE_STEPS, RANGES, HELD_OUT = 50, 5, 32
_FAR = 2**30
"""Number of the first crop that no training has seen."""


@dataclass(frozen=True)
class Asking:
    """Effort of the measurement, the same for all variants.

    Attributes:
        seeds: Trainings of each.
        samples: Samples drawn, and real crops that they are compared with.
        seconds: Length of each training; None for the recipe's number of crops.
    """

    seeds: int
    samples: int
    seconds: float | None


@dataclass(frozen=True)
class Question:
    """Data of the measurement, the same for all variants.

    Attributes:
        asking: Number of seeds and samples, and length of a training.
        crop: Draws tissue crops; from ``tissue_crops``.
        learning: Labelled crops for the MLPs; None without labels.
        test: Crops to score the MLPs on.
    """

    asking: Asking
    crop: RandSlideCropd
    learning: TrainingData | None
    test: Sequence[LabelledCrop]


def measure(recipe: Recipe, question: Question, *, seed: int, on_crops: Callable[[int], None]) -> VariantOutcome:
    """Train a variant with a seed and measure it.

    Args:
        recipe: The variant.
        question: Data of the measurement.
        seed: Of weights, crops, noise, samples and MLPs.
        on_crops: Called with the number of crops seen.

    Raises:
        CytosegError: If the training diverges.
    """
    training = replace(recipe.training, seed=seed)
    recipe = recipe.model_copy(update={"training": training})
    unet, crops, step_s = _train(recipe, question, on_crops)
    real = real_crops(recipe, question.crop, 0, question.asking.samples)
    made = _samples(unet, recipe, question.asking.samples)
    finite = bool(made.isfinite().all())
    kid, fid = _scores(made, real, recipe.diffusion.channels) if finite else (None, None)
    return VariantOutcome(
        parameters=sum(weights.numel() for weights in unet.parameters()),
        crops=crops,
        step_s=step_s,
        losses=_losses(unet, recipe, real_crops(recipe, question.crop, question.asking.samples, HELD_OUT)),
        kid=kid,
        fid=fid,
        iou=_iou(unet, recipe, question, seed),
    )


def real_crops(recipe: Recipe, crop: RandSlideCropd, first: int, count: int) -> Tensor:
    """Cut crops that no training of the study has seen, the same for all variants and seeds: (N, C, size, size)."""
    return cut_crops(recipe, crop, first=_FAR + first, count=count, seed=0)


def floor_of(recipe: Recipe, question: Question) -> tuple[float, float]:
    """Score real crops as if they were samples: KID and FID."""
    made = real_crops(recipe, question.crop, _FAR // 2, question.asking.samples)
    return _scores(made, real_crops(recipe, question.crop, 0, question.asking.samples), recipe.diffusion.channels)


def _train(recipe: Recipe, question: Question, on_crops: Callable[[int], None]) -> tuple[nn.Module, int, float]:
    """Train for the number of crops, or the time; return the averaged network, crops seen, and seconds a step."""
    settings, device = settings_of(recipe), pick_device(recipe.training.device)
    state = new_state(recipe.architecture(), settings)
    # A training that ends by time may see more crops than the recipe has.
    crops = training_crops(recipe, question.crop, last=None if question.asking.seconds is None else _FAR)(0)
    if recipe.space.is_latent:
        start_in_space(state, trained_autoencoder(recipe), crops)
    begin = last = time.perf_counter()
    took = []
    for report in train_steps(state, crops, settings=settings, accelerator=new_accelerator(settings, device)):
        took.append(time.perf_counter() - last)
        on_crops(report.crops_seen)
        last = time.perf_counter()
        if question.asking.seconds is not None and last - begin > question.asking.seconds:
            break
    return state.ema.ema_model.to(device).eval(), state.crops_seen, statistics.median(took)


def _samples(unet: nn.Module, recipe: Recipe, count: int) -> Tensor:
    network = recipe.diffusion
    space = space_of(unet)
    side = recipe.crops.size_px // space.factor
    noise = starting_noise(recipe.training.seed, count, size_px=side, channels=space.channels)
    drawn = []
    # As many at once as in a pass of the training, which fitted in memory.
    for part in torch.split(noise, recipe.training.micro_batch or recipe.training.batch):
        values = ddim(
            unet,
            part.to(pick_device(recipe.training.device)),
            alpha_bars=alpha_bar(network.schedule, network.timesteps),
            objective=network.objective,
            steps=min(SAMPLE_STEPS, network.timesteps),
            limit=space.limit,
        )
        drawn.append(decoded(space, values))
    return torch.cat(drawn)


def _scores(made: Tensor, real: Tensor, channels: int) -> tuple[float, float]:
    """Return KID and FID."""
    network = feature_network("filters", channels=channels)
    by = network.features(real)
    scaled, others = standardised(network.features(made), by), standardised(by, by)
    return kernel_distance(scaled[0], others[0], seed=0), frechet_distance(scaled[0], others[0])


@torch.inference_mode()
def _losses(unet: nn.Module, recipe: Recipe, x0: Tensor) -> dict[str, float]:
    """Measure the error of the noise that the network predicts, in the middle of each range of timesteps."""
    device, network = pick_device(recipe.training.device), recipe.diffusion
    bars, width = alpha_bar(network.schedule, network.timesteps), network.timesteps // RANGES
    space, found = space_of(unet), {}
    x0 = space.encode(x0.to(device))
    eps = torch.randn(x0.shape, generator=generator_for(0, 0, what="study")).to(device)
    for number in range(RANGES):
        t = number * width + width // 2
        xt = add_noise(x0, float(bars[t]), eps)
        output, _ = split_output(unet(xt, torch.full((len(xt),), t, device=device)).float(), channels=xt.shape[1])
        _, seen = predict_x0_and_noise(output, xt, bars[t].to(xt), objective=network.objective, limit=space.limit)
        found[f"{number * width}-{(number + 1) * width - 1}"] = float((seen - eps).square().mean())
    return found


def _iou(unet: nn.Module, recipe: Recipe, question: Question, seed: int) -> tuple[float | None, ...]:
    """Train MLPs on the network's features and score them on the test crops."""
    if question.learning is None:
        return ()
    predict = mlps_on(replace(question.learning, recipe=recipe), unet, seed=seed)
    classes = len(recipe.class_list())
    counts = np.sum([confusion_counts(c.label_map(), predict(c.picture()), classes) for c in question.test], axis=0)
    return tuple(None if np.isnan(value) else float(value) for value in iou(counts))
