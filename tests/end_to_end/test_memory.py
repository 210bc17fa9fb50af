"""``train-interpreter --memory``: too little is refused, the requested amount suffices, the result is equal."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from cytoseg.interpreter.bundle import bundle_hashes

Command = Callable[..., Result]
COMMAND = ("train-interpreter", "tiny.yaml")


@pytest.fixture
def run(home: Path) -> Path:
    """The run folder, without the bundle."""
    folder = home / "runs" / "tiny"
    shutil.rmtree(folder / "interpreter")
    return folder


def last_entry(run: Path) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads((run / "run.json").read_text())["commands"][-1]
    return entry


def _refused(result: Result, run: Path, why: str) -> re.Match[str]:
    """Check that a ceiling of 1 MB was refused with a reason (a pattern), and that no bundle was written."""
    assert result.exit_code == 2
    found = re.fullmatch(rf"cytoseg: features\.memory_gb: 0\.001 is too little: {why}\n", result.stderr)
    assert found, result.stderr
    assert not (run / "interpreter" / "bundle").exists()
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_too_little_is_refused_and_what_is_asked_for_suffices(
    run: Path, made_run: tuple[Path, Any], cytoseg: Command
) -> None:
    found = _refused(
        cytoseg(*COMMAND, "--memory", "1M"),
        run,
        r"the largest crop \(64 x 64 px\) and 2 interpreters need ([\d.]+)\. Use features\.memory_gb=([\d.]+), "
        r"or fewer taps, timesteps or members\.",
    )
    done = cytoseg(*COMMAND, "--memory", f"{found[2]}G")
    assert done.exit_code == 0, done.output
    entry = last_entry(run)
    assert entry["peak_memory_gb"] <= float(found[1])
    assert f"peak memory {entry['peak_memory_gb']:.1f} GB" in done.stdout
    assert f"memory_gb: {float(found[1])}" in (run / "recipe.yaml").read_text()
    before = made_run[0] / "runs" / "tiny" / "interpreter" / "bundle"
    assert bundle_hashes(run / "interpreter" / "bundle") == bundle_hashes(before)
    assert "up to date" in cytoseg(*COMMAND).stdout  # the ceiling does not change any number


def test_rows_on_disk_give_the_same_ensemble_and_leave_no_file(
    run: Path, made_run: tuple[Path, Any], cytoseg: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cytoseg.features.pixel_rows.available_bytes", lambda: 0)
    done = cytoseg(*COMMAND)
    assert done.exit_code == 0, done.output
    assert "Features on disk" in done.stdout
    before = made_run[0] / "runs" / "tiny" / "interpreter" / "bundle"
    assert bundle_hashes(run / "interpreter" / "bundle") == bundle_hashes(before)
    assert sorted(p.name for p in (run / "interpreter").iterdir()) == ["bundle", "metrics.jsonl"]


def test_the_pixels_of_each_class_are_reported_and_kept(made_run: tuple[Path, dict[str, Result]]) -> None:
    home, results = made_run
    state = json.loads((home / "runs" / "tiny" / "interpreter" / "bundle" / "state.json").read_text())["origin"]
    index = json.loads((home / "runs" / "tiny" / "labels" / "index.json").read_text())["crops"]
    train = [entry["pixels"] for entry in index if entry["crop"] in state["labels"]]
    labelled = {name: sum(pixels.get(name, 0) for pixels in train) for name in state["pixels_labelled"]}
    assert state["pixels_labelled"] == labelled
    assert sum(state["pixels_used"].values()) == pytest.approx(2 * 200, abs=4)  # shared by the classes of each crop
    assert state["table"] == "memory"
    for name, used in state["pixels_used"].items():
        assert used <= labelled[name]
        assert f"{name} {used:,} of {labelled[name]:,}" in results["train-interpreter"].stdout


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_a_decoder_that_takes_more_is_refused_and_what_is_asked_for_suffices(run: Path, cytoseg: Command) -> None:
    tuning = ("interpreter.kind=decoder", "decoder.steps=2", "decoder.size_px=32", "decoder.batch=2")
    found = _refused(
        cytoseg(*COMMAND, *tuning, "--memory", "1M"),
        run,
        r"by step 1 the training had used ([\d.]+)\. Use features\.memory_gb=([\d.]+), or lower "
        r"decoder\.batch or decoder\.size_px\.",
    )
    done = cytoseg(*COMMAND, *tuning, "--memory", f"{found[2]}G")
    assert done.exit_code == 0, done.output
    told = re.search(r"Peak memory ([\d.]+) GB\.", done.stdout)
    assert told
    assert 0.1 < float(told[1]) <= float(found[2])


def test_a_ceiling_that_cannot_be_kept_is_refused_at_once(
    run: Path, cytoseg: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cytoseg.workflows.memory_ceiling.highest_bytes", lambda: None)
    refused = cytoseg(*COMMAND, "interpreter.kind=decoder", "--memory", "4G")
    assert refused.exit_code == 2
    assert "this system does not report the memory of a process. Remove the setting." in refused.stderr
    assert not (run / "interpreter" / "metrics.jsonl").exists()


def test_an_amount_that_cannot_be_read_is_refused(home: Path, cytoseg: Command) -> None:
    refused = cytoseg(*COMMAND, "--memory", "four")
    assert refused.exit_code == 2
    assert refused.stderr == "cytoseg: --memory 'four': write a number and G or M, such as 4G, 3.5G or 500M.\n"
