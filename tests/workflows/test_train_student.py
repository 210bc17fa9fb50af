"""The interruption of a student; its training is tested in end_to_end/test_student.py."""

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cytoseg.interpreter import distillation
from cytoseg.recipe import load_recipe
from cytoseg.workflows import train_student

PICTURE = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
ORIGIN = {"seed": 0}


class _Crop:
    def picture(self) -> NDArray[np.uint8]:
        return PICTURE

    def label_map(self) -> NDArray[np.uint8]:
        return np.zeros((32, 32), np.uint8)


def _teacher(pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    dark = (pictures[..., 0] < 100).astype(np.float32)
    return {"probabilities": np.stack([1 - dark, dark / 2, dark / 2], axis=1), "disagreement": dark / 10}


def test_an_interrupted_student_is_resumed_and_its_log_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train_student, "EnsemblePredictor", lambda *_, **__: _teacher)
    monkeypatch.setattr(train_student, "unlabelled_crops", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(distillation, "BATCH", 1)
    monkeypatch.setattr(distillation, "SIZE_PX", 16)
    recipe = load_recipe("quickstart", ["student.made=0", "student.steps=4", "training.precision=no"])
    (tmp_path / "interpreter").mkdir()
    current = cast(Any, SimpleNamespace(folder=tmp_path, recipe=recipe))

    def taught() -> dict[str, torch.Tensor]:
        crops = cast(Any, (_Crop(),))
        found = train_student.train_run_student(
            cast(Any, None), crops, current, origin=ORIGIN, device=torch.device("cpu")
        )
        return found.state_dict()

    whole, logged = taught(), _logged(tmp_path)
    add = train_student.StepLog.add

    def interrupted(log: train_student.StepLog, step: int, loss: float) -> None:
        if step == 3:
            raise KeyboardInterrupt
        add(log, step, loss)

    monkeypatch.setattr(train_student.StepLog, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        taught()
    monkeypatch.setattr(train_student.StepLog, "add", add)
    torch.testing.assert_close(taught(), whole, atol=0, rtol=0)
    assert [line["step"] for line in logged] == [1, 2, 3, 4]
    assert _logged(tmp_path) == logged
    assert "Student trained on 1 labelled and 0 unlabelled crops." in capsys.readouterr().out


def _logged(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "interpreter" / "metrics.jsonl").read_text().splitlines()]
