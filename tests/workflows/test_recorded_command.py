import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from cytoseg.errors import CheckpointError, CytosegError, LabelError, RecipeError
from cytoseg.recipe import load_recipe
from cytoseg.workflows import recorded_command
from cytoseg.workflows.recorded_command import alone_in, start_run


def test_a_run_keeps_its_recipe_and_says_what_was_done(cytoseg: Callable[..., Result]) -> None:
    with start_run("tiny.yaml", ["training.seed=7", "folder=there"], command="evaluate") as run:
        run.entry["slides"] = 3
    assert load_recipe("there/recipe.yaml") == load_recipe("tiny.yaml", ["training.seed=7", "folder=there"])
    (entry,) = json.loads(Path("there/run.json").read_text())["commands"]
    assert (entry["command"], entry["seed"], entry["slides"], entry["outcome"]) == ("evaluate", 7, 3, "finished")


def test_a_wrong_recipe_makes_no_folder(cytoseg: Callable[..., Result]) -> None:
    with pytest.raises(RecipeError, match="unknown key"), start_run("tiny.yaml", ["folders=there"], command="x"):
        pass
    assert not Path("runs").exists()


def test_a_run_folder_that_cannot_be_created_is_refused(
    cytoseg: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As below a place where the system mounts folders on demand."""

    def make(folder: Path, *_given: object, **_named: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", str(folder))

    monkeypatch.setattr(Path, "mkdir", make)
    wanted = r"^there: cannot be created\. Name another run folder, such as folder=runs/a\.$"
    with pytest.raises(RecipeError, match=wanted), start_run("tiny.yaml", ["folder=there"], command="evaluate"):
        pass


def test_a_failed_run_is_recorded_as_failed(cytoseg: Callable[..., Result]) -> None:
    with pytest.raises(ZeroDivisionError), start_run("tiny.yaml", None, command="evaluate"):
        raise ZeroDivisionError
    assert json.loads(Path("runs/tiny/run.json").read_text())["commands"][0]["outcome"] == "failed"


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file", "a"), LabelError("a: is missing.")])
@pytest.mark.posix
def test_an_error_in_a_run_that_was_removed_names_that(cytoseg: Callable[..., Result], error: Exception) -> None:
    def work(*, leave: bool) -> None:
        with start_run("tiny.yaml", None, command="evaluate"):
            if not leave:
                shutil.rmtree("runs/tiny")
                Path("runs/tiny").mkdir()  # perhaps with the number of the old one
            raise error

    with pytest.raises(
        CytosegError, match=r"^runs/tiny: was removed or replaced while this command was working in it\."
    ):
        work(leave=False)
    with pytest.raises(type(error), match=re.escape(str(error))):
        work(leave=True)


def test_one_command_at_a_time_trains_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_command, "PATIENCE_S", 0.05)
    with alone_in(tmp_path / "ddpm"):
        with pytest.raises(CheckpointError, match=r"ddpm: .+ is writing it"), alone_in(tmp_path / "ddpm"):
            pass
        monkeypatch.setenv("RANK", "1")
        with alone_in(tmp_path / "ddpm"):  # it trains with the first one
            pass


@pytest.mark.parametrize(
    ("line", "folder"),
    [
        ("compare tiny.yaml --quick", "compare"),
        ("study label-efficiency tiny.yaml --quick", "label_efficiency"),
        ("study robustness tiny.yaml --quick", "robustness"),
        ("study architectures tiny.yaml", "architectures"),
        ("select-features tiny.yaml", "select_features"),
        ("make-pairs tiny.yaml", "made"),
    ],
)
def test_a_second_command_in_the_same_folder_names_the_first(
    line: str, folder: str, cytoseg: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded_command, "PATIENCE_S", 0.0)
    with alone_in(Path("runs", "tiny", folder)):
        result = cytoseg(*line.split())
    assert result.exit_code == 2
    assert re.search(rf"runs/tiny/{folder}: .+ \(process \d+ on .+\) is writing it\. Wait until it ends", result.stderr)


def test_a_command_sweeps_what_killed_ones_left(cytoseg: Callable[..., Result]) -> None:
    left = Path("runs/tiny/.run.json.abcd1234")
    left.parent.mkdir(parents=True)
    left.touch()
    os.utime(left, (1, 1))
    with start_run("tiny.yaml", [], command="evaluate"):
        assert not left.exists()
