"""``cytoseg recipe list``: apart from the other verbs, for those load the libraries of a whole recipe."""

from cytoseg.shipped import shipped_recipes
from cytoseg.terminal import say, say_next


def list_shipped() -> None:
    """List the recipes that come with the program, each with its first line."""
    for path in sorted(shipped_recipes().glob("*.yaml"), key=lambda path: path.stem):
        say(f"{path.stem:12} {path.read_text(encoding='utf-8').splitlines()[0].removeprefix('# ')}")
    say_next("recipe", "new", "mylab.yaml")


VERBS = {"list": list_shipped}
