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
SMALL_TILES = ("predict.tile_px=32", "predict.overlap_px=8")


class _Crop:
    def picture(self) -> NDArray[np.uint8]:
        return PICTURE

    def label_map(self) -> NDArray[np.uint8]:
        return np.zeros((32, 32), np.uint8)


class _Teacher:
    """Predicts the red value of each pixel, and keeps the shapes of the batches that it was given."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def tiles_at_once(self, side_px: int) -> int:
        """Return how many tiles are predicted together."""
        assert side_px == 32
        return 2

    def __call__(self, pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Predict a batch."""
        self.shapes.append(pictures.shape)
        red = pictures[..., 0].astype(np.float32) / 255
        return {"probabilities": np.stack([1 - red, red / 2, red / 2], axis=1), "disagreement": red / 10}


@pytest.mark.slow
def test_an_interrupted_student_is_resumed_and_its_log_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train_student, "EnsemblePredictor", _Teacher)
    monkeypatch.setattr(train_student, "unlabelled_crops", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(distillation, "BATCH", 1)
    monkeypatch.setattr(distillation, "SIZE_PX", 16)
    recipe = load_recipe("quickstart", [*SMALL_TILES, "student.made=0", "student.steps=4", "training.precision=no"])
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


@pytest.mark.parametrize("side", [32, 80])
def test_a_crop_larger_than_a_tile_is_segmented_in_tiles(side: int) -> None:
    teacher = _Teacher()
    lesson = train_student._lesson_of(cast(Any, teacher), load_recipe("quickstart", [*SMALL_TILES]))
    picture = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    found = lesson(picture, None)
    assert {shape[1:3] for shape in teacher.shapes} == {(32, 32)}
    assert max(shape[0] for shape in teacher.shapes) == (1 if side == 32 else 2)
    red = picture[..., 0] / 255
    np.testing.assert_allclose(found.probabilities, [1 - red, red / 2, red / 2], atol=1e-3)
    np.testing.assert_allclose(found.disagreement, red / 10, atol=1e-3)
    assert (found.probabilities.dtype, found.disagreement.dtype) == (np.float16, np.float16)


def _logged(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "interpreter" / "metrics.jsonl").read_text().splitlines()]
