"""``cytoseg report``: one HTML page with everything a run has found."""

from cytoseg.commands.common import Overrides, RecipeArgument, say
from cytoseg.metrics.report import write_report
from cytoseg.recipe import load_recipe


def run(recipe: RecipeArgument, overrides: Overrides = None) -> None:
    """Write everything a run has found into one HTML page.

    report.html in the run folder holds the scores, pictures and provenance, needs nothing beside it, and can be mailed.
    """
    say(f"Report: {write_report(load_recipe(recipe, overrides or ()).run_folder())}")
