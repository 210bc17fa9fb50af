import pytest
import torch
from torch import Tensor

from cytoseg.interpreter import segdiff
from cytoseg.interpreter.segdiff import SegDiff, drawn_probabilities


def _model(classes: int = 2, *, votes: int = 2) -> SegDiff:
    return SegDiff(classes, seed=1, votes=votes, draw_steps=3).eval()


@pytest.mark.parametrize("size", [(16, 16), (13, 18)])
def test_draws_are_probabilities_of_every_pixel(size: tuple[int, int]) -> None:
    pictures = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    drawn = drawn_probabilities(_model(3), pictures, precision="no")
    assert drawn.shape == (2, 2, 3, *size)
    torch.testing.assert_close(drawn.sum(2), torch.ones(2, 2, *size))
    assert not torch.equal(drawn[0], drawn[1])  # each draw begins with other noise


def test_a_picture_gets_the_same_draws_alone_and_in_a_batch() -> None:
    pictures = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    together = drawn_probabilities(_model(), pictures, precision="no")
    alone = drawn_probabilities(_model(), pictures[1:2], precision="no")
    torch.testing.assert_close(alone[:, 0], together[:, 1], rtol=1e-4, atol=1e-5)


def test_a_class_without_labels_is_never_drawn() -> None:
    model = _model(3)
    model.rule_out([1])
    drawn = drawn_probabilities(model, torch.zeros(1, 3, 8, 8), precision="no")
    assert float(drawn[:, :, 1].abs().max()) == 0.0
    torch.testing.assert_close(drawn.sum(2), torch.ones(2, 1, 8, 8))


def test_a_perfect_noise_predictor_draws_the_map_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch.full((1, 2, 8, 8), -1.0)
    right[:, 0, :, :4], right[:, 1, :, 4:] = 1.0, 1.0
    bars = segdiff.alpha_bar(segdiff.SCHEDULE, segdiff.TIMESTEPS).float()

    def noise_in(_model: SegDiff, maps: Tensor, times: Tensor, _encoding: Tensor) -> Tensor:
        bar = bars[times][:, None, None, None]
        return (maps - bar.sqrt() * right) / (1 - bar).sqrt()

    monkeypatch.setattr(SegDiff, "forward", noise_in)
    drawn = drawn_probabilities(_model(), torch.zeros(1, 3, 8, 8), precision="no")
    torch.testing.assert_close(drawn.mean(0), (right + 1) / 2, rtol=0, atol=1e-3)


def test_the_encoding_of_the_picture_changes_the_prediction() -> None:
    model = _model()
    with torch.no_grad():  # the last convolution begins at zero
        for parameter in model.unet.out.parameters():
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    maps, times = torch.zeros(1, 2, 8, 8), torch.tensor([50])
    dark, bright = (model(maps, times, model.encode(torch.full((1, 3, 8, 8), value))) for value in (-1.0, 1.0))
    assert float((dark - bright).detach().abs().max()) > 0.01
