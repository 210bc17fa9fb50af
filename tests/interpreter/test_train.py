from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cytoseg.errors import LabelError
from cytoseg.features.pixels import PixelTable
from cytoseg.features.rows import DiskRows
from cytoseg.interpreter import train
from cytoseg.interpreter.mlp import Ensemble
from cytoseg.interpreter.train import EnsembleSettings, train_ensemble

CPU = torch.device("cpu")


def _settings(**changes: Any) -> EnsembleSettings:
    values: dict[str, Any] = {"members": 2, "steps": 60, "batch_px": 16, "rate": 0.01, "seed": 1}
    return EnsembleSettings(**(values | changes))


def _table(features: Tensor, classes: Tensor, counts: dict[int, int] | None = None) -> PixelTable:
    natural = {int(i): int((classes == i).sum()) for i in set(classes.tolist())}
    crops = torch.zeros(len(classes), dtype=torch.int64)
    return PixelTable(features.half(), classes, crops, natural if counts is None else counts)


@pytest.fixture(scope="module")
def separable() -> PixelTable:
    """300 pixels of three classes whose means lie at (0, 0), (4, 0), (0, 4), far apart for a spread of 0.5."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(300) % 3
    means = torch.tensor([[0.0, 0], [4, 0], [0, 4]])
    return _table(means[classes] + 0.5 * torch.randn(300, 2, generator=generator), classes)


def _probabilities(ensemble: Ensemble, features: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = ensemble(features.float().expand(ensemble.members, -1, -1))
    return logits.softmax(2)


def test_learns_what_can_be_told_apart(separable: PixelTable) -> None:
    losses: dict[int, float] = {}
    ensemble = train_ensemble(separable, 3, settings=_settings(), device=CPU, on_step=losses.__setitem__)
    assert not ensemble.training
    right = _probabilities(ensemble, separable.features).argmax(2) == separable.classes
    assert (right.float().mean(1) > 0.98).all()
    assert list(losses) == list(range(1, 61))
    assert losses[60] < 0.1 < losses[1]


def test_features_are_standardised_by_what_the_table_holds() -> None:
    features = torch.tensor([[0.0, 100], [2, 100], [4, 106], [6, 106]])
    ensemble = train_ensemble(
        _table(features, torch.tensor([0, 0, 1, 1])), 2, settings=_settings(steps=1, batch_px=4), device=CPU
    )
    torch.testing.assert_close(ensemble.mean, torch.tensor([3.0, 103]))
    torch.testing.assert_close(ensemble.scale, torch.tensor([5.0**0.5, 3]))


def test_the_seed_decides(separable: PixelTable) -> None:
    first, again, other = (
        train_ensemble(separable, 3, settings=_settings(steps=5, seed=seed), device=CPU).state_dict()
        for seed in (1, 1, 2)
    )
    torch.testing.assert_close(first, again, atol=0, rtol=0)
    assert not torch.equal(first["weight1"], other["weight1"])


def test_the_ensemble_is_the_same_bit_for_bit_with_the_rows_on_disk(separable: PixelTable, tmp_path: Path) -> None:
    on_disk = DiskRows(tmp_path, 300, 2)
    on_disk[0:300] = separable.features[torch.arange(300)]
    tables = (separable, replace(separable, features=on_disk))
    first, second = (train_ensemble(t, 3, settings=_settings(steps=5), device=CPU).state_dict() for t in tables)
    torch.testing.assert_close(first, second, atol=0, rtol=0)


def test_each_member_goes_through_its_own_shuffles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only feature is the pixel's number, so a member's batches can be read from what it is shown."""
    shown: list[Tensor] = []

    class Recorder(Ensemble):
        def forward(self, features: Tensor) -> Tensor:
            shown.append(features[..., 0].int())
            return super().forward(features)

    monkeypatch.setattr(train, "Ensemble", Recorder)
    table = _table(torch.arange(6.0)[:, None], torch.arange(6) % 2)
    train_ensemble(table, 2, settings=_settings(steps=3, batch_px=4), device=CPU)
    assert [tuple(batch.shape) for batch in shown] == [(2, 4)] * 3
    orders = torch.cat(shown, dim=1).tolist()
    for order in orders:
        # Twelve pixels of six: all of them once, and then all of them again.
        assert sorted(order[:6]) == sorted(order[6:]) == list(range(6))
    assert orders[0] != orders[1]


def test_a_member_learns_as_if_alone(separable: PixelTable) -> None:
    alone, among = (train_ensemble(separable, 3, settings=_settings(steps=5, members=m), device=CPU) for m in (1, 3))
    found = _probabilities(among, separable.features)
    torch.testing.assert_close(found[:1], _probabilities(alone, separable.features), atol=1e-3, rtol=0)
    assert not torch.allclose(found[0], found[1], atol=1e-2)


def test_probabilities_refer_to_the_crops_not_to_the_balanced_draw() -> None:
    """Of class 0 three of four pixels have the feature -1, of class 1 one of four; 0 is nine times as frequent as 1.

    Where the feature is -1, class 0 has by Bayes .75 * .9 / (.75 * .9 + .25 * .1), however many were drawn of each.
    """
    features = torch.tensor([[-1.0]] * 6 + [[1.0]] * 2 + [[-1.0]] + [[1.0]] * 3).repeat(16, 1)
    classes = torch.tensor([0] * 8 + [1] * 4).repeat(16)
    table = _table(features, classes, {0: 9000, 1: 1000})
    ensemble = train_ensemble(table, 2, settings=_settings(steps=150, batch_px=192), device=CPU)
    found = _probabilities(ensemble, torch.tensor([[-1.0], [1.0]]))
    expected = torch.tensor([[0.675 / 0.7, 0.025 / 0.7], [0.225 / 0.3, 0.075 / 0.3]])
    torch.testing.assert_close(found, expected.expand(2, -1, -1), atol=0.01, rtol=0)


def test_features_that_tell_nothing_give_the_natural_shares() -> None:
    features = torch.tensor([[-1.0], [0], [1]]).repeat(3, 1)
    classes = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
    table = _table(features, classes, {0: 700, 1: 250, 2: 50})
    # A fourth class that nobody labelled stays out of it.
    ensemble = train_ensemble(table, 4, settings=_settings(steps=150, batch_px=9), device=CPU)
    found = _probabilities(ensemble, features).mean(1)
    torch.testing.assert_close(found, torch.tensor([[0.7, 0.25, 0.05, 0.0]]).expand(2, -1), atol=0.01, rtol=0)


def test_a_channel_that_half_precision_flattened_does_not_disturb(separable: PixelTable) -> None:
    """1.0004 is 1 in half precision: the table cannot say how such a channel varies, so it may hardly count."""
    flat = torch.cat([separable.features.float(), torch.ones(300, 1)], dim=1)
    ensemble = train_ensemble(_table(flat, separable.classes), 3, settings=_settings(), device=CPU)
    off = flat + torch.tensor([0.0, 0.0, 0.0004])
    assert float(ensemble.scale[2]) == 2**-10
    assert (_probabilities(ensemble, off).argmax(2) == separable.classes).float().mean() > 0.98


@pytest.mark.parametrize(("pixels", "found"), [(4, 1), (0, 0)])
def test_fewer_than_two_classes_are_refused(pixels: int, found: int) -> None:
    table = _table(torch.ones(pixels, 2), torch.ones(pixels, dtype=torch.int64))
    with pytest.raises(LabelError, match=f"the train crops show {found} class, two are needed. Annotate more"):
        train_ensemble(table, 3, settings=_settings(), device=CPU)
