"""Naming the labelme command that opens a folder of crops."""

import shlex
import shutil
from pathlib import Path

from cytoseg.terminal import say


def say_labelme(told: str, folder: Path, *options: str, recipe: str) -> None:
    """Print what was written and the command that opens it, ready to be copied; if labelme is missing, how to go on.

    Args:
        told: What was written, and the verb: ``3 crops. Annotate them``.
        folder: The crops.
        options: More arguments of labelme.
        recipe: As the user named it.
    """
    say(f"{told}: {shlex.join(('labelme', str(folder), *options))}")
    if shutil.which("labelme") is None:
        app = shlex.join(("cytoseg", "review", recipe))
        say(f"labelme is not installed: pip install 'cytoseg[label]'. Without it, annotate in the app: {app}")
