import numpy as np
import pytest
import torch

from cytoseg.classes import ClassList
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.unet import build_unet
from cytoseg.errors import CheckpointError
from cytoseg.interpreter.proposals_without_labels import MaskHeadProposals

CPU = torch.device("cpu")
CLASSES = ClassList(("nucleus", "dirt", "glass"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)), "glass")


def _unet(*mask_classes: str) -> torch.nn.Module:
    return build_unet(
        Architecture(
            dim=8,
            dim_mults=(1, 1, 1),
            timesteps=10,
            schedule="cosine",
            backbone="pretrained",
            mask_classes=mask_classes,
        ),
        seed=1,
    )


def test_what_is_probable_is_proposed_and_the_rest_left_unmarked() -> None:
    unet = _unet("glass", "nucleus")
    head = unet.get_submodule("mask_head")
    with torch.no_grad():
        unet.get_parameter("mask_head.weight").zero_()
        for certainty, expected in ((0.9, 0), (0.6, 2)):
            odds = float(np.log(certainty / (1 - certainty)))
            unet.get_parameter("mask_head.bias").copy_(torch.tensor([0.0, odds]))
            guess = MaskHeadProposals(unet, CLASSES, device=CPU, precision="no")
            assert guess.guessed == ("nucleus",)
            found = guess(np.full((9, 13, 3), 200, np.uint8))
            assert (found.shape, found.dtype) == ((9, 13), np.uint8)
            assert np.unique(found).tolist() == [expected]
    assert head.training is False


@pytest.mark.parametrize("known", [(), ("glass", "mitosis")])
def test_a_model_that_knows_none_of_the_classes_is_refused(known: tuple[str, ...]) -> None:
    with pytest.raises(CheckpointError, match=r"cannot propose nucleus, dirt, glass: .* it (nothing|glass, mit)"):
        MaskHeadProposals(_unet(*known), CLASSES, device=CPU, precision="no")
