"""The slides of a recipe and their cells: what ``train-ddpm`` learns from, and what ``recipe check`` looks at."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from cytoseg.recipe import Recipe
from cytoseg.slides.open import find_slides
from cytoseg.slides.tissue import SlideSource, find_tissue
from cytoseg.workflows.recorded_command import progress


@dataclass(frozen=True)
class Found:
    """The slides of a recipe.

    Attributes:
        slides: How many there are.
        sources: Those that hold cells.
    """

    slides: int
    sources: list[SlideSource]


def tissue_sources(recipe: Recipe) -> Found:
    """Open each slide of a recipe and find its cells.

    Raises:
        SlideError: If slides are missing, damaged or too small, or do not say their pixel size; what is wrong with
            several alike is said once.
    """
    paths = find_slides(recipe.slides.folders, include=recipe.slides.include, exclude=recipe.slides.exclude)
    sources = find_tissue(
        _watched(paths),
        size_px=recipe.crops.size_px,
        settings=recipe.slides,
        on_unreadable=say_lost if recipe.slides.unreadable == "skip" else None,
    )
    return Found(len(paths), sources)


def say_lost(text: str) -> None:
    """Say that a slide is lost, whichever process reads it, also one whose console is silent."""
    typer.echo(f"cytoseg: {text}", err=True)


def _watched(paths: Sequence[Path]) -> Iterator[Path]:
    with progress("slides", len(paths)) as bar:
        for number, path in enumerate(paths):
            bar.at(number)
            yield path
        bar.at(len(paths))
