"""``cytoseg report``: the results of a run as one HTML page."""

from cytoseg.recipe import load_recipe
from cytoseg.reporting.report import write_report
from cytoseg.terminal import say
from cytoseg.workflows.recorded_command import Overrides, RecipeArgument, errors_of_removed_run


def run(recipe: RecipeArgument, overrides: Overrides = None) -> None:
    """Write all results of a run into one HTML page.

    report.html in the run folder is a self-contained page with scores, images and provenance.
    """
    folder = load_recipe(recipe, overrides or ()).run_folder()
    with errors_of_removed_run(folder):
        say(f"Report: {write_report(folder)}")
