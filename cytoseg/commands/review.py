"""``cytoseg review``: the Streamlit app."""

import importlib.util
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cytoseg.errors import CytosegError
from cytoseg.interrupts import PARENT
from cytoseg.recipe import Recipe, load_recipe
from cytoseg.shipped import shipped_review
from cytoseg.workflows.recorded_command import Overrides, RecipeArgument, say
from cytoseg.workflows.review_links import opening_lines, surroundings

_PATIENCE_S = 5.0
"""How long the server may take to end."""


def run(recipe: RecipeArgument, overrides: Overrides = None) -> None:
    """Open the review app on the runs.

    Prints the link that opens it; without the link nobody sees or writes anything. Listens on this machine only unless
    review.host says otherwise. Ctrl-C ends it, as do SIGTERM and SIGHUP.
    """
    loaded = load_recipe(recipe, overrides or ())
    if importlib.util.find_spec("streamlit") is None:
        raise CytosegError("review: the app needs Streamlit. Install it with `pip install 'cytoseg[app]'`.")
    token = secrets.token_urlsafe(24)
    for line in opening_lines(loaded.review, token):
        say(line)
    told = os.environ | surroundings(loaded.review, token)
    status = _served(streamlit_command(loaded), told)
    if status not in (0, 130):
        raise CytosegError(
            f"review: the app ended with status {status}. Is port {loaded.review.port} in use? Try review.port=8502."
        )


def _served(command: Sequence[str], surroundings: Mapping[str, str]) -> int:
    """Run the server to its end and give its status; it ends with this process, however that ends."""
    told = {**surroundings, PARENT: str(os.getpid())}
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


def streamlit_command(recipe: Recipe) -> list[str]:
    """Give the command that serves the app on the recipe's runs."""
    folder = recipe.run_folder().resolve()
    options = {
        "server.address": recipe.review.host,
        "server.port": str(recipe.review.port),
        "server.headless": "true",
        "server.enableCORS": "true",
        "server.enableXsrfProtection": "true",
        "browser.gatherUsageStats": "false",
        # Streamlit would else ask a server far away for this machine's address, and print links without the token.
        "browser.serverAddress": recipe.review.host,
        "logger.hideWelcomeMessage": "true",
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
    ]
