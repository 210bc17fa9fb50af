import importlib
import shlex
from pathlib import Path

import pytest

from cytoseg.cli import COMMANDS, GROUPS
from cytoseg.terminal import console
from cytoseg.workflows.next_command import FOLLOWING, name_next

GIVEN = {"recipe": "my lab.yaml", "folder": Path("out"), "out": Path("out"), "target": "my lab.yaml", "gpus": None}
GIVEN |= {"slides": [Path("a.svs")]}
BY_THEMSELVES = {
    "label-crops",
    "queue",
    "review",
    "app",
    "runs",
    "recipe list",
    "recipe new",
    "make-pairs",
    "recipe check",
    "recipe explain",
}


def _commands() -> set[str]:
    found = set(COMMANDS) - set(GROUPS)
    for group in GROUPS:
        found |= {f"{group} {verb}" for verb in importlib.import_module(f"cytoseg.commands.{group}").VERBS}
    return found


def test_every_command_names_the_next_one() -> None:
    assert set(FOLLOWING) | BY_THEMSELVES == _commands()


@pytest.mark.parametrize("command", sorted(FOLLOWING))
def test_the_next_command_exists(command: str) -> None:
    with console.capture() as shown:
        name_next(command, GIVEN)
    (line,) = shown.get().splitlines()
    following, program, name, *_ = shlex.split(line)
    assert (following, program) == ("Next:", "cytoseg")
    assert name in COMMANDS


def test_each_of_several_processes_says_it_once_and_doctor_knows_what_there_is() -> None:
    with console.capture() as shown:
        name_next("train-ddpm", {**GIVEN, "gpus": 2})
        name_next("review", GIVEN)
    assert shown.get() == ""
    with console.capture() as shown:
        name_next("doctor", {"recipe": None})
    assert shown.get() == "Next: cytoseg recipe new mylab.yaml\n"


@pytest.mark.parametrize("command", ["doctor", "train-ddpm", "sample"])
def test_who_has_imported_labels_is_sent_to_the_training(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`doctor` scored the imported labels, and sent to the cutting of crops to annotate."""
    monkeypatch.chdir(tmp_path)
    given = {"recipe": "quickstart", "overrides": ["folder=runs/a"], "gpus": None}
    with console.capture() as before:
        name_next(command, given)
    (tmp_path / "runs" / "a" / "labels").mkdir(parents=True)
    with console.capture() as after:
        name_next(command, given)
    assert before.get() == "Next: cytoseg label-crops quickstart\n"
    assert after.get() == "Next: cytoseg train-interpreter quickstart\n"


def test_a_recipe_for_folders_of_slides_is_named_with_them(tmp_path: Path) -> None:
    for name in ("monday", "tuesday", "a.zarr"):  # a slide in OME-Zarr is a folder, too
        (tmp_path / name).mkdir()
    with console.capture() as shown:
        name_next("slides info", {"slides": [tmp_path / name for name in ("monday", "a.svs", "a.zarr", "tuesday")]})
    words = shlex.split(shown.get())
    assert words[:5] == ["Next:", "cytoseg", "recipe", "new", "mylab.yaml"]
    assert words[5:] == ["--folder", str(tmp_path / "monday"), "--folder", str(tmp_path / "tuesday")]
