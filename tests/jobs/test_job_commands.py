"""Command lines of jobs, as the program reads them."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import typer

from cytoseg.cli import build_app
from cytoseg.errors import CytosegError
from cytoseg.jobs.job_commands import KINDS, LEARN_NORMAL, ORDERS, command_of
from cytoseg.recipe import load_recipe

RUN = Path("/runs/a")
RECIPE = "/runs/a/recipe.yaml"
GIVEN = {
    "": (),
    "folder": ("queue",),
    "slides": ("/slides/a.tif", "/slides/b.tif"),
    "crop": ("to_label/a_0_0",),
    "kind": (),
}
"""Inputs of each sort."""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("robustness", ["study", "robustness", RECIPE]),
        ("make-pairs", ["make-pairs", RECIPE]),
        ("study", ["study", "label-efficiency", RECIPE]),
        ("train-ddpm", ["train-ddpm", RECIPE, "--resume"]),
        ("train-autoencoder", ["train-autoencoder", RECIPE, "--resume"]),
    ],
)
def test_commands_run_on_the_runs_recipe(name: str, words: list[str]) -> None:
    assert command_of(name, RUN, ()) == words
    with pytest.raises(CytosegError, match=f"{name} takes nothing"):
        command_of(name, RUN, ("to_label",))


@pytest.mark.parametrize("kind", KINDS)
def test_training_takes_a_kind_from_the_list_only(kind: str) -> None:
    words = command_of("train-interpreter", RUN, (kind,))
    assert words == ["train-interpreter", RECIPE, f"interpreter.kind={kind}"]
    assert load_recipe("quickstart", words[2:]).interpreter.kind == kind
    assert command_of("train-interpreter", RUN, ()) == words[:2]
    for given in ((kind, kind), ("segdiff",), ("folder=/tmp/x",), (f"{kind} training.seed=1",), ("--memory=1",)):
        with pytest.raises(CytosegError, match="train-interpreter takes one of mlps, decoder, student"):
            command_of("train-interpreter", RUN, given)


def _read(words: Sequence[str]) -> dict[str, object]:
    """Return the arguments as the command of the program reads them; a word it does not know is an error."""
    command, rest = typer.main.get_command(build_app(*words[:2])), list(words)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    return dict(command.make_context("cytoseg", rest).params)


@pytest.mark.parametrize("name", ORDERS)
def test_the_program_takes_every_command_line(name: str) -> None:
    given = GIVEN[ORDERS[name].takes]
    read = _read(command_of(name, RUN, given))
    assert RECIPE in (read.get("recipe"), read.get("target"))
    assert not read.get("overrides")
    if "resume" in read:
        assert read["resume"], "a job that was cancelled is started again with the same words"
    if ORDERS[name].takes == "slides":
        assert read["normal" if name == LEARN_NORMAL else "slides"] == list(given)
