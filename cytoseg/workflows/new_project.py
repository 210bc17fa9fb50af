"""New projects of the app: slides, recipe and run folder."""

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import MOST_CHARACTERS
from cytoseg.errors import CytosegError, RecipeError, SlideError
from cytoseg.geometry import Region, Size
from cytoseg.recipe import dump_recipe, load_recipe
from cytoseg.slides.open import SLIDE_SUFFIXES, find_slides, open_slide, read_at
from cytoseg.slides.optical_density import optical_density
from cytoseg.slides.settings import BackgroundSection
from cytoseg.synthetic.generate import generate_slide
from cytoseg.workflows.recipe_text import Wanted, base_model, inspect_slides, recipe_text
from cytoseg.writing import write_atomically

THUMBNAIL_PX, MAX_ASPECT = 320, 4
"""Longer side of a thumbnail, twice that of its place on a usual screen; of a longer strip its middle is shown."""
MAX_FOLDERS, DEEPEST = 200, 3
"""Most folders offered, and their depth below the app's slide folders."""
_DENSEST = 0.95
EXAMPLE = "example"
EXAMPLE_SLIDES, EXAMPLE_PX = 4, 1024


@dataclass(frozen=True, eq=False)
class ListedSlide:
    """A slide as listed for a new project.

    Attributes:
        name: File name.
        size: Size in level-0 pixels; None if it cannot be opened.
        mpp: Micrometres per pixel; None if not stated.
        thumbnail: (H, W, 3) uint8, of a strip only its middle; None if it cannot be read.
        stain: Colours of its stain as `stain_colours` finds them; empty if there is none.
        problem: Error on opening; empty if none.
    """

    name: str
    size: Size | None
    mpp: float | None
    thumbnail: NDArray[np.uint8] | None
    stain: tuple[tuple[int, int, int], ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Project:
    """The user's choices.

    Attributes:
        name: Name of recipe and run folder.
        folder: Folder of the slides.
        wanted: Pixel size, classes and colours.
    """

    name: str
    folder: Path
    wanted: Wanted


def is_strip(size: Size) -> bool:
    """Return whether the thumbnail of a slide shows only its middle."""
    return max(size.width, size.height) > MAX_ASPECT * min(size.width, size.height)


def slide_folders(roots: Sequence[Path]) -> list[Path]:
    """List the folders with slides below the roots; hidden ones and symlinks are skipped."""
    found: list[Path] = []
    for root in roots:
        _add_folders(root.resolve(), DEEPEST, found)
    return sorted(set(found))


def _add_folders(folder: Path, deep: int, found: list[Path]) -> None:
    if len(found) >= MAX_FOLDERS:
        return
    with contextlib.suppress(OSError):  # an unreadable folder offers no choice
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        if any(entry.name.lower().endswith(SLIDE_SUFFIXES) for entry in entries):
            found.append(folder)
        for entry in entries:
            if deep and entry.is_dir() and not entry.is_symlink() and entry.name != "runs":
                _add_folders(entry, deep - 1, found)


def list_slides(folder: Path, roots: Sequence[Path], *, max_slides: int) -> tuple[list[ListedSlide], int]:
    """List the first slides of a folder.

    Args:
        folder: Folder to search at any depth.
        roots: Slide folders that the app was started with.
        max_slides: Slides to open at most.

    Returns:
        The listed slides, and the total number of slides.

    Raises:
        SlideError: If the folder is outside the roots, or has no slides.
    """
    slides = _found(folder, roots)
    return [_listed(path) for path in slides[:max_slides]], len(slides)


def stamp_of_list(folder: Path, roots: Sequence[Path], *, max_slides: int) -> tuple[object, ...]:
    """Return a key that changes with the result of ``list_slides``, also while a slide is being copied.

    Raises:
        SlideError: As ``list_slides``.
    """
    slides = _found(folder, roots)
    stamps: list[object] = [len(slides)]
    for path in slides[:max_slides]:
        with contextlib.suppress(OSError):  # opening it says what is wrong
            found = path.stat()
            stamps.append((path.name, found.st_size, found.st_mtime_ns))
    return tuple(stamps)


def _found(folder: Path, roots: Sequence[Path]) -> list[Path]:
    _check_inside(folder, roots)
    return find_slides([folder], ["**/*"])


def make_project(project: Project, base: Path, roots: Sequence[Path]) -> Path:
    """Write the recipe and run folder of a project.

    Args:
        project: The user's choices.
        base: Folder in which the app was started, for recipe and run folder.
        roots: Slide folders that the app was started with.

    Returns:
        The run folder.

    Raises:
        CytosegError: If the name is taken or invalid, the folder may not be used or has no slides, or the classes are
            invalid.
    """
    name = project.name.strip()
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,79}", name):
        raise RecipeError(f"name {name[:40]!r}: use letters, digits, dots, hyphens and underscores.")
    path = base / f"{name}.yaml"
    if path.exists() or (base / "runs" / name).exists():
        raise RecipeError(f"{name}: a recipe or run of this name already exists. Choose another name.")
    _check_inside(project.folder, roots)
    if len(project.wanted.classes) < 2:
        raise RecipeError("classes: name two or more, such as background, cytoplasm and nucleus.")
    for label in project.wanted.classes:
        if len(label) > MOST_CHARACTERS:
            raise RecipeError(f"class {label[:40]!r}...: has {len(label)} characters. Use at most {MOST_CHARACTERS}.")
    for label, colour in project.wanted.colours.items():
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
            raise RecipeError(f"colour of {label[:40]!r}: {colour[:40]!r} is not a colour. Write it as #d55e00.")
    folder = project.folder.resolve()
    slides = find_slides([folder], ["**/*"])
    written = folder.relative_to(base.resolve()) if folder.is_relative_to(base.resolve()) else folder
    write_atomically(path, recipe_text(name, [written], inspect_slides(slides), project.wanted))
    try:
        recipe = load_recipe(str(path))
        run = base / recipe.run_folder()
        write_atomically(run / "recipe.yaml", dump_recipe(recipe))
    except (CytosegError, OSError):
        path.unlink()
        raise
    return run


