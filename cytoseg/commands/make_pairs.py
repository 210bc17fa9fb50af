"""``cytoseg make-pairs``: generated images with labels, for training a student."""

from typing import Annotated

import numpy as np
import typer

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.devices import pick_device
from cytoseg.errors import CytosegError
from cytoseg.interpreter.bundle import EnsemblePredictor, load_bundle
from cytoseg.interpreter.pair_selection import GeneratedPair, most_certain
from cytoseg.terminal import say, say_next
from cytoseg.workflows.drawn_samples import Drawing, DrawnSamples, Sampler, draw_samples
from cytoseg.workflows.generated_pairs import MADE, SampleLabels, labelling_of, write_pairs
from cytoseg.workflows.recorded_command import (
    Overrides,
    RecipeArgument,
    Run,
    alone_in,
    refuse_other_classes,
    refuse_other_mpp,
    start_run,
)
from cytoseg.workflows.run_paths import BUNDLE


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Number of images to draw.")] = 2000,
    drop: Annotated[
        float, typer.Option("--drop", min=0.0, max=0.99, help="Fraction to drop: the least certain.")
    ] = 0.1,
    sampler: Annotated[Sampler, typer.Option("--sampler", help="As for `cytoseg sample`.")] = "ddim",
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="Network evaluations; default 50 for ddim, all timesteps for ddpm."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Image i is a function of (seed, i).")] = 0,
) -> None:
    """Draw images from the diffusion model and label them with the run's interpreter.

    The least certain pairs are dropped, among images with similar amounts of tissue, so that not only bare glass
    remains. The rest is written into made/labels/ of the run folder, with contact_sheet.png, as labelled crops of the
    slide "made". They are used by interpreter.kind=student with student.made, and are never test crops.

    Images are those of `cytoseg sample` with the same options. The same command again continues an interrupted one,
    and --n may grow.
    """
    with start_run(recipe, overrides, command="make-pairs") as current, alone_in(current.folder / MADE):
        bundle = load_bundle(current.folder / BUNDLE)
        refuse_other_classes(bundle.classes.names, current.recipe, command="make-pairs")
        refuse_other_mpp(bundle.mpp, current.recipe, command="make-pairs")
        device = pick_device(current.recipe.training.device)
        if device.type == "cpu":
            tune_cpu_allocator()
        drawn = draw_samples(current, n, Drawing(sampler, steps, seed))
        if not drawn.numbers:
            raise CytosegError(
                f"{drawn.folder}: none of {n} samples is a valid image. Train the diffusion model longer."
            )
        labels = _labels_of(drawn, current)
        pairs = labels.label(EnsemblePredictor(bundle, device=device))
        kept = most_certain(pairs, drop)
        sheet = write_pairs(kept, labels, bundle.classes)
        current.entry.update(pairs=len(kept), dropped=len(pairs) - len(kept), invalid=len(drawn.faults))
        say(f"{_sentence(pairs, kept, invalid=len(drawn.faults))} See {sheet}.")
        say_next("train-interpreter", recipe, "interpreter.kind=student", f"student.made={len(kept)}")


def _labels_of(drawn: DrawnSamples, current: Run) -> SampleLabels:
    threshold = current.recipe.slides.background.threshold
    return SampleLabels(current.folder / MADE, drawn, labelling_of(current.folder / BUNDLE), threshold)


def _sentence(pairs: list[GeneratedPair], kept: list[GeneratedPair], *, invalid: int) -> str:
    """Describe how many pairs were kept, and how certain they are."""
    numbers = {pair.number for pair in kept}
    dropped = [pair for pair in pairs if pair.number not in numbers]
    text = f"{len(kept)} generated pairs, uncertainty {_mean(kept):.3f} nats"
    if dropped:
        text += f"; {len(dropped)} dropped, {_mean(dropped):.3f} nats"
    return text + (f"; {invalid} invalid." if invalid else ".")


def _mean(pairs: list[GeneratedPair]) -> float:
    return float(np.mean([pair.uncertainty for pair in pairs]))
