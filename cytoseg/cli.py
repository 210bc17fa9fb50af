"""The command line: one line per command; each command's module is imported on demand."""

import contextlib
import errno
import functools
import importlib
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import typer

from cytoseg import __version__
from cytoseg.errors import CytosegError
from cytoseg.interrupts import (
    INTERRUPTED,
    end_signals_as_ctrl_c,
    errors_as_interrupt,
    exit_at_once_on_signal,
    ignore_end_signals,
)
from cytoseg.quoting import one_line

COMMANDS = {
    "train-ddpm": "Train the diffusion model on random crops of unlabelled slides.",
    "train-autoencoder": "Train the autoencoder of a latent space, in which train-ddpm then works.",
    "export": "Export the model's weights with a model card, small enough to share.",
    "import-model": "Read a published diffusion model (guided-diffusion) as a checkpoint to start from.",
    "sample": "Draw samples from the diffusion model.",
    "score-samples": "Score samples against real crops: FID, sFID, KID, precision, recall, copies.",
    "make-pairs": "Draw images from the diffusion model and label them with the ensemble, to train a student.",
    "edit": "Redraw a part of an image so that it shows an edited class map.",
    "label-crops": "Cut random tissue crops to annotate in labelme.",
    "label-import": "Import annotations (labelme JSON, QuPath GeoJSON or mask images) as label maps.",
    "label-export": "Write the imported labels back as labelme JSON or QuPath GeoJSON.",
    "select-features": "Measure which taps and timesteps suit the labelled crops, and write them into the recipe.",
    "train-interpreter": "Train the ensemble of per-pixel MLPs on the labelled crops.",
    "evaluate": "Score the ensemble on the test slides, alongside the baselines.",
    "compare": "Compare the method with baselines on the same crops: IoU, time, memory.",
    "predict": "Segment slides: class map, uncertainty map, objects with measurements, preview.",
    "anomaly": "Find anomalies: maps of what normal slides do not show, and a ranked list of regions.",
    "queue": "Choose what to annotate next: regions where the ensemble disagrees, with its prediction.",
    "report": "Write all results of a run into one HTML page.",
    "review": "Open the app: annotate, train, predict, look at results; start a new project if there is no run yet.",
    "app": "The same as review.",
    "runs": "List runs: recipe, state, crops seen, last loss, size on disk.",
    "study": "Run a study of many trainings, such as the gain from more labels.",
    "slides": "Inspect slides, convert them, or generate synthetic ones.",
    "recipe": "Write, check, list and explain recipes.",
    "doctor": "Show versions, devices and what is missing; with a recipe, check its features before labelling.",
}
GROUPS = ("study", "slides", "recipe")
LIGHT = {("recipe", "list"): "recipe_list"}
"""Subcommands with a light module of their own, so that they start quickly."""


_OF_LIMITS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
_OF_THE_SYSTEM = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV),
    *(errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    *(errno.EBUSY, errno.ENOTEMPTY, errno.EXDEV, errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP),
    *_OF_LIMITS,
)
"""Error numbers caused by disks, shares, permissions, file names and limits rather than by a bug."""


_PERMIT = "Check the permissions of it and of its folder."
_FREE = "Free some space."
_RECONNECT = "Check that its disk or share is connected, then run the command again."
_IN_USE = "Close other programs that use it, then run the command again."
_IN_THE_WAY = "A folder is needed there. Move the file, or name another folder."
_ADVICE = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _PERMIT),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _FREE),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), _IN_THE_WAY),
    **dict.fromkeys((errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH), _RECONNECT),
    **dict.fromkeys((errno.EIO, errno.ESTALE), _RECONNECT),
    **dict.fromkeys((errno.EBUSY, errno.ENOTEMPTY), _IN_USE),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "Raise the limit of open files (ulimit -n)."),
    errno.ENOMEM: "Close other programs, or use smaller images.",
    errno.EAGAIN: "Raise the limit of processes (ulimit -u).",
}
_TEMPORARY = re.compile(r"(?<![^/\\])\.(?:\d+\.(?P<own>[^/\\]+)|(?P<tempfile>[^/\\]+)\.[a-z0-9_]{8})$")
"""The two kinds of temporary names of ``writing``: with the number of a process, and of tempfile."""