def make_example(base: Path) -> Path:
    """Generate slides and an example project on them; existing files are kept.

    Args:
        base: Folder in which the app was started; slides go into its example/.

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
    if (run / "recipe.yaml").is_file():  # someone else, or another window, has made it meanwhile
        return run
    classes = ("background", "cytoplasm", "nucleus")
    wanted = Wanted(0.5, classes, base_model=base_model())
    return make_project(Project(EXAMPLE, base / EXAMPLE / "slides", wanted), base, [base])


def _listed(path: Path) -> ListedSlide:
    try:
        with open_slide(path) as slide:
            size = slide.levels[0].size
            shown = _middle(size)
            scale = THUMBNAIL_PX / max(shown.width, shown.height)
            small = Size(max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
            picture = read_at(slide, shown, small)
            return ListedSlide(path.name, size, slide.mpp, picture, stain_colours(picture))
    except SlideError as error:
        return ListedSlide(path.name, None, None, None, problem=str(error))


def _middle(size: Size) -> Region:
    """Return the whole of a slide, or the middle of a strip, which would be a line as a thumbnail."""
    width, height = min(size.width, MAX_ASPECT * size.height), min(size.height, MAX_ASPECT * size.width)
    return Region((size.width - width) // 2, (size.height - height) // 2, width, height)


def stain_colours(picture: NDArray[np.uint8]) -> tuple[tuple[int, int, int], ...]:
    """Find the colours that distinguish slides of different stains.

    Args:
        picture: (H, W, 3) uint8 RGB, a small image of the slide.

    Returns:
        The median colour of the stained pixels, and that of their densest twentieth, which are mostly nuclei; empty if
        less than a thousandth of the image is stained.
    """
    pixels = picture.reshape(-1, 3)
    density = optical_density(pixels).mean(axis=1)
    stained = density > BackgroundSection().threshold
    if np.count_nonzero(stained) < max(1, len(pixels) // 1000):
        return ()
    dense = stained & (density >= np.quantile(density[stained], _DENSEST))
    medians = (np.median(pixels[chosen], axis=0) for chosen in (stained, dense))
    return tuple((int(red), int(green), int(blue)) for red, green, blue in medians)


def _check_inside(folder: Path, roots: Sequence[Path]) -> None:
    """Refuse a folder outside the app's slide folders, with symlinks resolved.

    Raises:
        SlideError: If it is outside.
    """
    if not any(folder.resolve().is_relative_to(root.resolve()) for root in roots):
        raise SlideError(f"{folder.name}: is outside the folders that the app was started with (--slides).")
