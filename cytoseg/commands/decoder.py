"""The part of ``cytoseg train-interpreter`` that tunes the decoder instead of training MLPs."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from cytoseg.commands.common import progress, say
from cytoseg.interpreter.decoder import Decoder
from cytoseg.interpreter.tune import LabelledPictures, TuneSettings, tune_decoder
from cytoseg.labels.dataset import LabelledCrop
from cytoseg.recipe import Recipe
from cytoseg.runs import MetricsLog


def tuned(
    unet: nn.Module, train: Sequence[LabelledCrop], recipe: Recipe, *, log_to: Path, device: torch.device
) -> Decoder:
    """Tune the network on the train crops, and say when it stopped and why.

    Args:
        unet: The trained noise predictor.
        train: The crops.
        recipe: Decides how.
        log_to: Takes step and loss, one JSON object a line.
        device: Where to compute.

    Raises:
        LabelError: If no pixel is labelled.
    """
    classes = len(recipe.class_list())
    decoder = Decoder(unet, recipe.architecture(), classes, seed=recipe.training.seed)
    log = MetricsLog(log_to)
    with progress("decoder", recipe.decoder.steps) as bar:

        def on_step(step: int, loss: float) -> None:
            bar.at(step, f"loss {loss:.4f}")
            log.write({"step": step, "loss": round(loss, 6)})

        try:
            found = tune_decoder(
                decoder,
                LabelledPictures(
                    [c.picture() for c in train], [c.label_map() for c in train], [c.slide for c in train]
                ),
                classes,
                settings=tune_settings(recipe, recipe.training.seed),
                device=device,
                on_step=on_step,
            )
        finally:
            log.close()
    judges = f"slides {', '.join(found.held_out)} decided" if found.held_out else "too few slides to hold one out"
    say(f"Decoder tuned; weights of step {found.step} of {recipe.decoder.steps} ({judges}).")
    return found.decoder


def tune_settings(recipe: Recipe, seed: int) -> TuneSettings:
    """Pick the tuning's settings out of a recipe."""
    d = recipe.decoder
    return TuneSettings(d.steps, d.batch, d.size_px, d.rate, d.early, seed, recipe.training.precision)
