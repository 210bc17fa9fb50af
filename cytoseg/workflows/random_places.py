"""Random places to annotate, by contrast and without overlap."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoseg.active_learning.choose_regions import overlapping
from cytoseg.errors import LabelError
from cytoseg.formats.sidecar import Cut, has_sidecar, write_sidecar
from cytoseg.geometry import Region
from cytoseg.interpreter.proposals_without_labels import MaskHeadProposals
from cytoseg.labels.proposal_file import proposal, sealed
from cytoseg.recipe import Recipe
from cytoseg.seeds import seed_for
from cytoseg.slides.contrast import contrast, density, near_empty
from cytoseg.slides.crops import RandSlideCropd
from cytoseg.slides.generated_mark import png_text, read_mark
from cytoseg.slides.open import slide_id
from cytoseg.writing import atomic_path, write_atomically

DRAWS = 4
"""Number of random places to choose from: enough to skip uninformative ones, too few to always pick the same kind."""
MAX_DRAWS = 24
"""Most places tried if all are near-empty or overlap others."""


@dataclass(frozen=True, eq=False)
class Place:
    """A place to annotate.

    Attributes:
        slide: The slide's file.
        region: Its region in level-0 pixels.
        picture: (H, W, 3) uint8 RGB.
    """

    slide: Path
    region: Region
    picture: NDArray[np.uint8]


def choose_places(crop: RandSlideCropd, n: int, *, seed: int, on_place: Callable[[int], None]) -> Iterator[Place]:
    """Choose places; a larger number only adds to the same first ones.

    Args:
        crop: Draws random tissue crops.
        n: Number of places; fewer where there is almost only glass.
        seed: Place i is a function of (seed, i).
        on_place: Called with the number done.

    Raises:
        SlideError: If a slide cannot be read.
    """
    taken: list[tuple[Path, Region]] = []
    for number in range(n):
        place = choose_place(crop, number, seed=seed, taken=taken)
        on_place(number + 1)
        if place is not None:
            taken.append((place.slide, place.region))
            yield place


def choose_place(crop: RandSlideCropd, number: int, *, seed: int, taken: Sequence[tuple[Path, Region]]) -> Place | None:
    """Choose the place with the highest contrast among a few, away from others if there is room.

    Args:
        crop: Draws random tissue crops.
        number: Index of the place, which with the seed determines the candidates.
        seed: Seed of all places.
        taken: Slides and regions to avoid.

    Returns:
        The place, or None if there is almost only glass.

    Raises:
        SlideError: If a slide cannot be read.
    """
    apart: list[Place] = []
    on_others: list[Place] = []
    for draw in range(MAX_DRAWS):
        crop.set_random_state(seed=seed_for(seed, number * MAX_DRAWS + draw, what="label-crops"))
        picture = crop({"image": number})["image"].numpy().transpose(1, 2, 0)
        found = density(picture)
        if near_empty(found.mean(axis=0).tolist(), found.std(axis=0).tolist()):
            continue
        path, region = crop.source.path, crop.region
        free = not any(slide == path and overlapping(region, other) for slide, other in taken)
        (apart if free else on_others).append(Place(path, region, picture))
        if len(apart) == DRAWS:
            break
    return max(apart or on_others, key=lambda place: contrast(place.picture), default=None)


def write_place(place: Place, recipe: Recipe, folder: Path, *, guess: MaskHeadProposals | None) -> bool:
    """Write a crop unless it exists; return whether it was written.

    Raises:
        LabelError: If a crop of another size exists.
    """
    slide, region = slide_id(place.slide), place.region
    path = folder / f"{slide}_{region.x}_{region.y}.png"
    cut = Cut(slide, region, recipe.slides.mpp)
    if path.exists():
        if not has_sidecar(path, cut):
            raise LabelError(f"{path}: already exists, cut at another size. Choose another folder with --out.")
        return False
    write_sidecar(path, cut)
    if guess is not None:
        content = proposal(guess(place.picture), recipe.class_list(), picture=path.name)
        write_atomically(path.with_suffix(".json"), sealed(content))
    with atomic_path(path) as temporary:
        Image.fromarray(place.picture).save(temporary, format="PNG", pnginfo=png_text(read_mark(place.slide)))
    return True
