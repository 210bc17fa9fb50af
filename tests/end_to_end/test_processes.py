"""A training with two processes, one of which is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import Result

from tests.end_to_end.forked import Forked

Start = Callable[..., "subprocess.Popen[str]"]
SOURCES = Path(__file__).parents[2]
MODULE = (sys.executable, "-m")
TORCHRUN = (*MODULE, "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "cytoseg")
TOLD = ("--multi_gpu", "--num_machines=1", "--num_processes=2", "--mixed_precision=no", "--dynamo_backend=no")
ACCELERATE = (*MODULE, "accelerate.commands.launch", *TOLD, "-m", "cytoseg")

LAUNCHED = "import sys, torch; torch.cuda.device_count = lambda: 2; from cytoseg.workflows import launch; "
LAUNCHED += "launch.launch(sys.argv[1:], gpus=2)"
"""What ``--gpus 2`` does, on a machine that only claims to have two."""


@pytest.fixture
def start_two(home: Path, hears_ctrl_c: None) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start a command as two processes."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, launcher: tuple[str, ...] = TORCHRUN) -> "subprocess.Popen[str]":
        environment = {**os.environ, "PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(
            [*launcher, *arguments], cwd=home, env=environment, text=True, start_new_session=True, **pipes
        )  # type: ignore[call-overload] # mypy cannot see through the stars
        started.append(process)
        return process

    yield begin
    for process in started:
        process.terminate()
        process.communicate()


def weights(folder: Path, crops_seen: int, group: str) -> dict[str, torch.Tensor]:
    return load_file(folder / "ddpm" / f"checkpoint-{crops_seen:09d}" / f"{group}.safetensors")


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "ddpm" / "metrics.jsonl").read_text().splitlines()]


def as_two(fork: Callable[..., Forked], *arguments: str) -> str:
    """Run a command as the two processes that a launcher would start; gives all that they say."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    shared |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "two"}
    both = [fork(*arguments, **shared, RANK=rank, LOCAL_RANK=rank) for rank in "01"]
    said = "".join("".join(process.communicate()) for process in both)
    assert [process.returncode for process in both] == [0, 0], said
    return said


