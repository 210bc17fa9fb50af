from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cytoseg.interpreter.labelled_training import LabelledPictures
from cytoseg.recipe import load_recipe
from cytoseg.workflows import compared_methods
from cytoseg.workflows.compared_methods import TrainingData, decoders, segdiff


def _learning(side_px: int, *changes: str) -> TrainingData:
    labelled = LabelledPictures(
        [np.zeros((side_px, 120, 3), np.uint8)], [np.zeros((side_px, 120), np.uint8)], ["slide"]
    )
    recipe = load_recipe("quickstart", ["decoder.size_px=96", "segdiff.size_px=64", *changes])
    return TrainingData(recipe, (), labelled, torch.device("cpu"))


@pytest.mark.parametrize(("side_px", "decoder_px", "segdiff_px"), [(120, 96, 64), (64, 64, 64), (40, 40, 40)])
def test_the_parts_that_small_crops_reduce_are_among_the_settings(
    side_px: int, decoder_px: int, segdiff_px: int
) -> None:
    learning = _learning(side_px)
    own: Any = decoders(learning, nn.Identity(), {})[0].settings["decoder"]
    other: Any = segdiff(learning)[0].settings["segdiff"]
    assert (own["size_px"], other["size_px"]) == (decoder_px, segdiff_px)


def test_the_vote_of_segdiff_and_the_seed_of_unlabelled_crops_are_among_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compared_methods, "unlabelled_inputs", lambda _recipe: {"files": []})
    for seed, vote in ((0, "soft"), (3, "hard")):
        learning = _learning(120, "decoder.unlabelled=1", f"training.seed={seed}", f"interpreter.vote={vote}")
        assert segdiff(learning)[0].settings["vote"] == vote
        for method in decoders(learning, nn.Identity(), {}):
            assert method.settings["unlabelled"] == {"files": [], "seed": seed}