def main() -> None:
    """Run the command named by the arguments."""
    # Busy-waiting threads cost 2.5 to 5 times on shared cores; OpenMP reads this when torch loads it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if os.environ.get("COLUMNS") == "0":  # so editors say that they do not know it; rich would print nothing at all
        del os.environ["COLUMNS"]
    _refuse_lost_folder()
    try:
        with end_signals_as_ctrl_c():
            words = [a for a in sys.argv[1:] if not a.startswith("-")]
            with exit_at_once_on_signal():
                app = build_app(next(iter(words), None), "".join(words[1:2]))
            app()
    except KeyboardInterrupt:
        ignore_end_signals()
        raise SystemExit(INTERRUPTED) from None
    except SystemExit as end:
        if end.code == INTERRUPTED:
            ignore_end_signals()  # the interpreter takes up to seconds to end, during which more signals may come
        raise


def _refuse_lost_folder() -> None:
    """Refuse to work in a folder that was removed or unmounted: torch aborts when it is loaded there."""
    try:
        os.getcwd()
    except OSError as error:
        typer.echo(f"cytoseg: the current folder: {error.strerror}. Change to a folder that exists.", err=True)
        raise SystemExit(2) from error


def build_app(chosen: str | None, verb: str = "") -> typer.Typer:
    """Build the program with the chosen command loaded; the others have only a name and a help line.

    Args:
        chosen: The command.
        verb: The subcommand of a group, if known: some need fewer libraries than their group.
    """
    app = typer.Typer(
        help="Label-efficient segmentation for cytology. Start with `cytoseg doctor`, then `cytoseg recipe list`.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    app.callback()(_version)
    for name, text in COMMANDS.items():
        if name != chosen:
            app.command(name, help=text)(_placeholder)
            continue
        module = importlib.import_module(f"cytoseg.commands.{LIGHT.get((name, verb), name.replace('-', '_'))}")
        if name in GROUPS:
            group = typer.Typer(help=text, no_args_is_help=True, pretty_exceptions_enable=False)
            for subcommand, function in module.VERBS.items():
                group.command(subcommand)(one_line_errors(function, f"{name} {subcommand}"))
            app.add_typer(group, name=name)
        else:
            app.command(name)(one_line_errors(module.run, name))
    return app


def one_line_errors(function: Callable[..., Any], command: str = "") -> Callable[..., Any]:
    """Turn a user's error into one line and exit status 2, Ctrl-C into status 130; other exceptions are bugs."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            with errors_as_interrupt():
                result = function(*args, **kwargs)
            importlib.import_module("cytoseg.workflows.next_command").name_next(command, kwargs)
            return result
        except CytosegError as error:
            typer.echo(f"cytoseg: {error}", err=True)
            raise SystemExit(2) from error
        except OSError as error:
            if error.errno not in _OF_THE_SYSTEM:
                raise
            typer.echo(f"cytoseg: {one_line(_of_the_system(error))}", err=True)
            raise SystemExit(2) from error
        except MemoryError as error:
            typer.echo("cytoseg: out of memory. Close other programs, or use smaller images.", err=True)
            raise SystemExit(2) from error
        except KeyboardInterrupt:
            with contextlib.suppress(OSError):  # the terminal itself may be gone
                typer.echo("cytoseg: interrupted; finished work is kept and no file is half-written.", err=True)
            raise SystemExit(INTERRUPTED) from None

    return wrapper


def _of_the_system(error: OSError) -> str:
    """Describe an error of the disk: the file that was to be written, not its temporary name, and what to do."""
    nameless = "this process" if error.errno in _OF_LIMITS else "output folder"
    where = _TEMPORARY.sub(lambda found: found["own"] or found["tempfile"], str(error.filename or nameless))
    return f"{where}: {error.strerror}. {_ADVICE.get(error.errno or 0, '')}".rstrip()


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cytoseg {__version__}")
        raise typer.Exit


def _version(
    version: bool = typer.Option(False, "--version", help="Show the version.", is_eager=True, callback=_show_version),
) -> None:
    """Handle the options given before the command."""


def _placeholder() -> None:
    raise AssertionError("the chosen command was not loaded")
