"""The recipe: schema, reading and updating."""

from cytoseg.recipe.file import dump_recipe, find_recipe, load_recipe, recipe_of, update_recipe
from cytoseg.recipe.run_copy import labels_of_run, recipe_of_run
from cytoseg.recipe.schema import Recipe

__all__ = [
    "Recipe",
    "dump_recipe",
    "find_recipe",
    "labels_of_run",
    "load_recipe",
    "recipe_of",
    "recipe_of_run",
    "update_recipe",
]
