import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import Result

from cytoseg.commands.runs import last_row, size_text, state_text
from cytoseg.evaluation.run_folder import read_provenance

CytosegCommand = Callable[..., Result]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()


def write(path: Path, text: str, *, at: float | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if at is not None:
        os.utime(path, (at, at))


def record(*outcomes: str, recipe: str = "cells") -> str:
    """Write a run.json whose last command ended at noon."""
    finished = "2026-03-01T12:00:00+00:00"
    commands = [{"command": "train-ddpm", "outcome": outcome, "finished": finished} for outcome in outcomes]
    return json.dumps({"format": 1, "recipe": recipe, "commands": commands})


def cells(line: str) -> list[str]:
    """Take a row of the printed table apart."""
    return [cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]]


def table(output: str) -> list[list[str]]:
    return [cells(line) for line in output.splitlines() if line.startswith(("│", "┃"))]


@pytest.mark.posix
def test_runs_are_listed_with_what_is_known(cytoseg: CytosegCommand) -> None:
    write(Path("runs/old/run.json"), record("failed", "finished"), at=NOON)
    rows = [{"crops_seen": 16, "loss": 0.5}, {"crops_seen": 24_000, "loss": 0.04168, "rate": 0.1}]
    metrics = "".join(json.dumps(row) + "\n" for row in rows)
    write(Path("runs/old/ddpm/metrics.jsonl"), metrics, at=NOON - 1)
    write(Path("runs/stopped/run.json"), record("interrupted", recipe="x"), at=NOON + 1)
    write(Path("runs/notes/notes.txt"), "no run")
    os.symlink(Path("runs/notes/notes.txt").resolve(), "runs/stopped/link")
    result = cytoseg("runs")
    assert result.exit_code == 0, result.output
    size = len(record("failed", "finished")) + len(metrics)
    assert table(result.stdout) == [
        ["run", "recipe", "state", "crops seen", "last loss", "size"],
        ["stopped", "x", "train-ddpm interrupted", "-", "-", f"{len(record('interrupted', recipe='x'))} B"],
        ["old", "cells", "train-ddpm finished", "24,000", "0.0417", f"{size} B"],
    ]


def test_a_first_training_runs(cytoseg: CytosegCommand) -> None:
    write(Path("else/first/recipe.yaml"), Path("tiny.yaml").read_text())
    write(Path("else/first/ddpm/metrics.jsonl"), '{"crops_seen": 8, "loss": 1.25}\n{"crops_seen": 16, "lo')
    result = cytoseg("runs", "else")
    assert result.exit_code == 0, result.output
    assert table(result.stdout)[1][:5] == ["first", "tiny", "running", "8", "1.2500"]


def test_a_command_that_is_done_is_no_longer_running(cytoseg: CytosegCommand) -> None:
    cytoseg("label-crops", "tiny.yaml", "--n", "1")
    assert table(cytoseg("runs").stdout)[1][:3] == ["tiny", "tiny", "label-crops finished"]


@pytest.mark.parametrize(
    ("recorded_at", "began_at", "now", "state"),
    [
        (NOON + 0.5, NOON - 60, NOON + 9000, "train-ddpm interrupted"),
        (NOON + 0.5, NOON + 60, NOON + 100, "running"),
        (NOON + 0.5, NOON + 60, NOON + 660, "silent for 10 min 00 s"),
        (NOON + 0.5, NOON + 60, NOON + 12_060, "silent for 3 h 20 min"),
        # Copied: all files are of today, in any order.
        (NOON + 86_400, NOON + 86_500, NOON + 86_501, "train-ddpm interrupted"),
    ],
)
def test_the_state_of_a_run_that_went_on(
    tmp_path: Path, recorded_at: float, began_at: float, now: float, state: str
) -> None:
    write(tmp_path / "recipe.yaml", "", at=NOON - 100)
    write(tmp_path / "run.json", record("finished", "interrupted"), at=recorded_at)
    write(tmp_path / "ddpm" / "metrics.jsonl", "", at=began_at)
    assert state_text(tmp_path, read_provenance(tmp_path), now=now) == state


def test_the_state_where_little_is_known(tmp_path: Path) -> None:
    write(tmp_path / "run.json", '{"format": 1, "commands": [{"command": "predict", "outcome": "failed"}]}')
    write(tmp_path / "recipe.yaml", "", at=time.time() + 9)
    assert state_text(tmp_path, read_provenance(tmp_path), now=time.time()) == "predict failed"


def test_a_failed_command_does_not_hide_the_finished_one_before_it(tmp_path: Path) -> None:
    commands = [("predict", "finished"), ("export", "interrupted"), ("report", "failed"), ("export", "failed")]
    entries = [{"command": command, "outcome": outcome} for command, outcome in commands]
    write(tmp_path / "run.json", json.dumps({"format": 1, "commands": entries}))
    assert state_text(tmp_path, read_provenance(tmp_path), now=NOON) == "predict finished, then export failed"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 1, "comm', "Damaged: cut/run.json: the file is not complete JSON."),
        ('{"format": 9}', "Damaged: cut/run.json: format 9 was found, this version reads format 1."),
    ],
)
def test_a_damaged_run_is_named_and_the_others_are_listed(cytoseg: CytosegCommand, text: str, message: str) -> None:
    write(Path("runs/whole/run.json"), record("finished"), at=NOON)
    write(Path("runs/cut/run.json"), text)
    write(Path("runs/cut/ddpm/metrics.jsonl"), '{"crops_seen": 8, "loss": 1}\n')
    result = cytoseg("runs")
    assert result.exit_code == 0
    damaged, whole = table(result.stdout)[1:]
    assert damaged[:5] == ["cut", "-", "damaged", "8", "1.0000"]
    assert whole[:3] == ["whole", "cells", "train-ddpm finished"]
    assert message in result.stdout


def test_a_damaged_recipe_of_a_first_run_is_named(cytoseg: CytosegCommand) -> None:
    write(Path("runs/first/recipe.yaml"), "name: [")
    result = cytoseg("runs")
    assert result.exit_code == 0
    assert table(result.stdout)[1][:3] == ["first", "-", "damaged"]
    assert "Damaged: runs/first/recipe.yaml: not YAML" in result.stdout


def test_no_runs_yet(cytoseg: CytosegCommand) -> None:
    Path("runs").mkdir()
    result = cytoseg("runs")
    assert (result.exit_code, result.stdout) == (0, "runs: no runs yet. The first command on a recipe makes one.\n")


def test_no_such_folder(cytoseg: CytosegCommand) -> None:
    result = cytoseg("runs", "elsewhere")
    assert result.exit_code == 2
    assert result.stderr == (
        "cytoseg: elsewhere: no such folder. Give the folder of your runs; the first command on a recipe makes it "
        "(`cytoseg recipe new` writes one).\n"
    )


def test_the_last_row_of_a_long_log(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = [{"crops_seen": 8 * i, "loss": i / 4, "by_t": {"0-99": 0.1}} for i in range(1, 5001)]
    rows.append({"crops_seen": 40_008, "note": 1})  # type: ignore[dict-item] # a row without a loss
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert path.stat().st_size > 200_000
    assert last_row(path) == rows[4999]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\n", b"[1]\n3\n", b'{"crops_seen": 8, "loss": "x"}\n'])
def test_a_log_without_a_row(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(content)
    assert last_row(tmp_path / "metrics.jsonl") is None
    assert last_row(tmp_path / "missing.jsonl") is None


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (7, "7 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_950, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (416_300_000, "416 MB"),
        (2_500_000_000_000, "2.5 TB"),
    ],
)
def test_sizes_for_people(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text
