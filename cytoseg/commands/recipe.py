"""``cytoseg recipe``: list, write, check and explain recipes."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.table import Table

from cytoseg.classes import ClassItem
from cytoseg.commands.recipe_list import list_shipped
from cytoseg.commands.recipe_new import new
from cytoseg.diffusion.architecture import STAGE_CHANNELS, tap_shapes
from cytoseg.features.settings import FILTERS_A_CHANNEL
from cytoseg.quoting import printable
from cytoseg.recipe import Recipe, load_recipe
from cytoseg.recipe.keys import keys_of
from cytoseg.shipped import find_base_model
from cytoseg.terminal import console, say, say_next
from cytoseg.workflows.next_command import annotate_or_train
from cytoseg.workflows.recipe_slides import tissue_sources
from cytoseg.workflows.recorded_command import Overrides, RecipeArgument, check_folders


def check(recipe: RecipeArgument, overrides: Overrides = None) -> None:
    """Check a recipe: every value, the model it starts from, and every slide. Writes nothing.

    What is wrong is refused as by `train-ddpm`, with exit status 2. What other commands make is not looked for: labels,
    an interpreter, an autoencoder or another run.
    """
    loaded = load_recipe(recipe, overrides or ())
    check_folders(loaded)
    channels = sum(c for c, _ in tap_shapes(loaded.architecture(), loaded.taps()))
    timesteps = loaded.feature_timesteps()
    say(f"{loaded.name}: every value is valid. Run folder: {loaded.run_folder()}")
    levels = ("each of " if len(timesteps) > 1 else "") + f"t = {', '.join(map(str, timesteps))}"
    filters = loaded.diffusion.channels * FILTERS_A_CHANNEL
    counted = {
        "ddpm": (channels * len(timesteps), f"{channels} channels at {levels}"),
        "filters": (filters, f"{filters} filters"),
        "pretrained": (sum(STAGE_CHANNELS), f"{sum(STAGE_CHANNELS)} channels of the frozen ImageNet network"),
    }
    parts = [counted[name] for name in loaded.features.extractors]
    say(f"Features: {' and '.join(text for _, text in parts)}: {sum(count for count, _ in parts)} in all")
    if loaded.training.init is not None:
        find_base_model(loaded.training.init)  # refused if there is none
        say(f"Starts from: {loaded.training.init}")
    found = tissue_sources(loaded)
    say(f"Slides: {found.slides} found, {len(found.sources)} with cells")
    own = loaded.training.init is None and (
        "ddpm" in loaded.features.extractors or loaded.interpreter.kind == "decoder"
    )
    say_next("train-ddpm" if own else annotate_or_train(loaded.labels_folder()), recipe)


def explain(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="Show its values beside the defaults.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Explain every key of a recipe: value, default, meaning."""
    loaded = None if recipe is None else load_recipe(recipe, overrides or ())
    table = Table("key", "value" if loaded else "default", "meaning", show_lines=False)
    for key, value, text in _rows(Recipe, loaded, prefix=""):
        table.add_row(key, printable(value), text)
    console.print(table)
    say_next("recipe", "check", recipe or "mylab.yaml")


def _rows(section: type, values: Any, *, prefix: str) -> Iterator[tuple[str, str, str]]:
    for key in keys_of(section):
        value = getattr(values, key.name) if values is not None else key.default
        if key.section is not None:
            yield from _rows(key.section, value, prefix=f"{prefix}{key.name}.")
        else:
            shown = "(required)" if values is None and key.is_required else _short(value)
            yield f"{prefix}{key.name}", shown, key.text


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(_short(v) for v in value) or "(none)"
    return str(value.name if isinstance(value, ClassItem) else value)


VERBS = {"list": list_shipped, "new": new, "check": check, "explain": explain}
