import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from cytoseg.classes import IGNORE
from cytoseg.errors import CheckpointError, LabelError
from cytoseg.interpreter import segdiff_train
from cytoseg.interpreter.labelled_training import LabelledPictures
from cytoseg.interpreter.segdiff import SegDiff
from cytoseg.interpreter.segdiff_train import train_segdiff
from cytoseg.interpreter.settings import SegdiffSettings
from cytoseg.interpreter.tune_state import Resume

CPU = torch.device("cpu")
SETTINGS = SegdiffSettings(steps=4, batch=2, size_px=16, seed=3, precision="no")


def _labelled() -> LabelledPictures:
    """A bright crop with a dark half, which is the cell."""
    picture = np.full((16, 16, 3), 230, np.uint8)
    picture[:, 8:] = 60
    labels = np.zeros((16, 16), np.uint8)
    labels[:, 8:] = 1
    labels[0] = IGNORE
    return LabelledPictures([picture], [labels], ["a"])


def _model() -> SegDiff:
    return SegDiff(3, seed=0, votes=2, draw_steps=2)


@pytest.mark.slow
def test_it_learns_to_tell_the_noise() -> None:
    losses: list[float] = []
    settings = SegdiffSettings(steps=30, batch=4, size_px=16, rate=3e-3, seed=0, precision="no")
    model = train_segdiff(
        _model(), _labelled(), settings=settings, device=CPU, on_step=lambda _step, loss: losses.append(loss)
    )
    assert losses[0] == pytest.approx(1.0, abs=0.15)  # the last convolution begins at zero: the noise's own variance
    assert np.mean(losses[-5:]) < 0.7
    assert model.seen.tolist() == [True, True, False]
    assert not model.training


def test_ignored_pixels_are_zero_and_do_not_count() -> None:
    target = torch.tensor([[[0, 1], [IGNORE, 2]]])
    clean = segdiff_train._clean_maps(target, target != IGNORE, 3)
    assert clean[0, :, 0, 0].tolist() == [1.0, -1.0, -1.0]
    assert clean[0, :, 0, 1].tolist() == [-1.0, 1.0, -1.0]
    assert clean[0, :, 1, 0].tolist() == [0.0, 0.0, 0.0]
    assert clean[0, :, 1, 1].tolist() == [-1.0, -1.0, 1.0]


@pytest.mark.slow
def test_an_interrupted_training_resumes_exactly(tmp_path: Path) -> None:
    whole = train_segdiff(_model(), _labelled(), settings=SETTINGS, device=CPU).state_dict()
    resume, seen = Resume(tmp_path / "unfinished", {"of": "this"}), list[int]()

    def pressed(step: int, _loss: float) -> None:
        seen.append(step)
        if step == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_segdiff(_model(), _labelled(), settings=SETTINGS, device=CPU, resume=resume, on_step=pressed)
    resumed = train_segdiff(
        _model(), _labelled(), settings=SETTINGS, device=CPU, resume=resume, on_step=lambda s, _: seen.append(s)
    ).state_dict()
    assert seen == [1, 2, 3, 4]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not (tmp_path / "unfinished").exists()


def test_crops_without_labels_and_a_diverging_loss_are_refused() -> None:
    empty = LabelledPictures([np.zeros((16, 16, 3), np.uint8)], [np.full((16, 16), IGNORE, np.uint8)], ["a"])
    with pytest.raises(LabelError, match="no pixel of the 1 training crops is labelled"):
        train_segdiff(_model(), empty, settings=SETTINGS, device=CPU)
    broken = _model()
    torch.nn.init.constant_(broken.first.weight, torch.nan)
    with pytest.raises(CheckpointError, match=r"loss of step 1 is not finite\. Lower segdiff\.rate"):
        train_segdiff(broken, _labelled(), settings=SETTINGS, device=CPU)
