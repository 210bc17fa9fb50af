"""The interruption of a student; its training is tested in end_to_end/test_student.py."""

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from cytoseg.recipe import load_recipe
from cytoseg.workflows import train_student


def test_an_interrupted_student_says_that_it_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train_student, "EnsemblePredictor", lambda *_, **__: None)
    monkeypatch.setattr(train_student, "unlabelled_crops", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(train_student, "distil", interrupted)
    (tmp_path / "interpreter").mkdir()
    current = cast(Any, SimpleNamespace(folder=tmp_path, recipe=load_recipe("quickstart", ["student.made=0"])))
    with pytest.raises(KeyboardInterrupt):
        train_student.taught(cast(Any, None), (), current, device=torch.device("cpu"))
    said = " ".join(capsys.readouterr().out.split())
    assert "It starts again with the next call; a finished teacher is kept." in said
