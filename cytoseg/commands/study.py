"""``cytoseg study``: studies of many trainings."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from cytoseg.errors import RecipeError
from cytoseg.recipe import Recipe
from cytoseg.shipped import did_you_mean
from cytoseg.slides.corrupt import CORRUPTIONS, SEVERITIES
from cytoseg.studies import label_efficiency as label_efficiency_study
from cytoseg.studies import robustness as robustness_study
from cytoseg.studies.compare import ComparedMethod
from cytoseg.studies.label_efficiency import Draw, as_markdown, draw_crops, label_efficiency
from cytoseg.studies.robustness import Strengths, robustness
from cytoseg.studies.robustness_text import safe_sentences
from cytoseg.terminal import progress, say, weighted_progress
from cytoseg.workflows.architectures import VARIANTS, compare_architectures, variants_of
from cytoseg.workflows.backbone import run_backbone
from cytoseg.workflows.compared_methods import (
    TrainingData,
    baselines,
    decoders,
    imagenet_unet,
    key_of_own_features,
    mlps,
    report_skipped_methods,
    task_of,
)
from cytoseg.workflows.crop_split import split_of
from cytoseg.workflows.recorded_command import Overrides, RecipeArgument, alone_in, start_run
from cytoseg.workflows.robustness import contenders, scale_of
from cytoseg.workflows.training_times import timed
from cytoseg.workflows.variant_outcome import Asking

COUNTS = "1,2,4,8,16,30,60,120"
OTHER_METHODS = ("forest", "scratch", "imagenet-unet", "imagenet", "imagenet-joined")
METHODS = {"mlps": (*OTHER_METHODS, "mlps"), "decoder": (*OTHER_METHODS, "decoder", "decoder-random")}
"""Methods compared, by interpreter.kind."""
NETWORKS = ("scratch", "imagenet-unet", "decoder-random")
"""The slowest methods."""


def label_efficiency_command(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Random draws of crops per count.")] = 3,
    counts: Annotated[
        str, typer.Option("--counts", help="Numbers of training crops; all crops are always included.")
    ] = COUNTS,
    quick: Annotated[bool, typer.Option("--quick", help="Skip the slow methods: the competing networks.")] = False,
) -> None:
    """Show how the IoU grows with the number of labelled crops, and the expected gain from more.

    Trains the recipe's method, a random forest, U-Nets from scratch and on an ImageNet encoder, and MLPs on frozen
    ImageNet features, alone and with filters, on 1, 2, 4, 8, 16, 30, ... of the train crops, drawn several times, and
    scores them on the test crops; with interpreter.kind decoder also the same network from
    random weights, to show the gain from unlabelled slides. Table, figure and summary go into label_efficiency/ in the
    run folder. Finished trainings are not repeated.
    """
    with (
        start_run(recipe, overrides, command="study label-efficiency") as current,
        alone_in(current.folder / "label_efficiency"),
    ):
        _refuse_other_kind(current.recipe)
        split = split_of(current.recipe)
        unet, _, backbone = run_backbone(current.recipe, current.folder)
        learning = TrainingData.of(current.recipe, split)
        report_skipped_methods()

        def methods_of(draw: Draw) -> list[ComparedMethod]:
            some = learning.only(draw.crops)
            networks = (*mlps(some, unet, backbone), *decoders(some, unet, backbone))
            wanted = _wanted((*baselines(some), *imagenet_unet(some), *networks), current.recipe, quick=quick)
            return timed(wanted, some, split.test)

        usable = [sum(pixels > 0 for pixels in crop.pixels.values()) >= 2 for crop in split.train]
        drawn = draw_crops(usable, counts=_numbers(counts), draws=draws, seed=current.recipe.training.seed)
        task = task_of(current.recipe, split, learning.device, seeds=1)
        folder = current.folder / "label_efficiency"
        each_s = label_efficiency_study.seconds_each(methods_of, task, draws=drawn, folder=folder)
        with weighted_progress("label-efficiency", each_s, units="trainings") as on_run:
            curves = label_efficiency(methods_of, task, draws=drawn, folder=folder, on_run=on_run)
        say(as_markdown(curves, task.classes, note=task.note))
        say(f"See {folder / 'label_efficiency.png'}.")


def _refuse_other_kind(recipe: Recipe) -> None:
    kind = recipe.interpreter.kind
    if kind not in METHODS:
        others = " or ".join(f"interpreter.kind={name}" for name in METHODS)
        raise RecipeError(f"study label-efficiency: cannot train interpreter.kind {kind}. Add {others}.")


def _wanted(methods: Sequence[ComparedMethod], recipe: Recipe, *, quick: bool) -> list[ComparedMethod]:
    """Select the methods compared with the recipe's own, which is called ``mlps`` here."""
    kind, own = recipe.interpreter.kind, key_of_own_features(recipe)
    wanted = [key for key in METHODS[kind] if not (quick and key in NETWORKS)]
    found = {method.key: method for method in methods}
    found["mlps"] = replace(found[own], key="mlps")
    is_rival = kind == "mlps" and own in wanted  # list the recipe's own features only once
    return [found[key] for key in wanted if key in found and not (is_rival and key == own)]


