"""``interpreter.kind decoder`` in all relevant commands."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.testing import Result

from cytoseg.interpreter import tune
from cytoseg.interpreter.bundle import bundle_hashes, load_bundle
from cytoseg.interpreter.decoder import Decoder
from tests.end_to_end.conftest import cut_labels

TUNED = ("interpreter.kind=decoder", "decoder.steps=6", "decoder.rate=2e-2", "decoder.size_px=32", "decoder.batch=2")


def test_a_tuned_decoder_is_evaluated_and_segments_slides(
    home: Path, part: str, cytoseg: Callable[..., Result]
) -> None:
    cut_labels(home)
    trained = cytoseg("train-interpreter", "tiny.yaml", *TUNED)
    assert trained.exit_code == 0, trained.output
    assert "Decoder tuned; weights of step 6 of 6 (no slide was held out)." in trained.stdout
    folder = home / "runs" / "tiny"
    bundle = load_bundle(folder / "interpreter" / "bundle")
    assert isinstance(bundle.interpreter, Decoder)
    losses = [json.loads(line) for line in (folder / "interpreter" / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in losses[-6:]] == list(range(1, 7))
    assert "up to date" in cytoseg("train-interpreter", "tiny.yaml", *TUNED).stdout

    assert cytoseg("evaluate", "tiny.yaml", *TUNED, "--no-baseline").exit_code == 0
    evaluation = json.loads((folder / "evaluation" / "evaluation.json").read_text())
    assert evaluation["methods"][0]["title"] == "Decoder, tuned from the backbone"

    predicted = cytoseg("predict", "tiny.yaml", part, "--out", "found", *TUNED)
    assert predicted.exit_code == 0, predicted.output
    uncertainty = tifffile.imread("found/part/uncertainty.ome.tif")
    assert np.isfinite(uncertainty).all()
    assert uncertainty.max() > 0  # the views disagree somewhere


@pytest.mark.slow
@pytest.mark.usefixtures("short_networks")
def test_compare_gives_a_decoder_the_scores_of_evaluate(home: Path, cytoseg: Callable[..., Result]) -> None:
    for command in ("train-interpreter", "evaluate"):
        assert cytoseg(command, "tiny.yaml", *TUNED).exit_code == 0
    folder = home / "runs" / "tiny"
    evaluation = json.loads((folder / "evaluation" / "evaluation.json").read_text())
    compared = cytoseg("compare", "tiny.yaml", "--seeds", "1", *TUNED)
    assert compared.exit_code == 0, compared.output
    assert "The same network from random weights" in compared.stdout
    runs = {p.stem: json.loads(p.read_text())["counts"] for p in (folder / "compare" / "runs").iterdir()}
    assert np.sum(runs["decoder-0"], axis=0).tolist() == evaluation["methods"][0]["confusion"]
    assert runs["decoder-0"] != runs["decoder-random-0"]


@pytest.mark.slow
def test_an_interrupted_tuning_goes_on_where_it_was(
    home: Path, cytoseg: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    update, done = tune._update, 0

    def counted(*arguments: Any) -> float:
        nonlocal done
        done += 1
        if done == 3:
            signal.raise_signal(signal.SIGINT)
        return update(*arguments)

    monkeypatch.setattr("cytoseg.interpreter.tune._update", counted)
    bundle, commands = home / "runs" / "tiny" / "interpreter" / "bundle", ("train-interpreter", "tiny.yaml", *TUNED)
    assert cytoseg(*commands).exit_code == 130
    assert cytoseg(*commands).exit_code == 0
    assert done == 6
    losses = (home / "runs" / "tiny" / "interpreter" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in losses] == list(range(1, 7))
    in_parts = bundle_hashes(bundle)
    shutil.rmtree(bundle)
    assert cytoseg(*commands).exit_code == 0
    assert bundle_hashes(bundle) == in_parts


@pytest.mark.slow
def test_the_other_interpreter_replaces_the_bundle(home: Path, cytoseg: Callable[..., Result]) -> None:
    assert cytoseg("train-interpreter", "tiny.yaml", *TUNED).exit_code == 0
    again = cytoseg("train-interpreter", "tiny.yaml")
    assert again.exit_code == 0, again.output
    assert "2 MLPs on" in again.stdout


def test_a_part_that_the_network_cannot_halve_is_refused(home: Path, cytoseg: Callable[..., Result]) -> None:
    result = cytoseg("train-interpreter", "tiny.yaml", "decoder.size_px=33")
    assert result.exit_code == 2
    assert "decoder.size_px: 33 is not a multiple of 2" in result.stderr
