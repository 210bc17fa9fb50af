"""``cytoseg label-import``: annotations of people become label maps."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cytoseg.commands.common import Overrides, progress, say, start_run
from cytoseg.errors import LabelError
from cytoseg.labels.dataset import ImportRules, import_labels, load_index
from cytoseg.labels.index import total_pixels


def run(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="labelme file or folder, or a folder with images/ and masks/.")
    ],
    recipe: Annotated[str, typer.Option("--recipe", "-r", help="Recipe file, or the name of a shipped recipe.")],
    overrides: Overrides = None,
    renames: Annotated[
        list[str] | None, typer.Option("--map", help="Rename a class: found=wanted. Repeatable.")
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option("--ignore", help="Never score this class. Repeatable.")] = None,
    slide_regex: Annotated[
        str | None,
        typer.Option("--slide-regex", help="Finds the slide id in a picture's name; one group or all of it."),
    ] = None,
    area: Annotated[
        Literal["centre", "outline"],
        typer.Option(
            "--area", help="centre: pixels whose centre is inside; outline: labelme's own filling, edge included."
        ),
    ] = "centre",
) -> None:
    """Import annotations (labelme JSON or mask images) as label maps.

    Writes label maps, an index with hashes and pixel counts, and an overlay contact sheet. All problems are reported
    together and nothing is half-imported; importing a crop again replaces it.
    """
    with start_run(recipe, overrides, command="label-import") as current:
        rules = ImportRules(_pairs(renames or []), tuple(ignore or ()), slide_regex, area)
        with progress("files", 1) as bar:
            report = import_labels(
                source,
                current.recipe.labels_folder(),
                classes=current.recipe.class_list(),
                rules=rules,
                progress=bar.of,
            )
        current.entry["crops"] = len(report.crops)
        for note in report.notes:
            say(f"note: {note}")
        counts = total_pixels(load_index(current.recipe.labels_folder()).crops)
        say(
            f"{len(report.crops)} crops imported ({report.replaced} replaced), {report.total} in all. "
            f"Pixels: {', '.join(f'{name} {count:,}' for name, count in counts.items())}. "
            f"Look at {report.contact_sheet}"
        )


def _pairs(renames: list[str]) -> dict[str, str]:
    pairs = {}
    for rename in renames:
        found, equals, wanted = rename.partition("=")
        if not equals or not found or not wanted:
            raise LabelError(f"--map {rename}: write found=wanted, such as --map nuclei=nucleus.")
        pairs[found] = wanted
    return pairs
