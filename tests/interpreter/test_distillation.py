import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cytoseg.classes import IGNORE
from cytoseg.errors import CheckpointError
from cytoseg.features.extract import to_input
from cytoseg.interpreter import distillation
from cytoseg.interpreter.distillation import Lesson, distil
from cytoseg.interpreter.student import Student, student_maps
from cytoseg.interpreter.tune_state import Resume

CPU = torch.device("cpu")


def _lesson(*, labelled: bool = False) -> Lesson:
    """A bright image with a dark square that the teacher calls a cell, and it is unsure along its right half."""
    picture = np.full((96, 96, 3), 220, np.uint8)
    picture[30:66, 30:66] = 70
    cell = (picture[..., 0] < 100).astype(np.float16)
    unsure = np.zeros((96, 96), np.float16)
    unsure[30:66, 48:66] = 0.5
    labels = np.full((96, 96), IGNORE, np.uint8)
    labels[:, :4] = 1
    return Lesson(picture, np.stack([1 - cell, cell]), unsure, labels if labelled else None)


@pytest.mark.slow
def test_a_student_learns_what_the_teacher_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "BATCH", 4)
    monkeypatch.setattr(distillation, "SIZE_PX", 48)
    losses: list[float] = []
    student = distil(
        Student(2, seed=0),
        [_lesson()],
        steps=40,
        seed=0,
        device=CPU,
        precision="no",
        on_step=lambda _step, loss: losses.append(loss),
    )
    probabilities, disagreement = student_maps(student, to_input(_lesson().picture[None]), precision="no")
    agree = (probabilities[0, 1] > 0.5).numpy() == (_lesson().picture[..., 0] < 100)
    assert agree.mean() > 0.98
    assert losses[-1] < losses[0] / 3
    assert disagreement[0, 40:60, 50:60].mean() > 2 * disagreement[0, :20, :20].mean()


def _distil(steps: int = 4, lesson: Lesson | None = None, **how: Any) -> Student:
    return distil(Student(2, seed=0), [lesson or _lesson()], steps=steps, seed=0, device=CPU, precision="no", **how)


def test_no_lesson_is_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "BATCH", 2)
    whole = _lesson()
    part = np.s_[:40, 20:84]
    small = Lesson(whole.picture[part], whole.probabilities[:, *part], whole.disagreement[part])
    trained = distillation._parts
    targets: list[torch.Tensor] = []

    def watched(*given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        images, target = trained(*given)
        targets.append(target)
        return images, target

    monkeypatch.setattr(distillation, "_parts", watched)
    distil(Student(2, seed=0), [whole, small], steps=3, seed=0, device=CPU, precision="no")
    assert [target.shape for target in targets] == [(2, 3, 40, 40)] * 3
    assert all((target <= 1).all() for target in targets)  # what is padded has the value of ignore


def test_an_interrupted_student_ends_as_if_it_had_not_been(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(distillation, "BATCH", 2)
    monkeypatch.setattr(distillation, "SIZE_PX", 32)
    whole, resume, steps = _distil(), Resume(tmp_path / "unfinished", {"labels": "12ab"}), list[int]()

    def interrupt(step: int, _loss: float) -> None:
        steps.append(step)
        if step == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        _distil(resume=resume, on_step=interrupt)
    again = _distil(resume=resume, on_step=interrupt)
    assert steps == [1, 2, 3, 4]
    torch.testing.assert_close(again.state_dict(), whole.state_dict(), atol=0, rtol=0)
    assert not resume.folder.exists()


@pytest.mark.parametrize("steps", [1, 2, 10, 30])
def test_rate_and_momentum_follow_one_cycle(steps: int) -> None:
    ours, theirs = (torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=distillation.RATE) for _ in range(2))
    cycle = None
    if steps not in (1, 10):  # OneCycleLR divides by zero there
        cycle = torch.optim.lr_scheduler.OneCycleLR(theirs, distillation.RATE, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        distillation._set_cycle(ours, step, steps)
        group = ours.param_groups[0]
        assert distillation.RATE / 25e4 * 0.999 < group["lr"] <= distillation.RATE
        if cycle is not None:
            assert group["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-9)
            assert group["betas"] == pytest.approx(theirs.param_groups[0]["betas"], rel=1e-9)
            theirs.step()
            if step + 1 < steps:
                cycle.step()


def test_a_loss_that_is_not_finite_ends_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "BATCH", 2)
    monkeypatch.setattr(distillation, "SIZE_PX", 32)
    lesson = replace(_lesson(), disagreement=np.full((96, 96), np.nan, np.float16))
    with pytest.raises(
        CheckpointError, match=r"^student: the loss of step 1 is not finite\. Train its teacher again\.$"
    ):
        _distil(lesson=lesson)


def test_on_labelled_pixels_half_is_said_by_the_label() -> None:
    plain, labelled = _lesson().target(), _lesson(labelled=True).target()
    assert torch.equal(plain[:, :, 4:], labelled[:, :, 4:])
    assert labelled[:, 0, 0].tolist() == [0.5, 0.5, 0.0]  # the teacher says glass, the label cell
    assert plain[:, 0, 0].tolist() == [1.0, 0.0, 0.0]


def test_rare_classes_weigh_more_by_the_root_of_their_share() -> None:
    shares = np.array([0.81, 0.09, 0.0, 0.1], np.float16)
    lesson = Lesson(
        np.zeros((4, 4, 3), np.uint8), np.tile(shares[:, None, None], (1, 4, 4)), np.zeros((4, 4), np.float16)
    )
    weights = distillation._class_weights([lesson, lesson])
    assert weights.dtype == torch.float32
    # What the teacher never sees weighs as a class of one pixel in 10,000.
    torch.testing.assert_close(weights / weights[2], torch.tensor([1 / 90, 1 / 30, 1.0, 0.0316228]), rtol=1e-3, atol=0)
    assert float(weights @ torch.from_numpy(shares).float()) == pytest.approx(1)
