"""Comparing variants of the diffusion model: their recipes, and all their trainings."""

import contextlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cytoseg.checkpoints import find_checkpoints, load_state
from cytoseg.devices import pick_device
from cytoseg.diffusion.state import FREE
from cytoseg.errors import RecipeError
from cytoseg.labels.index import has_index
from cytoseg.recipe import Recipe
from cytoseg.recipe.file import recipe_of
from cytoseg.runs import versions
from cytoseg.slides.crops import RandSlideCropd
from cytoseg.studies.architectures import (
    CONTROL,
    VariantOutcome,
    VariantRow,
    outcome_or_stored,
    stored_outcome,
    write_study,
)
from cytoseg.workflows.autoencoder import trained_autoencoder
from cytoseg.workflows.compared_methods import TrainingData
from cytoseg.workflows.crop_split import split_of
from cytoseg.workflows.recipe_slides import slide_files
from cytoseg.workflows.training_crops import tissue_crops
from cytoseg.workflows.variant_outcome import SAMPLE_STEPS, Asking, Question, floor_of, measure

BASE = "base"
PLAIN = ("diffusion.backbone=adm", "diffusion.adm.conditioning=add", "diffusion.adm.block=resnet")
"""The base: ADM without the changes of the variants."""
VARIANTS = {
    BASE: "",
    "adagn": "diffusion.adm.conditioning=adagn",
    "convnext": "diffusion.adm.block=convnext",
    "cosine": "diffusion.schedule=cosine",
    "no-attention": "diffusion.adm.attention=[]",
}
"""Variants known by name, each with one change to the base."""


def variants_of(recipe: Recipe, asked: str) -> dict[str, Recipe]:
    """Make the recipes of the variants; the base is always included, as the first.

    Args:
        recipe: The recipe of the study.
        asked: Names separated by commas, each a known one or ``name=section.key=value``.

    Raises:
        RecipeError: If a name is unknown or appears twice, or a value is invalid.
    """
    changes = {BASE: ""}
    for text in re.split(r",(?![^\[{]*[\]}])", asked):
        name, _, own = text.strip().partition("=")
        if name in changes and (name != BASE or own):
            raise RecipeError(f"--variants {asked}: {name} appears twice. Name each once.")
        if not own and name not in VARIANTS:
            known = ", ".join(VARIANTS)
            raise RecipeError(
                f"--variants {asked}: {name!r} is not one of {known}. Name one, or write wide=diffusion.dim=64."
            )
        if own and not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
            raise RecipeError(f"--variants {asked}: name a variant with small letters, digits and hyphens.")
        if own and not own.startswith(("diffusion.", "training.", "space.")):
            raise RecipeError(
                f"--variants {asked}: {name} changes {own}, but only diffusion, training and space may differ."
            )
        changes[name] = own or VARIANTS[name]
    values = recipe.model_dump(mode="json")
    taps = () if recipe.diffusion.backbone == "adm" else ("features.taps=all",)
    plain = ("training.init=null", *PLAIN, *taps)
    return {
        name: recipe_of(values, [*plain, *([change] if change else [])], where=Path(f"variant {name}"))
        for name, change in changes.items()
    }


