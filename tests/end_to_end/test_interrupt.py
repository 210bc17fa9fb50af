"""Ctrl-C in every long command: exit status 130, no partial file, and resuming."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from cytoseg.terminal import Bar
from tests.end_to_end.forked import Forked

Start = Callable[..., "subprocess.Popen[str]"]
Process = Forked | subprocess.Popen[str]
NEW_SLIDE = "made/slides/made_2_01.ome.tif"


def hidden(folder: Path) -> list[Path]:
    return list(folder.rglob(".*"))


def outcomes(home: Path) -> list[str]:
    record = json.loads((home / "runs" / "tiny" / "run.json").read_text())
    return [entry["outcome"] for entry in record["commands"]]


@pytest.fixture
def press_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Press Ctrl-C when a progress bar moves for the n-th time."""
    # A shell starts its background jobs deaf to Ctrl-C, and with them a suite that runs there.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def arm(n: int) -> None:
        moves = iter(range(1, n + 1))

        def wrap(move: Callable[..., None]) -> Callable[..., None]:
            def moved(*arguments: object) -> None:
                move(*arguments)
                if next(moves, 0) == n:
                    signal.raise_signal(signal.SIGINT)

            return moved

        monkeypatch.setattr(Bar, "update", wrap(Bar.update))
        monkeypatch.setattr(Bar, "update_of", wrap(Bar.update_of))
        monkeypatch.setattr(Bar, "update_phase", wrap(Bar.update_phase))

    yield arm
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("line", "at"),
    [
        ("label-crops tiny.yaml --n 4", 3),
        ("label-import made/labelled --recipe tiny.yaml --area outline", 3),
        pytest.param(
            "train-interpreter tiny.yaml interpreter.steps=50", 1, marks=pytest.mark.slow
        ),  # while features are taken
        ("train-interpreter tiny.yaml interpreter.steps=50", 12),  # while interpreters learn
        ("evaluate tiny.yaml --no-baseline", 2),
        pytest.param("doctor tiny.yaml", 3, marks=pytest.mark.slow),  # while pixels are clustered
        pytest.param("doctor tiny.yaml", 15, marks=pytest.mark.slow),  # while they are probed
        ("predict tiny.yaml part.tif", 2),
        pytest.param("predict tiny.yaml made/slides/made_2_00.ome.tif predict.overlap_px=4", 1, marks=pytest.mark.slow),
    ],
)
def test_results_are_as_before_and_the_same_command_goes_on(
    line: str,
    at: int,
    home: Path,
    part: str,
    cytoseg: Callable[..., Result],
    contents: Callable[[], dict[str, str]],
    press_at: Callable[[int], None],
) -> None:
    def results() -> dict[str, str]:
        # The log of a training, whole crops that are cut already and finished rows of a slide may stay.
        kept = ("to_label", "metrics.jsonl", ".part/")
        return {path: text for path, text in contents().items() if not any(part in path for part in kept)}

    before = results()
    press_at(at)
    stopped = cytoseg(*line.split())
    assert stopped.exit_code == 130
    assert "interrupted" in stopped.stderr
    assert results() == before
    assert [path for path in hidden(home) if path.suffix != ".part"] == []
    again = cytoseg(*line.split())
    assert again.exit_code == 0, again.output
    assert outcomes(home)[-2:] == ["interrupted", "finished"]
    assert hidden(home) == []
    assert results() != before or line.startswith("label-crops")


def wait_until(there: Callable[[], bool], process: Process, *, wait_s: float = 120) -> None:
    end = time.monotonic() + wait_s
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


SIGNALS = [
    signal.SIGINT,
    pytest.param(getattr(signal, "SIGHUP", None), marks=pytest.mark.slow),  # missing on Windows
    pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
]


def interrupted(process: Process, number: int = signal.SIGINT) -> str:
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    return errors


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_training_stopped_from_outside_resumes(
    number: int, home: Path, fork: Callable[..., Forked], cytoseg: Callable[..., Result]
) -> None:
    folder = home / "runs" / "tiny" / "ddpm"
    shutil.rmtree(folder)
    process = fork("train-ddpm", "tiny.yaml", "training.crops=80000", "training.checkpoint_crops=80000")
    log = folder / "metrics.jsonl"
    wait_until(lambda: log.exists() and log.read_text().count("\n") >= 2, process)
    assert "no file is half-written" in interrupted(process, number)
    assert hidden(home) == []
    (checkpoint,) = folder.glob("checkpoint-*")
    seen = int(checkpoint.name.removeprefix("checkpoint-"))
    assert seen >= 16
    assert json.loads(log.read_text().splitlines()[-1])["crops_seen"] == seen
    again = cytoseg("train-ddpm", "tiny.yaml", f"training.crops={seen + 8}", "--resume")
    assert again.exit_code == 0, again.output
    entries = json.loads((home / "runs" / "tiny" / "run.json").read_text())["commands"][-2:]
    assert [entry["outcome"] for entry in entries] == ["interrupted", "finished"]
    assert (entries[1]["crops_seen"], entries[1]["crops_trained"]) == (seen + 8, 8)


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_a_prediction_stopped_from_outside_goes_on(
    number: int, home: Path, fork: Callable[..., Forked], cytoseg: Callable[..., Result]
) -> None:
    done, new = home / "runs" / "tiny" / "predictions" / "made_2_00", "made_2_01"
    written = (done / "summary.json").stat().st_mtime_ns
    line = ("predict", "tiny.yaml", "made/slides/made_2_00.ome.tif", NEW_SLIDE)
    process = fork(*line)
    wait_until(lambda: any(done.parent.glob(f".{new}.part/ids.raw")), process)
    interrupted(process, number)
    assert sorted(path.name for path in done.parent.iterdir()) == [".made_2_01.part", "made_2_00"]
    again = cytoseg(*line)
    assert again.exit_code == 0, again.output
    assert "made_2_00.ome.tif: done before" in again.stdout
    assert (done / "summary.json").stat().st_mtime_ns == written
    assert (done.parent / new / "summary.json").exists()
    assert hidden(home) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "begun"),
    [
        ("train-interpreter tiny.yaml interpreter.steps=20000 interpreter.passes=9999", "interpreter/metrics.jsonl"),
        ("evaluate tiny.yaml features.scale=1", ".evaluation-*"),
        ("label-import many --recipe tiny.yaml", ".labels-*"),
    ],
    ids=lambda text: text.split()[0],
)
def test_other_commands_stopped_from_outside(line: str, begun: str, home: Path, start: Start) -> None:
    run = home / "runs" / "tiny"
    (run / "interpreter" / "metrics.jsonl").unlink()
    if line.startswith("evaluate"):
        (run / "evaluation" / "evaluation.json").unlink()
    annotate_many(home / "made" / "labelled", home / "many")
    process = start(*line.split())
    wait_until(lambda: any(run.glob(begun)), process)
    interrupted(process)
    assert hidden(home) == []
    assert outcomes(home)[-1] == "interrupted"


def annotate_many(source: Path, target: Path) -> None:
    """Copy one annotated crop 300 times, so that importing them takes seconds."""
    target.mkdir()
    path = sorted(source.glob("*.json"))[0]
    content = json.loads(path.read_text())
    for number in range(300):
        shutil.copy(path.with_suffix(".png"), target / f"crop_{number}.png")
        (target / f"crop_{number}.json").write_text(json.dumps(content | {"imagePath": f"crop_{number}.png"}))
