"""``cytoseg label-import``: annotations to label maps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from cytoseg.errors import LabelError
from cytoseg.formats.qupath import REGION
from cytoseg.labels.import_labels import import_labels
from cytoseg.labels.import_settings import ImportRules
from cytoseg.labels.index import load_index, total_pixels
from cytoseg.labels.slide_crops import SlideRules
from cytoseg.patterns import on_disk
from cytoseg.terminal import progress, say
from cytoseg.workflows.recorded_command import Overrides, Run, start_run

Source = Annotated[
    Path, typer.Argument(metavar="SRC", help="labelme or GeoJSON file, a folder of them, or of images with masks.")
]
Renames = Annotated[list[str] | None, typer.Option("--map", help="Rename a class: found=wanted. Repeatable.")]
SlideRegex = Annotated[
    str | None,
    typer.Option(
        "--slide-regex", help="Regular expression for the slide id in an image's name: its group, or the whole match."
    ),
]
Area = Annotated[
    Literal["centre", "outline"],
    typer.Option(
        "--area", help="centre: pixels whose centre is inside; outline: labelme's own filling, edge included."
    ),
]
Slides = Annotated[
    Path | None, typer.Option("--slides", help="Folder of the slides annotated in GeoJSON files; default: beside them.")
]
Regions = Annotated[
    list[str] | None,
    typer.Option("--region", help="QuPath class that delimits a crop, besides Region*. Repeatable."),
]
Instances = Annotated[
    str | None,
    typer.Option(
        "--instances",
        metavar="CLASS",
        help="SRC holds images/ beside instances/ (or masks/) with one id per object, 0 for none. All "
        "objects get CLASS.",
    ),
]


def run(
    source: Source,
    recipe: Annotated[str, typer.Option("--recipe", "-r", help="Recipe file, or the name of a shipped recipe.")],
    overrides: Overrides = None,
    renames: Renames = None,
    ignore: Annotated[list[str] | None, typer.Option("--ignore", help="Never score this class. Repeatable.")] = None,
    slide_regex: SlideRegex = None,
    area: Area = "centre",
    slides: Slides = None,
    regions: Regions = None,
    instances: Instances = None,
    resize: Annotated[
        int | None,
        typer.Option("--resize", min=16, max=4096, help="Resize square images and their masks to this side in px."),
    ] = None,
    ignore_below: Annotated[
        int,
        typer.Option("--ignore-below", min=0, metavar="PX", help="In each mask, never score classes of fewer pixels."),
    ] = 0,
) -> None:
    """Import annotations (labelme JSON, QuPath GeoJSON or mask images) as label maps.

    In QuPath, draw rectangles of the class Region* around exhaustively annotated areas: each is cut from its slide at
    slides.mpp as one crop. A GeoJSON file without one belongs to a small image, which becomes a single crop.

    Masks are PNG, TIFF or BMP files in masks/ beside images/. Ids may also be .npy files beside the images, as in the
    published sets of diffusion features, or SegmentationClass/ beside JPEGImages/, as in Pascal VOC. In these two
    layouts a crop is named by its folder or list and its file, such as train_7, and is a slide of its own.

    --map and --ignore take names of classes, and for masks numbers as well: --map 128=cytoplasm --map 255=nucleus.

    Instance maps (--instances nucleus) are PNG or TIFF, up to 32 bits. Pixels of value 0 get the fill class, unless
    --map 0=CLASS or --ignore 0 is given. Touching objects become one area, without a border between them.

    Writes label maps, an index with hashes and pixel counts, and an overlay contact sheet. All problems are reported
    together and nothing is half-imported; importing a crop again replaces it.
    """
    with start_run(recipe, overrides, command="label-import") as current:
        cutting = SlideRules(slides and on_disk(slides), (REGION, *(regions or ())), current.recipe.slides)
        class_map = _pairs(renames or [], current.recipe.class_list().names)
        rules = ImportRules(class_map, tuple(ignore or ()), slide_regex, area, cutting, instances, resize, ignore_below)
        _import(on_disk(source), rules, current)


def _import(source: Path, rules: ImportRules, current: Run) -> None:
    """Import with a progress bar, and report what was imported and skipped.

    Args:
        source: Path given by the user.
        rules: Import rules.
        current: The run.

    Raises:
        LabelError: If there is nothing to import or there are problems; nothing is changed then.
    """
    folder = current.recipe.labels_folder()
    with progress("files", 1) as bar:
        report = import_labels(source, folder, classes=current.recipe.class_list(), rules=rules, progress=bar.update_of)
    current.entry["crops"] = len(report.crops)
    for note in report.notes:
        say(f"note: {note}")
    counts = total_pixels(load_index(folder).crops)
    say(
        f"{len(report.crops)} crops imported ({report.replaced} replaced), {report.total} in all. "
        f"Pixels: {', '.join(f'{name} {count:,}' for name, count in counts.items())}. "
        f"Look at {report.contact_sheet}"
    )


def _pairs(renames: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Split each found=wanted before a class name if possible, because the found name may contain an equals sign."""
    pairs = {}
    for rename in renames:
        cuts = [i for i, sign in enumerate(rename) if sign == "=" and i and i + 1 < len(rename)]
        if not cuts:
            raise LabelError(f"--map {rename}: write found=wanted, such as --map nuclei=nucleus.")
        cut = next((i for i in cuts if rename[i + 1 :] in names), cuts[0])
        pairs[rename[:cut]] = rename[cut + 1 :]
    return pairs