def compare_architectures(
    recipe: Recipe,
    variants: Mapping[str, Recipe],
    asking: Asking,
    folder: Path,
    *,
    on_part: Callable[[int, int], None],
) -> tuple[str, Path]:
    """Train and measure all variants with all seeds, reusing finished trainings.

    Args:
        recipe: The recipe of the study, with slides and labels.
        variants: From ``variants_of``.
        asking: Length of each training, and number of seeds and samples.
        folder: Takes runs/, architectures.csv, .md and .png.
        on_part: Called with the crops that the trainings of this call have seen and their total; if trainings end by
            time, with seconds.

    Returns:
        The table in Markdown, and the folder.

    Raises:
        SlideError: If slides are missing, damaged or too small.
        LabelError: If a labelled crop was changed after the import.
        RecipeError: If trainings end by time, but the rate of one falls with the number of crops.
        CheckpointError: If a variant works in latents, and the run has no autoencoder for it.
        CytosegError: If a training diverges.
    """
    if asking.seconds is not None:
        _refuse_falling_rate(variants)
    for variant in variants.values():
        if variant.space.is_latent:
            trained_autoencoder(variant)  # refuse a missing one before the slides are read
    named = [*((name, name, 0) for name in variants), (CONTROL, BASE, asking.seeds)]
    with contextlib.closing(tissue_crops(recipe)) as crop:
        question = _question(recipe, asking, crop)
        trainings = [
            _Training(title, name, recipe.training.seed + offset + i)
            for title, name, offset in named
            for i in range(asking.seeds)
        ]
        decides = [_decides(variants[training.name], question, training.seed) for training in trainings]
        paths = [folder / "runs" / f"{training.name}-{training.seed}.json" for training in trainings]
        left = sum(stored_outcome(*both) is None for both in zip(paths, decides, strict=True))
        track = _Track(on_part, asking.seconds, recipe.training.crops, left)
        outcomes: dict[str, list[VariantOutcome]] = {}
        for training, path, decided in zip(trainings, paths, decides, strict=True):
            train = partial(_measured, variants[training.name], question, training.seed, track)
            outcomes.setdefault(training.title, []).append(outcome_or_stored(path, decided, train))
        floor = floor_of(recipe, question)
    rows = [VariantRow(title, tuple(found)) for title, found in outcomes.items()]
    length = f"{recipe.training.crops:,} crops" if asking.seconds is None else f"{asking.seconds / 60:g} min"
    note = (
        f"Each trained for {length} of {recipe.crops.size_px} px; {asking.samples} samples by DDIM of at most "
        f"{SAMPLE_STEPS} steps; features of KID and FID: the image filters. Losses are errors of the predicted noise; "
        "schedules differ in the noise at the same t."
    )
    return write_study(folder, rows, recipe.class_list().names, floor=floor, note=note), folder


def _refuse_falling_rate(variants: Mapping[str, Recipe]) -> None:
    """Refuse a schedule that would end before or after the time."""
    for name, recipe in variants.items():
        if recipe.training.rate_schedule != "constant":
            raise RecipeError(
                f"--minutes: with training.rate_schedule {recipe.training.rate_schedule}, the rate of {name} would "
                f"reach its end at training.crops={recipe.training.crops}, not at that time. Add "
                "training.rate_schedule=constant."
            )


@dataclass(frozen=True)
class _Training:
    title: str
    name: str
    seed: int


@dataclass
class _Track:
    """Progress over the trainings of a call, in crops or seconds."""

    on_part: Callable[[int, int], None]
    seconds: float | None
    crops: int
    trainings: int
    done: int = 0

    def seen(self, begin: float, crops_seen: int) -> None:
        """Show the progress of a training that began at a time and has seen this many crops."""
        each, part = (self.crops, crops_seen) if self.seconds is None else (self.seconds, time.monotonic() - begin)
        self.on_part(round(self.done * each + min(part, each)), max(1, round(self.trainings * each)))


def _measured(recipe: Recipe, question: Question, seed: int, track: _Track) -> VariantOutcome:
    outcome = measure(recipe, question, seed=seed, on_crops=partial(track.seen, time.monotonic()))
    track.done += 1
    return outcome


def _question(recipe: Recipe, asking: Asking, crop: RandSlideCropd) -> Question:
    if not has_index(recipe.labels_folder()):
        return Question(asking, crop, None, ())
    split = split_of(recipe)
    return Question(asking, crop, TrainingData.of(recipe, split), split.test)


def _space(recipe: Recipe) -> dict[str, Any]:
    """Return the latent space of the trainings and the hash of its autoencoder; empty in pixel space."""
    if not recipe.space.is_latent:
        return {}
    newest = find_checkpoints(trained_autoencoder(recipe))[0]
    return {"space": recipe.section("space"), "autoencoder": load_state(newest)["sha256"]}


def _decides(recipe: Recipe, question: Question, seed: int) -> dict[str, Any]:
    """List everything that determines an outcome: the relevant settings of the variant, the slides, and the labels."""
    sections = ("slides", "crops", "diffusion", "training", "classes", "features", "interpreter")
    values = {name: recipe.section(name) for name in sections}
    values["training"] = {k: v for k, v in values["training"].items() if k == "crops" or k not in FREE}
    crops = [*(question.learning.crops if question.learning else ()), *question.test]
    labels = [(crop.crop, crop.image_sha256, crop.label_sha256) for crop in crops]
    return {
        **values,
        **_space(recipe),
        "seed": seed,
        "samples": question.asking.samples,
        "seconds": question.asking.seconds,
        "slides": [question.crop.digest(), slide_files(recipe)],
        "labels": labels,
        "device": pick_device(recipe.training.device).type,
        "versions": versions(),
    }
