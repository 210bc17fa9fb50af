"""A new project from the app: slides found in named folders, a recipe for them, and the run folder that holds it."""

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoseg.errors import CytosegError, RecipeError, SlideError
from cytoseg.geometry import Region, Size
from cytoseg.recipe import dump_recipe, load_recipe
from cytoseg.slides.open import SLIDE_SUFFIXES, find_slides, open_slide, read_at
from cytoseg.synthetic.generate import generate_slide
from cytoseg.workflows.recipe_text import Wanted, base_model, look_at, recipe_text
from cytoseg.writing import write_atomically

THUMBNAIL_PX = 160
MOST_FOLDERS, DEEPEST = 200, 3
"""So many folders are offered, and so deep below those that the app was started with."""
EXAMPLE = "example"
EXAMPLE_SLIDES, EXAMPLE_PX = 4, 1024


@dataclass(frozen=True, eq=False)
class ListedSlide:
    """A slide as it is listed before anything is made of it.

    Attributes:
        name: Of its file.
        size: In level-0 pixels; None if it cannot be opened.
        mpp: Micrometres per pixel; None where it does not say.
        thumbnail: (H, W, 3) uint8; None if it cannot be read.
        problem: Why it cannot be opened; empty if it can.
    """

    name: str
    size: Size | None
    mpp: float | None
    thumbnail: NDArray[np.uint8] | None
    problem: str = ""


@dataclass(frozen=True)
class Project:
    """What a person has chosen.

    Attributes:
        name: Names recipe and run folder.
        folder: Of the slides.
        wanted: Pixel size, classes and colours.
    """

    name: str
    folder: Path
    wanted: Wanted


def slide_folders(roots: Sequence[Path]) -> list[Path]:
    """List the folders that hold slides directly, within some folders; hidden ones and links are skipped."""
    found: list[Path] = []
    for root in roots:
        _add_folders(root.resolve(), DEEPEST, found)
    return sorted(set(found))


def _add_folders(folder: Path, deep: int, found: list[Path]) -> None:
    if len(found) >= MOST_FOLDERS:
        return
    with contextlib.suppress(OSError):  # a folder that may not be read holds nothing to choose
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        if any(entry.name.lower().endswith(SLIDE_SUFFIXES) for entry in entries):
            found.append(folder)
        for entry in entries:
            if deep and entry.is_dir() and not entry.is_symlink() and entry.name != "runs":
                _add_folders(entry, deep - 1, found)


def list_slides(folder: Path, roots: Sequence[Path], *, most: int) -> tuple[list[ListedSlide], int]:
    """Look at the first slides of a folder.

    Args:
        folder: To look in, at any depth.
        roots: What the app was started with.
        most: So many are looked at.

    Returns:
        What was found, and how many slides there are in all.

    Raises:
        SlideError: If the folder lies in none of the roots, or holds no slide.
    """
    _check_inside(folder, roots)
    slides = find_slides([folder], ["**/*"])
    return [_listed(path) for path in slides[:most]], len(slides)


def make_project(project: Project, base: Path, roots: Sequence[Path]) -> Path:
    """Write the recipe of a project, and its run folder, in which the app finds it.

    Args:
        project: What was chosen.
        base: Where the app was started: the recipe is written there, and the run folder below.
        roots: What the app was started with.

    Returns:
        The run folder.

    Raises:
        CytosegError: If the name is taken or no name, the folder may not be used or holds no slide, or the classes
            are none.
    """
    name = project.name.strip()
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,79}", name):
        raise RecipeError(f"name {name[:40]!r}: take letters, digits, dots, hyphens and underscores.")
    path = base / f"{name}.yaml"
    if path.exists() or (base / "runs" / name).exists():
        raise RecipeError(f"{name}: there is a recipe or a run of this name already. Choose another name.")
    _check_inside(project.folder, roots)
    if len(project.wanted.classes) < 2:
        raise RecipeError("classes: name two or more, such as background, cytoplasm and nucleus.")
    for label, colour in project.wanted.colours.items():
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
            raise RecipeError(f"colour of {label[:40]!r}: {colour[:40]!r} is none. Write it as #d55e00.")
    folder = project.folder.resolve()
    slides = find_slides([folder], ["**/*"])
    written = folder.relative_to(base.resolve()) if folder.is_relative_to(base.resolve()) else folder
    write_atomically(path, recipe_text(name, [written], look_at(slides), project.wanted))
    try:
        recipe = load_recipe(str(path))
        run = base / recipe.run_folder()
        write_atomically(run / "recipe.yaml", dump_recipe(recipe))
    except (CytosegError, OSError):
        path.unlink()
        raise
    return run


def make_example(base: Path) -> Path:
    """Make slides and a project on them, to try things on; what already exists stays.

    Args:
        base: Where the app was started; slides go into example/ there.

    Returns:
        The run folder.

    Raises:
        CytosegError: If the slides or the project cannot be written.
    """
    run = base / "runs" / EXAMPLE
    if (run / "recipe.yaml").is_file():
        return run
    for number in range(EXAMPLE_SLIDES):
        path = base / EXAMPLE / "slides" / f"made_{number:02d}.ome.tif"
        if not path.exists():
            generate_slide(path, size=Size(EXAMPLE_PX, EXAMPLE_PX), seed=number, mpp=0.5)
    classes = ("background", "cytoplasm", "nucleus")
    wanted = Wanted(0.5, classes, base_model=base_model())
    return make_project(Project(EXAMPLE, base / EXAMPLE / "slides", wanted), base, [base])


def _listed(path: Path) -> ListedSlide:
    try:
        with open_slide(path) as slide:
            size = slide.levels[0].size
            scale = THUMBNAIL_PX / max(size.width, size.height)
            small = Size(max(1, round(size.width * scale)), max(1, round(size.height * scale)))
            picture = read_at(slide, Region(0, 0, size.width, size.height), small)
            return ListedSlide(path.name, size, slide.mpp, picture)
    except SlideError as error:
        return ListedSlide(path.name, None, None, None, str(error))


def _check_inside(folder: Path, roots: Sequence[Path]) -> None:
    """Refuse a folder outside of those that the app was started with, links followed.

    Raises:
        SlideError: If it is one.
    """
    if not any(folder.resolve().is_relative_to(root.resolve()) for root in roots):
        raise SlideError(f"{folder.name}: lies in none of the folders that the app was started with (--slides).")