def _numbers(text: str) -> list[int]:
    if not re.fullmatch(r"[1-9][0-9]*(,[1-9][0-9]*)*", text):
        raise RecipeError(f"--counts {text!r}: write numbers of crops separated by commas, such as 1,5,30.")
    return [int(number) for number in text.split(",")]


def robustness_command(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    severities: Annotated[
        str, typer.Option("--severities", help="Severities from 1 to 5; clean crops, severity 0, are always scored.")
    ] = "1,3,5",
    corruptions: Annotated[
        str, typer.Option("--corruptions", help=f"Some of: {','.join(CORRUPTIONS)}. All by default.")
    ] = ",".join(CORRUPTIONS),
    quick: Annotated[
        bool, typer.Option("--quick", help="Only the run's bundle, the simple baselines and a U-Net from scratch.")
    ] = False,
) -> None:
    """Show which images a bundle can be used on: how much of its IoU is left on corrupted test crops.

    Scores the run's bundle and the other methods of compare on the test crops, clean and corrupted: defocus, noise,
    JPEG, brightness, contrast, saturation, stain, larger pixels, uneven light. Severity 0 equals evaluate. Writes the
    share of the IoU that is kept, with intervals over slides, a figure, the corrupted images and the strengths that are
    safe into robustness/ in the run folder. Finished scores are not repeated.
    """
    wanted = _severities(severities), _corruptions(corruptions)
    with start_run(recipe, overrides, command="study robustness") as current, alone_in(current.folder / "robustness"):
        split = split_of(current.recipe)
        scale, object_class = scale_of(current.recipe, split)
        methods, learning = contenders(current.recipe, split, current.folder, quick=quick)
        say(
            f"Smallest objects: {object_class}, median diameter {scale.object_um:.1f} µm at {scale.mpp:g} µm per pixel."
        )
        task = task_of(current.recipe, split, learning.device, seeds=1)
        folder = current.folder / "robustness"
        strengths = Strengths(wanted[1], wanted[0], scale, object_class)
        methods = timed(methods, learning, split.test)
        each_s = robustness_study.seconds_each(methods, task, strengths, folder=folder)
        with weighted_progress("scores", each_s, units="scores") as on_run:
            found = robustness(methods, task, strengths, folder=folder, on_run=on_run)
        for sentence in safe_sentences(found[0], task.classes):
            say(sentence)
        say(f"See {folder / 'robustness.md'}, {folder / 'robustness.png'} and {folder / 'corruptions.png'}.")


def _severities(text: str) -> list[int]:
    if not re.fullmatch(rf"[0-{SEVERITIES}](,[0-{SEVERITIES}])*", text):
        raise RecipeError(
            f"--severities {text!r}: write whole numbers from 0 to {SEVERITIES} separated by commas, such as 1,3,5."
        )
    return sorted({int(number) for number in text.split(",")} - {0})


def _corruptions(text: str) -> list[str]:
    wanted = [name.strip() for name in text.split(",")]
    unknown = [f"{name!r}{did_you_mean(name, CORRUPTIONS)}" for name in wanted if name not in CORRUPTIONS]
    if unknown:
        raise RecipeError(f"--corruptions: unknown {', '.join(unknown)}. Known are {', '.join(CORRUPTIONS)}.")
    return list(dict.fromkeys(wanted))


def architectures_command(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    variants: Annotated[
        str, typer.Option("--variants", help="Names, separated by commas, or NAME=SECTION.KEY=VALUE for your own.")
    ] = ",".join(VARIANTS),
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=20, help="Trainings of each variant.")] = 2,
    samples: Annotated[int, typer.Option("--samples", min=8, max=1000, help="Samples scored of each training.")] = 64,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0.01, help="Train each for this time instead of the recipe's number of crops."),
    ] = None,
) -> None:
    """Compare variants of the diffusion model: loss, samples, and the IoU of MLPs on its features.

    The base is ADM with the recipe's sizes; the variants add one change each: adagn, convnext, cosine, no-attention, or
    any value of the sections diffusion, training and space. Each sees the same crops and is measured on crops that none
    has seen. The base is trained again with other seeds: differences no larger than between these two are noise. Table
    and figure go into architectures/ in the run folder. Finished trainings are not repeated.
    """
    with (
        start_run(recipe, overrides, command="study architectures") as current,
        alone_in(current.folder / "architectures"),
    ):
        recipes = variants_of(current.recipe, variants)
        asking = Asking(seeds, samples, None if minutes is None else 60.0 * minutes)
        with progress("crops" if minutes is None else "training seconds", 1) as bar:
            text, folder = compare_architectures(
                current.recipe, recipes, asking, current.folder / "architectures", on_part=bar.update_of
            )
        say(text)
        say(f"See {folder / 'architectures.png'}.")


VERBS = {
    "label-efficiency": label_efficiency_command,
    "robustness": robustness_command,
    "architectures": architectures_command,
}
