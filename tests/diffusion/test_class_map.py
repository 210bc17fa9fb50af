import pytest
import torch
from torch import Tensor, nn

from cytoseg.classes import IGNORE
from cytoseg.diffusion.class_map import MapConditioned, one_hot_map


def test_a_map_has_a_channel_for_each_class_and_one_for_unknown() -> None:
    found = one_hot_map(torch.tensor([[[0, 1], [IGNORE, 1]]]), 2)
    expected = [[[1, 0], [0, 0]], [[0, 1], [0, 1]], [[0, 0], [1, 0]]]
    torch.testing.assert_close(found, torch.tensor([expected]).float())


class _Told(nn.Module):
    """Predicts 1 without a map and 3 with it, and v beside it as its input was."""

    def forward(self, x: Tensor, _times: Tensor, _classes: None = None, class_map: Tensor | None = None) -> Tensor:
        return torch.cat([torch.full_like(x, 1.0 if class_map is None else 3.0), x], dim=1)


@pytest.mark.parametrize(("scale", "mean"), [(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)])
def test_a_map_is_obeyed_by_its_scale_and_leaves_the_variance(scale: float, mean: float) -> None:
    x = torch.arange(12.0).reshape(1, 3, 2, 2)
    output = MapConditioned(_Told(), torch.zeros(1, 3, 2, 2), scale=scale)(x, torch.tensor([4]))
    torch.testing.assert_close(output, torch.cat([torch.full_like(x, mean), x], dim=1))
