"""``make-pairs``, and a student that learns from what it made."""

import builtins
import errno
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

from cytoseg.interpreter.bundle import EnsemblePredictor, load_bundle
from cytoseg.labels.index import load_index
from cytoseg.workflows import drawn_samples, generated_pairs

Command = Callable[..., Result]
MADE = Path("runs/tiny/made")
TAUGHT = ("interpreter.kind=student", "student.teacher=mlps", "student.steps=2", "student.crops=0")


@pytest.fixture(autouse=True)
def valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every sample: after 24 crops the model draws nothing that is valid."""
    monkeypatch.setattr(drawn_samples, "fault_of", lambda _: None)


def _make(cytoseg: Command, *options: str) -> Result:
    return cytoseg("make-pairs", "tiny.yaml", "--steps", "2", *options)


def _labels() -> dict[str, str]:
    return {crop.crop: crop.label_sha256 for crop in load_index(MADE / "labels").crops}


def test_pairs_are_samples_with_the_labels_of_the_bundle(home: Path, cytoseg: Command) -> None:
    result = _make(cytoseg, "--n", "5", "--drop", "0.4")
    assert result.exit_code == 0, result.output
    assert "3 generated pairs, uncertainty" in result.stdout
    assert "; 2 dropped," in result.stdout
    assert "student.made=3" in result.stdout
    index = load_index(MADE / "labels")
    assert {crop.slide for crop in index.crops} == {"made"}
    rows = {row["number"]: row for row in map(json.loads, (MADE / "pairs.jsonl").read_text().splitlines())}
    kept = {int(crop.crop.removeprefix("made_")) for crop in index.crops}
    assert max(rows[i]["uncertainty"] for i in kept) <= min(rows[i]["uncertainty"] for i in set(range(5)) - kept)
    predict = EnsemblePredictor(load_bundle(home / "runs/tiny/interpreter/bundle"), device=torch.device("cpu"))
    for crop in index.crops:
        sample = np.array(Image.open(f"runs/tiny/samples/sample_{crop.crop[-5:]}.png"))
        np.testing.assert_array_equal(crop.picture(), sample)
        label_map = predict(sample[None])["probabilities"][0].argmax(0)
        assert (crop.label_map() == label_map).mean() > 0.99  # by batches of another size
        with Image.open(MADE / "labels" / "crops" / f"{crop.crop}.png") as image:
            assert image.info["Comment"].startswith("Made by a diffusion model, not a patient's: ddim sample, seed 0")
    assert (MADE / "labels" / "contact_sheet.png").exists()
    # The run's own labels are those that were imported.
    assert not any("made_0000" in crop.crop for crop in load_index(home / "runs/tiny/labels").crops)


@pytest.mark.slow
def test_more_pairs_leave_those_that_are_there(cytoseg: Command, home: Path) -> None:
    assert _make(cytoseg, "--n", "2", "--drop", "0").exit_code == 0
    first = (MADE / "maps" / "00000.png").stat().st_mtime_ns
    leftover = MADE / "maps" / ".999999999.00000.png"
    leftover.touch()  # as a kill leaves it
    os.utime(leftover, (0, 0))
    labels = _labels()
    assert _make(cytoseg, "--n", "4", "--drop", "0").exit_code == 0
    assert (MADE / "maps" / "00000.png").stat().st_mtime_ns == first
    assert labels.items() < _labels().items()
    assert len(_labels()) == 4
    assert not leftover.exists()


@pytest.mark.slow
def test_an_interrupted_labelling_goes_on_to_the_same_pairs(
    cytoseg: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generated_pairs, "_TOGETHER", 2)
    assert _make(cytoseg, "--n", "4", "--drop", "0").exit_code == 0
    whole = _labels()
    (MADE / "made.json").unlink()  # as before the first start
    real, calls = EnsemblePredictor.__call__, []

    def pressed(self: EnsemblePredictor, tiles: np.ndarray) -> object:
        calls.append(len(tiles))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, tiles)

    with monkeypatch.context() as patch:
        patch.setattr(EnsemblePredictor, "__call__", pressed)
        assert _make(cytoseg, "--n", "4", "--drop", "0").exit_code == 130
        assert _labels() == whole  # those made before
        assert sorted(path.name for path in (MADE / "maps").iterdir()) == ["00000.png", "00001.png"]
        assert _make(cytoseg, "--n", "4", "--drop", "0").exit_code == 0
    assert calls == [2, 2, 2]  # two were not labelled again
    assert _labels() == whole


@pytest.mark.slow
def test_damaged_notes_and_another_bundle_label_again(cytoseg: Command, home: Path) -> None:
    assert _make(cytoseg, "--n", "3", "--drop", "0").exit_code == 0
    before = _labels()
    (MADE / "pairs.jsonl").write_text(
        '{"number": "x"}\n{"number": 1, "uncertainty": null}\n[1]\n{"num', encoding="utf-8"
    )
    assert _make(cytoseg, "--n", "3", "--drop", "0").exit_code == 0
    assert _labels() == before
    assert cytoseg("train-interpreter", "tiny.yaml", "interpreter.steps=3").exit_code == 0
    assert _make(cytoseg, "--n", "3", "--drop", "0").exit_code == 0
    assert len((MADE / "pairs.jsonl").read_text().splitlines()) == 3
    about = json.loads((MADE / "made.json").read_text())["bundle"]
    state = json.loads(Path("runs/tiny/interpreter/bundle/state.json").read_text())
    assert about == {key: state[key] for key in ("sha256", "features", "vote", "precision")}


@pytest.mark.slow
def test_a_student_learns_from_made_pairs(cytoseg: Command, home: Path) -> None:
    assert _make(cytoseg, "--n", "3", "--drop", "0").exit_code == 0
    trained = cytoseg("train-interpreter", "tiny.yaml", *TAUGHT, "student.made=3")
    assert trained.exit_code == 0, trained.output
    assert "Student trained on 2 labelled and 0 unlabelled crops and 3 generated pairs." in trained.stdout
    same = cytoseg("train-interpreter", "tiny.yaml", *TAUGHT, "student.made=3")
    assert "The bundle is up to date" in same.stdout
    refused = cytoseg("train-interpreter", "tiny.yaml", *TAUGHT, "student.made=4")
    assert refused.exit_code == 2
    assert "student.made=4: " in refused.stderr
    assert (
        "holds 3 generated pairs. Run `cytoseg make-pairs` with a larger --n, or lower student.made." in refused.stderr
    )


def test_where_no_sample_is_valid_nothing_is_made(
    cytoseg: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawn_samples, "fault_of", lambda _: "saturated")
    refused = _make(cytoseg, "--n", "2")
    assert refused.exit_code == 2
    assert "none of 2 samples is a valid image. Train the diffusion model longer." in refused.stderr
    assert not MADE.joinpath("labels").exists()


def test_invalid_samples_are_counted(cytoseg: Command, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = iter([None, "not finite", None])
    monkeypatch.setattr(drawn_samples, "fault_of", lambda _: next(faults))
    result = _make(cytoseg, "--n", "3", "--drop", "0")
    assert result.exit_code == 0, result.output
    assert "2 generated pairs" in result.stdout
    assert "1 invalid." in result.stdout
    assert list(_labels()) == ["made_00000", "made_00002"]


@pytest.mark.parametrize(
    "full_at",
    [
        "pairs.jsonl",
        pytest.param("sample_00002", marks=pytest.mark.slow),
        pytest.param("made_00001.png", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_loses_nothing(full_at: str, cytoseg: Command, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _make(cytoseg, "--n", "2", "--drop", "0").exit_code == 0
    before, real = _labels(), builtins.open

    def full(file: object, mode: str = "r", *args: object, **options: object) -> object:
        if "r" not in mode and full_at in str(file):
            raise OSError(errno.ENOSPC, "No space left on device", str(file))
        return real(file, mode, *args, **options)  # type: ignore[call-overload] # passed on as given

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", full)
        patch.setattr(io, "open", full)
        result = _make(cytoseg, "--n", "3", "--drop", "0")
        assert result.exit_code == 2, result.output
        assert "No space left on device" in result.stderr
        assert result.stderr.count("\n") == 1
        assert _labels() == before
    assert _make(cytoseg, "--n", "3", "--drop", "0").exit_code == 0
    assert before.items() < _labels().items()
    assert len(_labels()) == 3
