from pathlib import Path

import numpy as np
import pytest
import torch

from cytoseg.classes import ClassList
from cytoseg.diffusion.architecture import Architecture
from cytoseg.features.settings import FeatureSettings
from cytoseg.interpreter.bundle import Bundle, EnsemblePredictor, load_bundle, save_bundle
from cytoseg.interpreter.student import Student, student_maps

CPU = torch.device("cpu")
CLASSES = ClassList(("glass", "cell"), ((0, 0, 0), (1, 1, 1)), "glass")


@pytest.mark.parametrize("size", [(1, 1), (7, 10), (16, 24)])
def test_pictures_of_any_size(size: tuple[int, int]) -> None:
    student = Student(3, seed=1).eval()
    probabilities, disagreement = student_maps(student, torch.zeros(2, 3, *size), precision="no")
    assert probabilities.shape == (2, 3, *size)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2, *size))
    assert disagreement.shape == (2, *size)
    assert disagreement.min() >= 0


def test_a_bundle_of_a_student_comes_back_and_predicts_the_same(tmp_path: Path) -> None:
    architecture = Architecture(dim=8, dim_mults=(1, 2), timesteps=10, schedule="cosine", objective="pred_noise")
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


def test_undone_weights_divide_the_odds_and_leave_the_disagreement() -> None:
    student, weights = Student(3, seed=2).eval(), torch.tensor([0.25, 1.0, 0.5])
    pictures = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    before, disagreement = student_maps(student, pictures, precision="no")
    student.undo_weights(weights)
    after, same = student_maps(student, pictures, precision="no")
    expected = before / weights[:, None, None]
    torch.testing.assert_close(after, expected / expected.sum(1, keepdim=True))
    assert torch.equal(same, disagreement)


def test_batch_norms_are_folded_without_changing_what_it_computes() -> None:
    student = Student(3, seed=5)
    layers = list(student.state_dict())
    student.add_norms()
    assert sum(isinstance(module, torch.nn.BatchNorm2d) for module in student.modules()) == 10
    pictures = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for _ in range(20):  # statistics that differ from those a norm begins with
        student.train()(pictures)
    with torch.no_grad():
        for module in student.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.mul_(1.5)
                module.bias.add_(0.1)
    before = student.eval()(pictures)
    student.fold_norms()
    assert list(student.state_dict()) == layers  # stored as a student without norms
    torch.testing.assert_close(student(pictures), before, rtol=1e-4, atol=1e-4)
