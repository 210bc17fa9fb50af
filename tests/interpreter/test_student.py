from pathlib import Path

import numpy as np
import pytest
import torch

from cytoseg.classes import IGNORE, ClassList
from cytoseg.diffusion.architecture import Architecture
from cytoseg.features.extract import to_input
from cytoseg.features.settings import FeatureSettings
from cytoseg.interpreter.bundle import Bundle, EnsemblePredictor, load_bundle, save_bundle
from cytoseg.interpreter.student import Lesson, Student, distil, student_maps

CPU = torch.device("cpu")
CLASSES = ClassList(("glass", "cell"), ((0, 0, 0), (1, 1, 1)), "glass")


def _lesson(*, labelled: bool = False) -> Lesson:
    """A bright picture with a dark square that the teacher calls a cell, and it is unsure along its right half."""
    picture = np.full((96, 96, 3), 220, np.uint8)
    picture[30:66, 30:66] = 70
    cell = (picture[..., 0] < 100).astype(np.float16)
    unsure = np.zeros((96, 96), np.float16)
    unsure[30:66, 48:66] = 0.5
    labels = np.full((96, 96), IGNORE, np.uint8)
    labels[:, :4] = 1
    return Lesson(picture, np.stack([1 - cell, cell]), unsure, labels if labelled else None)


def test_a_student_learns_what_the_teacher_says() -> None:
    losses: list[float] = []
    student = distil(
        Student(2, seed=0),
        [_lesson()],
        steps=60,
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


def test_on_labelled_pixels_half_is_said_by_the_label() -> None:
    plain, labelled = _lesson().target(), _lesson(labelled=True).target()
    assert torch.equal(plain[:, :, 4:], labelled[:, :, 4:])
    assert labelled[:, 0, 0].tolist() == [0.5, 0.5, 0.0]  # the teacher says glass, the label cell
    assert plain[:, 0, 0].tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("size", [(1, 1), (7, 10), (16, 24)])
def test_pictures_of_any_size(size: tuple[int, int]) -> None:
    student = Student(3, seed=1).eval()
    probabilities, disagreement = student_maps(student, torch.zeros(2, 3, *size), precision="no")
    assert probabilities.shape == (2, 3, *size)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2, *size))
    assert disagreement.shape == (2, *size)
    assert disagreement.min() >= 0


def test_a_bundle_of_a_student_comes_back_and_predicts_the_same(tmp_path: Path) -> None:
    architecture = Architecture(8, (1, 2), 10, "cosine", "pred_noise")
    bundle = Bundle(
        torch.nn.Identity(), architecture, Student(2, seed=4).eval(), FeatureSettings(("block0.block1",), (1,), 1, 0),
        CLASSES, None, "soft", "no", origin={},
    )  # fmt: skip
    save_bundle(tmp_path / "bundle", bundle)
    again = load_bundle(tmp_path / "bundle")
    assert isinstance(again.interpreter, Student)
    tiles = np.random.default_rng(0).integers(0, 255, (2, 24, 16, 3)).astype(np.uint8)
    before, after = (EnsemblePredictor(b, device=CPU)(tiles) for b in (bundle, again))
    for name in ("probabilities", "disagreement"):
        np.testing.assert_array_equal(before[name], after[name])
