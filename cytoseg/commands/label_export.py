"""``cytoseg label-export``: imported labels as files for labelme or QuPath."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cytoseg.labels.export import export_labels
from cytoseg.labels.index import load_index
from cytoseg.terminal import progress, say
from cytoseg.workflows.recorded_command import Overrides, RecipeArgument, start_run


def run(
    recipe: RecipeArgument,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Output folder, new or empty.")],
    overrides: Overrides = None,
    form: Annotated[
        Literal["labelme", "geojson"],
        typer.Option(
            "--format", help="labelme: JSON and image of each crop; geojson: QuPath annotations of each slide."
        ),
    ] = "labelme",
) -> None:
    """Write the imported labels back as labelme JSON or QuPath GeoJSON.

    Shapes are exported as drawn, under their original names: import them with the same --map and --ignore. Labels
    imported as mask images are traced along pixel edges. In GeoJSON, crops with a known position are placed on their
    slide, each as a Region*; others get a file with their image beside it.
    """
    with start_run(recipe, overrides, command="label-export") as current:
        with progress("crops", 1) as bar:
            report = export_labels(
                load_index(current.recipe.labels_folder()),
                folder,
                form=form,
                classes=current.recipe.class_list(),
                progress=bar.update_of,
            )
        current.entry["crops"] = report.crops
        if report.traced:
            say(f"note: {len(report.traced)} crops were imported without shapes and traced from their label maps.")
        say(f"{report.crops} crops exported into {len(report.files)} files in {folder}.")
