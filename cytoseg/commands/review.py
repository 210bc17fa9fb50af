"""``cytoseg review``: the Streamlit app."""

import importlib.util
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from cytoseg.errors import CytosegError
from cytoseg.interrupts import PARENT_VARIABLE
from cytoseg.recipe import Recipe, load_recipe
from cytoseg.review.database import check_log
from cytoseg.shipped import shipped_review
from cytoseg.terminal import say
from cytoseg.workflows.recorded_command import Overrides, check_folders
from cytoseg.workflows.review_links import opening_lines, surroundings

_PATIENCE_S = 5.0
"""Seconds until the server must have ended."""


ANY = "quickstart"
"""Recipe with the app's settings if none is given."""

OptionalRecipe = Annotated[
    str,
    typer.Argument(metavar="[RECIPE]", help="Recipe file, or the name of a shipped recipe.", show_default=False),
]
Slides = Annotated[
    list[Path] | None,
    typer.Option("--slides", help="Folder with slides for new projects; default: the current folder. Repeatable."),
]


def run(recipe: OptionalRecipe = ANY, overrides: Overrides = None, slides: Slides = None) -> None:
    """Open the app on the runs; without any run it starts with a new project.

    In the app you annotate crops, train models, and predict, view and sign off slides. Prints the link that opens it;
    without the link nothing can be seen or written. Listens on this machine only unless review.host is set. Ctrl-C,
    SIGTERM and SIGHUP end it; running jobs continue.
    """
    given = [*(overrides or ())]
    if "=" in recipe and not Path(recipe).exists():  # settings without a recipe
        recipe, given = ANY, [recipe, *given]
    loaded = load_recipe(recipe, given)
    check_folders(loaded)
    for folder in slides or ():
        if not folder.is_dir():
            raise CytosegError(
                f"--slides {folder}: is not a folder. Name the folder of your slides, or a parent of it."
            )
    if importlib.util.find_spec("streamlit") is None:
        raise CytosegError("review: the app needs Streamlit. Install it with `pip install 'cytoseg[app]'`.")
    if loaded.review.log is not None:
        check_log(loaded.review.log)
    token = secrets.token_urlsafe(24)
    for line in opening_lines(loaded.review, token):
        say(line)
    told = os.environ | surroundings(loaded.review, token)
    status = _served(streamlit_command(loaded, slides or ()), told)
    if status not in (0, 130):
        raise CytosegError(
            f"review: the app ended with status {status}. Is port {loaded.review.port} in use? Try review.port=8502."
        )


def _served(command: Sequence[str], surroundings: Mapping[str, str]) -> int:
    """Run the server and return its exit status; it ends when this process does, however that ends."""
    told = {**surroundings, PARENT_VARIABLE: str(os.getpid())}
    with subprocess.Popen(command, cwd=shipped_review(), env=told) as server:
        try:
            return server.wait()
        except KeyboardInterrupt:
            server.terminate()
            try:
                server.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                server.kill()
            raise


def streamlit_command(recipe: Recipe, slides: Sequence[Path] = ()) -> list[str]:
    """Return the command that serves the app on the recipe's runs, with the slide folders for new projects."""
    folder = recipe.run_folder().resolve()
    options = {
        "server.address": recipe.review.host,
        "server.port": str(recipe.review.port),
        "server.headless": "true",
        "server.enableCORS": "true",
        "server.enableXsrfProtection": "true",
        "browser.gatherUsageStats": "false",
        # Otherwise Streamlit would query a remote server for this machine's address, and print links without the token.
        "browser.serverAddress": recipe.review.host,
        "logger.hideWelcomeMessage": "true",
        "logger.level": "error",  # at lower levels it warns about its own start
        "global.developmentMode": "false",
    }
    flags = [text for name, value in options.items() for text in (f"--{name}", value)]
    app = shipped_review() / "serve.py"
    log = [] if recipe.review.log is None else ["--log", recipe.review.log]
    return [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(app),
        *flags,
        "--",
        "--runs",
        str(folder.parent),
        "--run",
        str(folder),
        "--base",
        str(Path.cwd()),
        *log,
        *(word for folder in slides for word in ("--slides", str(folder.resolve()))),
    ]
