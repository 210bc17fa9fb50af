"""``cytoseg compare``: the recipe's method and baselines on the same crops."""

from dataclasses import replace
from typing import Annotated

import typer

from cytoseg.interpreter.train_mlps import check_two_classes
from cytoseg.studies.compare import as_markdown, compare, seconds_each
from cytoseg.terminal import say, weighted_progress
from cytoseg.workflows.backbone import backbone_folder, run_backbone, sources_sentence
from cytoseg.workflows.compared_methods import (
    TrainingData,
    all_methods,
    quick_methods,
    report_skipped_methods,
    task_of,
)
from cytoseg.workflows.crop_split import split_of
from cytoseg.workflows.recorded_command import Overrides, RecipeArgument, alone_in, start_run
from cytoseg.workflows.training_times import timed


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings per method.")] = 3,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Only the simple baselines, a short U-Net from scratch and the recipe's MLPs, once each."
        ),
    ] = False,
) -> None:
    """Compare the recipe's method with baselines trained on the same crops.

    The most frequent class, thresholds, a random forest on filters, a U-Net trained from scratch and one on an ImageNet
    encoder, and MLPs on filters, on the features of random weights, of the diffusion model and of a frozen ImageNet
    network, alone and joined with filters; with interpreter.kind decoder also the tuned decoder and the same network
    tuned from random weights, with segdiff that model as well. Writes IoU, time and memory of each into compare/ in the
    run folder as CSV, Markdown and a figure. Finished trainings are not repeated. With --quick it takes minutes: the
    U-Net from scratch is trained for a quarter of the steps, and the U-Net on an ImageNet encoder, tuned decoders and
    MLPs on other features than the recipe's are left out.
    """
    with start_run(recipe, overrides, command="compare") as current, alone_in(current.folder / "compare"):
        split = split_of(current.recipe)
        check_two_classes(name for crop in split.train for name, pixels in crop.pixels.items() if pixels)
        unet, _, backbone = run_backbone(current.recipe, current.folder)
        if not quick:
            report_skipped_methods()
        learning = TrainingData.of(current.recipe, split)
        task = task_of(current.recipe, split, learning.device, seeds=1 if quick else seeds)
        task = replace(task, remark=sources_sentence(backbone_folder(current.recipe, current.folder)))
        methods = (quick_methods if quick else all_methods)(learning, unet, backbone)
        methods, folder = timed(methods, learning, split.test), current.folder / "compare"
        with weighted_progress("compare", seconds_each(methods, task, folder), units="trainings") as on_run:
            rows = compare(methods, task, folder=folder, on_run=on_run)
        say(as_markdown(rows, task.classes, note=task.notes))
        say(f"See {folder / 'compare.png'}.")
