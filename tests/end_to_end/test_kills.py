"""Kills at random moments: the next command works, nothing is lost or half-written.

A command is killed before the n-th time that it opens a file for writing, renames, makes or removes something: that
is every state in which a kill can leave the disk. The moments are drawn from a seed.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from cytoseg.checkpoints import find_checkpoints, load_state
from cytoseg.interpreter.bundle import bundle_hashes
from cytoseg.labels.index import load_index
from cytoseg.workflows.preview_provenance import SHOWN

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are run in forks")
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.copytree", "shutil.copyfile")
WRITES = os.O_WRONLY | os.O_RDWR
RUN = Path("runs", "tiny")
Found = Any


@dataclass(frozen=True)
class Case:
    """A command to kill, and what it has made when it has ended well, to be compared."""

    line: str
    made: Callable[[], Found]


def _labels() -> Found:
    crops = load_index(RUN / "labels").crops
    return [(crop.crop, crop.picture().tobytes(), crop.label_map().tobytes()) for crop in crops]


def _evaluation() -> Found:
    found = json.loads((RUN / "evaluation" / "evaluation.json").read_text())
    return [method["confusion"] for method in found["methods"]], sorted(os.listdir(RUN / "evaluation" / "crops"))


def _prediction() -> Found:
    folder = RUN / "predictions" / "made_2_01"
    return [(folder / name).read_bytes() for name in ("class_map.ome.tif", "uncertainty.ome.tif", "objects.geojson")]


def _rows(folder: str, count: str) -> list[int]:
    return [json.loads(line)[count] for line in (RUN / folder / "metrics.jsonl").read_text().splitlines()]


def _training() -> Found:
    newest = load_state(find_checkpoints(RUN / "ddpm")[0])
    shown = json.loads((RUN / "ddpm" / SHOWN).read_text())
    return newest["sha256"], _rows("ddpm", "crops_seen"), shown["pictures"], shown["check"]


def _tuning() -> Found:
    return bundle_hashes(RUN / "interpreter" / "bundle"), _rows("interpreter", "step")


CASES = {
    "label-import": Case("label-import more --recipe tiny.yaml", _labels),
    "evaluate": Case("evaluate tiny.yaml --no-baseline features.scale=1", _evaluation),
    "predict": Case("predict tiny.yaml made/slides/made_2_01.ome.tif", _prediction),
    "train-ddpm": Case("train-ddpm tiny.yaml training.crops=48 --resume", _training),
    "decoder": Case(
        "train-interpreter tiny.yaml interpreter.kind=decoder decoder.steps=20 decoder.size_px=32 decoder.batch=2",
        _tuning,
    ),
}


def _is_change(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        return isinstance(arguments[0], str) and bool(flags & WRITES)
    return event in CHANGES


def _run_and_kill(command: Callable[[], Result], at: int) -> int:
    """Run a command in a fork and kill it before its change number ``at``; gives how many changes it came to."""
    ours, theirs = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forks beside threads
        process = os.fork()
    if process == 0:
        count = 0

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if _is_change(event, arguments):
                count += 1
                if count == at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        try:
            if command().exit_code == 0:
                os.write(theirs, str(count).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    os.waitpid(process, 0)
    with os.fdopen(ours) as file:
        return int(file.read() or 0)


def _kill_at_random_moments(case: Case, cytoseg: Callable[..., Result], home: Path, *, kills: int, seed: int) -> None:
    command = lambda: cytoseg(*case.line.split())  # noqa: E731 - an argument with a name
    before = home.with_name("before")
    shutil.copytree(home, before)
    changes = _run_and_kill(command, at=0)
    assert changes > 10
    wanted = case.made()
    draw = random.Random(seed)
    for at in (draw.randint(1, changes) for _ in range(kills)):
        for path in home.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(before, home, dirs_exist_ok=True)
        assert _run_and_kill(command, at=at) == 0
        time.sleep(0.25)  # as long as a command takes to start
        again = command()
        assert again.exit_code == 0, (at, again.output)
        assert case.made() == wanted, at
        assert list(home.rglob(".*")) == [], at


@pytest.fixture
def more(home: Path) -> None:
    """One crop to add to those that were imported."""
    (home / "more").mkdir()
    for path in sorted((home / "made" / "labelled").glob("*"))[:2]:
        shutil.copy(path, home / "more" / f"seventh{path.suffix}")
    path = home / "more" / "seventh.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"imagePath": "seventh.png"}))


@pytest.mark.usefixtures("more")
def test_labels_survive_kills_at_random_moments(home: Path, cytoseg: Callable[..., Result]) -> None:
    _kill_at_random_moments(CASES["label-import"], cytoseg, home, kills=6, seed=1)


@pytest.mark.slow
@pytest.mark.usefixtures("more")
@pytest.mark.parametrize(("name", "kills"), [(name, 60 if name == "label-import" else 30) for name in CASES])
def test_every_command_survives_kills_at_random_moments(
    name: str, kills: int, home: Path, cytoseg: Callable[..., Result]
) -> None:
    _kill_at_random_moments(CASES[name], cytoseg, home, kills=kills, seed=2)
