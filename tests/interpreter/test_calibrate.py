import math

import numpy as np
import pytest
import torch

from cytoseg.features.pixel_table import PixelTable
from cytoseg.interpreter.calibrate import calibrate
from cytoseg.interpreter.holdout import Folds
from cytoseg.interpreter.mlp import Ensemble

FOLDS = 3


def _ensemble(members: int, steepness: float) -> Ensemble:
    """Interpreters of two inputs that all score class 0 by ``steepness`` times the first input, and class 1 by 0.

    The trunk passes the first input on where it is positive and the second where that is (the other is then zero).
    """
    ensemble = Ensemble(members, 2, 2, seed=0).eval()
    with torch.no_grad():
        for name, tensor in ensemble.named_parameters():
            if "norm" not in name:
                tensor.zero_()
        for channel in (0, 1):
            ensemble.weight1[:, channel, channel] = ensemble.weight2[:, channel, channel] = 1.0
        ensemble.weight3[:, 0, 0], ensemble.weight3[:, 1, 0] = steepness, -steepness
    return ensemble


@pytest.fixture
def table() -> PixelTable:
    """30,000 pixels, of class 0 with the probability sigmoid(s), s the first input less the second."""
    generator = torch.Generator().manual_seed(0)
    s = 4 * torch.rand(30_000, generator=generator) - 2
    classes = (torch.rand(30_000, generator=generator) > s.sigmoid()).long()
    features = torch.stack([s.clamp_min(0), (-s).clamp_min(0)], dim=1)
    counts = {k: int((classes == k).sum()) for k in (0, 1)}
    return PixelTable(features.half(), classes, torch.arange(30_000) % FOLDS, counts)


def _folds(table: PixelTable) -> Folds:
    return Folds(table.crops, FOLDS)


@pytest.mark.parametrize("steepness", [0.5, 1.0, 3.0])
def test_the_temperature_is_how_much_too_steep_the_scores_are(table: PixelTable, steepness: float) -> None:
    ensemble = _ensemble(6, steepness)
    found = calibrate(ensemble, table, _folds(table), seed=0)
    assert found.temperature == pytest.approx(steepness, rel=0.05)
    assert found.pixels == 20_000
    assert found.ece_after < 0.015
    assert found.nll_after <= found.nll_before + 1e-4
    if steepness != 1.0:
        assert found.ece_before > 0.05


def test_only_members_that_did_not_learn_a_slide_judge_its_pixels(table: PixelTable) -> None:
    """Member m is too steep by m + 1; its pixels, those of fold m, are the only ones it is asked about."""
    mixed = _ensemble(FOLDS, 1.0)
    with torch.no_grad():
        mixed.weight3 *= torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    within_one = Folds(torch.zeros_like(table.crops), FOLDS)  # all pixels are held out by the first member
    assert calibrate(mixed, table, within_one, seed=0).temperature == pytest.approx(1, rel=0.05)


def test_classes_count_as_often_as_they_are_not_as_they_were_drawn(table: PixelTable) -> None:
    """The score ignores the features and gives class 0 odds of 9, as in the crops; of the table it is half."""
    ensemble = _ensemble(3, 0.0)
    with torch.no_grad():
        ensemble.bias3[:, 0] = 2 * math.log(9)  # twice too steep
    half = torch.arange(30_000) % 2
    natural = PixelTable(table.features, half, table.crops, {0: 9000, 1: 1000})
    found = calibrate(ensemble, natural, _folds(table), seed=0)
    assert found.temperature == pytest.approx(2, rel=0.01)
    assert found.ece_before == pytest.approx(81 / 82 - 0.9, abs=0.003)
    assert found.ece_after == pytest.approx(0, abs=0.003)
    entropy = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    assert found.nll_after == pytest.approx(entropy, abs=0.01)


def test_the_reported_errors_are_of_temperatures_fitted_elsewhere(table: PixelTable) -> None:
    """In the first fold the classes are turned round: what suits the others makes it worse, and that is reported."""
    turned = torch.where(table.crops == 0, 1 - table.classes, table.classes)
    told = calibrate(
        _ensemble(3, 1.0), PixelTable(table.features, turned, table.crops, table.counts), _folds(table), seed=0
    )
    assert told.nll_after > math.log(2) + 0.02  # a fit that had seen the fold would not do worse than a uniform guess


def test_it_is_said_in_a_sentence_and_kept_as_numbers(table: PixelTable) -> None:
    found = calibrate(_ensemble(3, 3.0), table, _folds(table), seed=0)
    assert found.sentence() == (
        f"Calibration error (ECE) on held-out slides: {found.ece_before:.3f} before, "
        f"{found.ece_after:.3f} after temperature scaling (T = {found.temperature:.2f})."
    )
    numbers = found.as_json()
    assert numbers["temperature"] == found.temperature
    assert all(isinstance(value, float | int) and np.isfinite(value) for value in numbers.values())


def test_a_single_odd_slide_does_not_decide_for_all(table: PixelTable) -> None:
    """Pixels of the first fold hardly follow their scores, so it asks for a great temperature; the others for 1."""
    odd = torch.where((table.crops == 0) & (torch.arange(30_000) % 5 > 2), 1 - table.classes, table.classes)
    told = calibrate(
        _ensemble(FOLDS, 1.0), PixelTable(table.features, odd, table.crops, table.counts), _folds(table), seed=0
    )
    assert told.temperature == pytest.approx(1, rel=0.1)


def test_a_pixel_counts_for_those_it_was_chosen_from(table: PixelTable) -> None:
    """Half of the pixels have truths of which the scores are three times too sure; hardly any stands for many."""
    generator = torch.Generator().manual_seed(1)
    s = (table.features[:, 0] - table.features[:, 1]).float()
    even = torch.arange(30_000) % 2 == 0
    flatter = (torch.rand(30_000, generator=generator) > (s / 3).sigmoid()).long()
    mixed = torch.where(even, flatter, table.classes)
    for many, temperature in ((even, 3), (~even, 1)):
        stands_for = torch.where(many, 1.0, 1e-4)
        weighted = PixelTable(table.features, mixed, table.crops, table.counts, stands_for)
        found = calibrate(_ensemble(FOLDS, 1.0), weighted, _folds(table), seed=0)
        assert found.temperature == pytest.approx(temperature, rel=0.1)
