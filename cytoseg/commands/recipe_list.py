"""``cytoseg recipe list``, separate because it needs few imports."""

from cytoseg.shipped import shipped_recipes
from cytoseg.terminal import say, say_next


def list_shipped() -> None:
    """List the shipped recipes, each with its first line."""
    paths = sorted(shipped_recipes().glob("*.yaml"), key=lambda path: path.stem)
    widest = max((len(path.stem) for path in paths), default=0)
    for path in paths:
        say(f"{path.stem:{widest}}  {path.read_text(encoding='utf-8').splitlines()[0].removeprefix('# ')}")
    say_next("recipe", "new", "mylab.yaml")


VERBS = {"list": list_shipped}
