"""``cytoseg study``: studies of many trainings."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from cytoseg.errors import RecipeError
from cytoseg.recipe import Recipe
from cytoseg.studies.compare import ComparedMethod
from cytoseg.studies.label_efficiency import Draw, as_markdown, draw_crops, label_efficiency
from cytoseg.workflows.backbone import run_backbone
from cytoseg.workflows.methods import (
    Learning,
    baselines,
    decoders,
    imagenet_unet,
    mlps,
    own_key,
    say_missing_rivals,
    task_of,
)
from cytoseg.workflows.recorded_command import Overrides, RecipeArgument, progress, say, start_run
from cytoseg.workflows.run_paths import split_of

COUNTS = "1,2,4,8,16,30,60,120"
RIVALS = ("forest", "scratch", "imagenet-unet", "imagenet", "imagenet-joined")
METHODS = {"mlps": (*RIVALS, "mlps"), "decoder": (*RIVALS, "decoder", "decoder-random")}
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
    with start_run(recipe, overrides, command="study label-efficiency") as current:
        split = split_of(current.recipe)
        unet, _, backbone = run_backbone(current.recipe, current.folder)
        learning = Learning.of(current.recipe, split)
        say_missing_rivals()

        def methods_of(draw: Draw) -> list[ComparedMethod]:
            some = learning.only(draw.crops)
            networks = (*mlps(some, unet, backbone), *decoders(some, unet, backbone))
            return _wanted((*baselines(some), *imagenet_unet(some), *networks), current.recipe, quick=quick)

        usable = [sum(pixels > 0 for pixels in crop.pixels.values()) >= 2 for crop in split.train]
        drawn = draw_crops(usable, counts=_numbers(counts), draws=draws, seed=current.recipe.training.seed)
        task = task_of(current.recipe, split, learning.device, seeds=1)
        folder = current.folder / "label_efficiency"
        with progress("draws", len(drawn)) as bar:
            curves = label_efficiency(
                methods_of, task, draws=drawn, folder=folder, on_run=lambda what, done, _: bar.at(done, what)
            )
        say(as_markdown(curves, task.classes, note=task.note))
        say(f"See {folder / 'label_efficiency.png'}.")


def _wanted(methods: Sequence[ComparedMethod], recipe: Recipe, *, quick: bool) -> list[ComparedMethod]:
    """Select the methods compared with the recipe's own, which is called ``mlps`` here."""
    kind, own = recipe.interpreter.kind, own_key(recipe)
    wanted = [key for key in METHODS[kind] if not (quick and key in NETWORKS)]
    found = {method.key: method for method in methods}
    found["mlps"] = replace(found[own], key="mlps")
    is_rival = kind == "mlps" and own in wanted  # list the recipe's own features only once
    return [found[key] for key in wanted if key in found and not (is_rival and key == own)]


def _numbers(text: str) -> list[int]:
    if not re.fullmatch(r"[1-9][0-9]*(,[1-9][0-9]*)*", text):
        raise RecipeError(f"--counts {text!r}: write numbers of crops separated by commas, such as 1,5,30.")
    return [int(number) for number in text.split(",")]


VERBS = {"label-efficiency": label_efficiency_command}
