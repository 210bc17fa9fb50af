import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import Result

from cytoseg.commands.review import streamlit_command
from cytoseg.interrupts import PARENT_VARIABLE
from cytoseg.recipe import load_recipe
from cytoseg.workflows.review_links import TOKEN

CytosegCommand = Callable[..., Result]


def test_the_app_gets_its_address_and_the_run(cytoseg: CytosegCommand, tmp_path: Path) -> None:
    command = streamlit_command(load_recipe("tiny.yaml", ["review.port=9000"]))
    assert command[:4] == [sys.executable, "-m", "streamlit", "run"]
    assert Path(command[4]).is_file()
    assert command[command.index("--server.address") + 1] == "127.0.0.1"
    assert command[command.index("--server.port") + 1] == "9000"
    told = ["--runs", str(tmp_path / "runs"), "--run", str(tmp_path / "runs" / "tiny"), "--base", str(Path.cwd())]
    assert command[-7:] == ["--", *told]


def test_the_app_gets_the_path_of_the_log_from_the_recipe(cytoseg: CytosegCommand) -> None:
    command = streamlit_command(load_recipe("tiny.yaml", ["review.log=postgresql+psycopg://host/review"]))
    assert command[-2:] == ["--log", "postgresql+psycopg://host/review"]


@pytest.fixture
def ends_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[Any]]:
    """Let Streamlit end at once with a status; gives what it was started with."""

    def arm(status: int) -> list[Any]:
        started: list[Any] = []

        def start(command: list[str], **options: Any) -> Any:
            started.append((command, options))
            return contextlib.nullcontext(SimpleNamespace(wait=lambda: status))

        monkeypatch.setattr(subprocess, "Popen", start)
        return started

    return arm


@pytest.mark.parametrize("command", ["review", "app"])
def test_a_run_folder_that_is_a_file_is_refused_before_the_server_starts(
    cytoseg: CytosegCommand, ends_with: Callable[..., Any], command: str
) -> None:
    started = ends_with(0)
    Path("run").write_text("")
    result = cytoseg(command, "folder=run")
    assert (result.exit_code, result.stdout, started) == (2, "", [])
    assert result.stderr == (
        "cytoseg: run: cannot be a folder, because run is a file. Set folder to another place, or move the file.\n"
    )


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("mysql://anna@lab/review", r"review\.log: .*Fix the address, or install the driver: for PostgreSQL `pip inst"),
        ("sqlite:///log.txt", r"the review log log\.txt is damaged \(file is not a database\)"),
        ("sqlite://", r"review\.log: the address names no file"),
    ],
)
def test_a_log_that_cannot_be_read_is_refused_before_the_server_starts(
    cytoseg: CytosegCommand, ends_with: Callable[..., Any], log: str, message: str
) -> None:
    started = ends_with(0)
    Path("log.txt").write_text("no database" * 100)
    result = cytoseg("review", "tiny.yaml", f"review.log={log}")
    assert (result.exit_code, result.stdout, started) == (2, "", [])
    assert re.search(message, result.stderr)
    assert cytoseg("review", "tiny.yaml", "review.log=sqlite:///new.sqlite").exit_code == 0
    assert not Path("new.sqlite").exists()


@pytest.mark.parametrize("status", [0, 130])
def test_ending_the_app_is_no_error(cytoseg: CytosegCommand, ends_with: Callable[..., Any], status: int) -> None:
    started = ends_with(status)
    result = cytoseg("review", "tiny.yaml")
    assert result.exit_code == 0, result.output
    assert "Review: http://127.0.0.1:8501" in result.stdout
    assert len(started) == 1


def test_each_start_makes_a_token_that_only_the_link_and_the_app_know(
    cytoseg: CytosegCommand, ends_with: Callable[..., Any]
) -> None:
    started = ends_with(0)
    links = [cytoseg("review", "tiny.yaml").stdout.split()[1] for _ in range(2)]
    tokens = [options["env"][TOKEN] for _, options in started]
    assert links == [f"http://127.0.0.1:8501/?token={token}" for token in tokens]
    assert len(set(tokens)) == 2
    assert all(len(token) == 32 for token in tokens)
    assert not any(token in " ".join(command) for token in tokens for command, _ in started)
    assert all(options["env"]["PATH"] for _, options in started)


def test_streamlit_contacts_no_other_machine_and_prints_no_link_of_its_own(cytoseg: CytosegCommand) -> None:
    command = streamlit_command(load_recipe("tiny.yaml", ["review.host=0.0.0.0"]))
    flags = dict(zip(command[5::2], command[6::2], strict=False))
    assert flags["--browser.serverAddress"] == "0.0.0.0"  # else Streamlit looks up the outer address
    assert flags["--logger.hideWelcomeMessage"] == "true"
    assert flags["--logger.level"] == "error"
    assert flags["--browser.gatherUsageStats"] == "false"
    assert flags["--server.enableXsrfProtection"] == flags["--server.enableCORS"] == "true"


def test_an_app_that_fails_says_what_to_try(cytoseg: CytosegCommand, ends_with: Callable[..., Any]) -> None:
    ends_with(1)
    result = cytoseg("review", "tiny.yaml")
    assert result.exit_code == 2
    assert "the app ended with status 1. Is port 8501 in use? Try review.port=8502." in result.stderr


@pytest.mark.parametrize("stubborn", [False, True])
def test_what_ends_the_command_ends_the_server(
    stubborn: bool, cytoseg: CytosegCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    class Server(contextlib.nullcontext[Any]):
        def __enter__(self) -> "Server":
            return self

        def wait(self, timeout: float | None = None) -> int:
            if timeout is None:
                raise KeyboardInterrupt
            if stubborn:
                raise subprocess.TimeoutExpired("streamlit", timeout)
            return 0

        def terminate(self) -> None:
            done.append("terminate")

        def kill(self) -> None:
            done.append("kill")

    monkeypatch.setattr(subprocess, "Popen", lambda _command, **_options: Server())
    assert cytoseg("review", "tiny.yaml").exit_code == 130
    assert done == ["terminate", "kill"][: 1 + stubborn]


def test_the_server_gets_the_process_that_it_must_not_outlive(
    cytoseg: CytosegCommand, ends_with: Callable[..., Any]
) -> None:
    ((_, options),) = (ends_with(0), cytoseg("review", "tiny.yaml"))[0]
    assert options["env"][PARENT_VARIABLE] == str(os.getpid())


def test_without_a_recipe_the_app_opens_on_the_runs_here(
    cytoseg: CytosegCommand, ends_with: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "slides").mkdir(exist_ok=True)
    started = ends_with(0)
    for words in (["app", "review.port=9000"], ["review"]):
        result = cytoseg(*words, "--slides", str(tmp_path / "slides"))
        assert result.exit_code == 0, result.output
    ((command, _), (plain, _)) = started
    assert command[command.index("--server.port") + 1] == "9000"
    assert plain[plain.index("--server.port") + 1] == "8501"
    for words in (command, plain):
        assert words[words.index("--runs") + 1] == str(Path.cwd() / "runs")
        assert words[-2:] == ["--slides", str((tmp_path / "slides").resolve())]


def test_a_folder_of_slides_that_is_none_is_refused(cytoseg: CytosegCommand) -> None:
    result = cytoseg("app", "--slides", "nowhere")
    assert result.exit_code == 2
    assert "--slides nowhere: is not a folder" in result.output
