"""Opening a recipe's slides and finding their tissue."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from cytoseg.errors import SlideError
from cytoseg.recipe import Recipe
from cytoseg.slides.fingerprint import slide_stamp
from cytoseg.slides.open import find_slides
from cytoseg.slides.tissue_sources import SlideSource, find_tissue
from cytoseg.terminal import progress


@dataclass(frozen=True)
class FoundSlides:
    """The slides of a recipe.

    Attributes:
        slides: Number of slides.
        sources: Slides with cells.
    """

    slides: int
    sources: list[SlideSource]


def tissue_sources(recipe: Recipe) -> FoundSlides:
    """Open each slide of a recipe and find its cells.

    Raises:
        SlideError: If slides are missing, damaged or too small, or do not state their pixel size; equal problems are
            merged.
    """
    paths = find_slides(recipe.slides.folders, include=recipe.slides.include, exclude=recipe.slides.exclude)
    sources = find_tissue(
        _watched(paths),
        size_px=recipe.crops.size_px,
        settings=recipe.slides,
        on_unreadable=say_lost if recipe.slides.unreadable == "skip" else None,
    )
    return FoundSlides(len(paths), sources)


def slide_files(recipe: Recipe) -> list[list[str | int]]:
    """Return name, bytes and modification time of each slide, which tell whether one was added or replaced.

    Empty if there are none: opening them says what is missing.
    """
    section = recipe.slides
    try:
        paths = find_slides(section.folders, include=section.include, exclude=section.exclude)
        return [[path.name, *slide_stamp(path)] for path in paths]
    except (SlideError, OSError):
        return []


def say_lost(text: str) -> None:
    """Report a lost slide from any process, including those with a silent console."""
    typer.echo(f"cytoseg: {text}", err=True)


def _watched(paths: Sequence[Path]) -> Iterator[Path]:
    with progress("slides", len(paths)) as bar:
        for number, path in enumerate(paths):
            bar.update(number)
            yield path
        bar.update(len(paths))