def same_as_alone(home: Path, cytoseg: Callable[..., Result]) -> None:
    """Compare the folder two, 16 crops by two processes and then 8, with a training by one process."""
    alone = cytoseg("train-ddpm", "tiny.yaml", "folder=alone", "training.micro_batch=3")
    assert alone.exit_code == 0, alone.output
    assert [row["crops_seen"] for row in rows(home / "two")] == [8, 16, 24]
    for one, two in zip(rows(home / "alone"), rows(home / "two"), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
    for group in ("model", "ema"):
        # Sums in another order: an update of 1e-3 differs in its fifth digit, more where a gradient is almost zero.
        torch.testing.assert_close(
            weights(home / "two", 24, group), weights(home / "alone", 24, group), rtol=0, atol=1e-4
        )
    assert len(json.loads((home / "two" / "run.json").read_text())["commands"]) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_two_processes_come_to_the_same_weights_as_one(
    home: Path, fork: Callable[..., Forked], cytoseg: Callable[..., Result]
) -> None:
    first = as_two(fork, "train-ddpm", "tiny.yaml", "folder=two", "training.crops=16")
    assert "Trained on 16 crops" in first, first
    assert first.count("Trained on") == 1
    output = as_two(fork, "train-ddpm", "tiny.yaml", "folder=two", "--resume")
    assert "Trained on 24 crops" in output, output
    same_as_alone(home, cytoseg)


@pytest.mark.slow  # six starts of the program
def test_launchers_start_two_processes_that_come_to_the_same_weights_as_one(
    home: Path, start_two: Start, cytoseg: Callable[..., Result]
) -> None:
    first, _ = start_two("train-ddpm", "tiny.yaml", "folder=two", "training.crops=16").communicate(timeout=300)
    assert "Trained on 16 crops" in first, first
    assert first.count("Trained on") == 1
    resumed = start_two("train-ddpm", "tiny.yaml", "folder=two", "--resume", launcher=ACCELERATE)
    output, _ = resumed.communicate(timeout=300)
    assert "Trained on 24 crops" in output, output
    same_as_alone(home, cytoseg)


@pytest.mark.posix
@pytest.mark.slow
def test_a_lost_process_ends_the_training_with_a_checkpoint(home: Path, start_two: Start) -> None:
    process = start_two("train-ddpm", "tiny.yaml", "folder=two", "training.crops=80000")
    log = home / "two" / "ddpm" / "metrics.jsonl"
    until(lambda: log.exists() and log.read_text().count("\n") >= 3)
    os.kill(of_rank(1, process.pid), signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert "another process of this training has ended" in output
    seen = rows(home / "two")[-1]["crops_seen"]
    assert weights(home / "two", int(seen), "ema")
    assert f"checkpoint-{seen:09d}. Start again with --resume." in output


@pytest.mark.posix
@pytest.mark.slow
def test_ctrl_c_ends_both_processes_with_one_checkpoint(home: Path, start_two: Start) -> None:
    process = start_two("train-ddpm", "tiny.yaml", "folder=two", "training.crops=80000")
    log = home / "two" / "ddpm" / "metrics.jsonl"
    until(lambda: log.exists() and log.read_text().count("\n") >= 3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "cytoseg: interrupted; finished work is kept" in output
    assert weights(home / "two", int(rows(home / "two")[-1]["crops_seen"]), "optimiser")


@pytest.mark.posix
@pytest.mark.slow
@pytest.mark.parametrize("killed", ["launcher", "torchrun"])
def test_processes_save_and_end_when_what_started_them_is_killed(killed: str, home: Path, start_two: Start) -> None:
    line = ("train-ddpm", "tiny.yaml", "folder=two", "training.crops=80000")
    process = start_two(*line, launcher=(sys.executable, "-c", LAUNCHED))
    log = home / "two" / "ddpm" / "metrics.jsonl"
    until(lambda: log.exists() and log.read_text().count("\n") >= 3)
    (torchrun,) = children_of(process.pid)
    ranks = children_of(torchrun)
    assert len(ranks) == 2
    os.kill(process.pid if killed == "launcher" else torchrun, signal.SIGKILL)
    process.communicate(timeout=120)  # until the pipe is closed: all processes have ended
    assert weights(home / "two", int(rows(home / "two")[-1]["crops_seen"]), "optimiser")
    assert [path for path in (home / "two").rglob(".*") if path.suffix != ".lock"] == []


def children_of(parent: int) -> list[int]:
    lists = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(child) for children in lists for child in children.read_text().split()]


def of_rank(rank: int, parent: int) -> int:
    """Find the process of a rank among the children of torchrun."""
    for child in children_of(parent):
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return child
    raise AssertionError(f"no process of rank {rank}")


def until(there: Callable[[], bool], *, wait_s: float = 120) -> None:
    end = time.monotonic() + wait_s
    while not there():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow  # three trainings
def test_killed_and_resumed_is_bit_by_bit_as_if_nothing_had_happened(
    home: Path, start: Start, cytoseg: Callable[..., Result]
) -> None:
    line = ("train-ddpm", "tiny.yaml", "folder=killed", "training.checkpoint_crops=16", "training.samples=0")
    line += ("training.workers=1",)
    process = start(*line, "training.crops=80000")
    log = home / "killed" / "ddpm" / "metrics.jsonl"
    until(lambda: log.exists() and log.read_text().count("\n") >= 5)
    process.kill()
    process.communicate()
    kept = max(int(p.name.removeprefix("checkpoint-")) for p in log.parent.glob("checkpoint-*"))
    length = f"training.crops={kept + 24}"
    resumed, whole = cytoseg(*line, length, "--resume"), cytoseg(*line, length, "folder=whole")
    assert resumed.exit_code == whole.exit_code == 0, resumed.output + whole.output
    for group in ("model", "ema", "optimiser"):
        killed = weights(home / "killed", kept + 24, group)
        torch.testing.assert_close(killed, weights(home / "whole", kept + 24, group), rtol=0, atol=0)
    assert rows(home / "killed") == rows(home / "whole")


@pytest.mark.parametrize("more", [1, 99])
def test_more_gpus_than_there_are(cytoseg: Callable[..., Result], home: Path, more: int) -> None:
    asked = torch.cuda.device_count() + more
    refused = cytoseg("train-ddpm", "tiny.yaml", "--gpus", str(asked))
    assert refused.exit_code == 2
    assert refused.stderr == f"cytoseg: --gpus {asked}: this machine has {asked - more}. Ask for fewer.\n"
    assert not (home / "two").exists()
