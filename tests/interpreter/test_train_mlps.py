from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cytoseg.errors import LabelError
from cytoseg.features.pixel_rows import DiskRows
from cytoseg.features.pixel_table import PixelTable
from cytoseg.interpreter import train_mlps
from cytoseg.interpreter.etf import simplex
from cytoseg.interpreter.mlp import Ensemble
from cytoseg.interpreter.settings import EnsembleSettings
from cytoseg.interpreter.train_mlps import Trained, train_ensemble
from cytoseg.interpreter.train_reference import train_by_reference

CPU = torch.device("cpu")
OnStep = Callable[[int, int, float], None]


def _settings(**changes: Any) -> EnsembleSettings:
    values: dict[str, Any] = {"mode": "tuned", "members": 2, "steps": 60, "batch_px": 16, "rate": 0.01, "seed": 1}
    off = {
        "passes": 1e9,
        "dropout": 0.0,
        "weight_decay": 0.0,
        "etf_weight": 0.0,
        "early_stopping": False,
        "calibrate": False,
    }
    return EnsembleSettings(**(values | off | changes))


def _train(
    table: PixelTable, classes: int = 3, on_step: OnStep = lambda _step, _of, _loss: None, **changes: Any
) -> Trained:
    slides = [f"slide{number}" for number in range(int(table.crops.max()) + 1)]  # each crop is of its own
    return train_ensemble(table, classes, slides=slides, settings=_settings(**changes), device=CPU, on_step=on_step)


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


def test_learns_what_can_be_distinguished(separable: PixelTable) -> None:
    losses: dict[int, float] = {}
    ensemble = _train(separable, on_step=lambda step, _of, loss: losses.update({step: loss})).ensemble
    assert not ensemble.training
    right = _probabilities(ensemble, separable.features).argmax(2) == separable.classes
    assert (right.float().mean(1) > 0.98).all()
    assert list(losses) == list(range(1, 61))
    assert losses[60] < 0.1 < losses[1]


@pytest.mark.slow
def test_the_published_rules_can_be_asked_for(separable: PixelTable) -> None:
    losses: dict[int, float] = {}
    keep: OnStep = lambda step, _of, loss: losses.update({step: loss})  # noqa: E731 # as short as it gets
    ensemble = _train(separable, on_step=keep, mode="reference", seed=6).ensemble
    expected = train_by_reference(separable, 3, members=2, seed=6, device=CPU)
    torch.testing.assert_close(ensemble.state_dict(), expected.state_dict(), atol=0, rtol=0)
    assert 4 * 5 + 51 < len(losses) <= 500  # five batches an epoch


@pytest.mark.parametrize(
    ("steps", "passes", "made"),
    [(50, 2.15, 41), (50, 1.5, 40), (6, 1.5, 6)],  # 2.15 * 300 pixels / 16 = 40.3
)
def test_a_small_table_is_limited_in_passes(
    separable: PixelTable, steps: int, passes: float, made: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train_mlps.MIN_STEPS == 400
    monkeypatch.setattr(train_mlps, "MIN_STEPS", 40)
    told: list[tuple[int, int]] = []
    found = _train(separable, steps=steps, passes=passes, on_step=lambda step, of, _loss: told.append((step, of)))
    assert told == [(step, made) for step in range(1, made + 1)]
    # The rate has fallen to zero by then, as in any training of that length.
    expected = _train(separable, steps=made).ensemble.state_dict()
    torch.testing.assert_close(found.ensemble.state_dict(), expected, atol=0, rtol=0)


def test_features_are_standardised_by_what_the_table_holds() -> None:
    features = torch.tensor([[0.0, 100], [2, 100], [4, 106], [6, 106]])
    ensemble = _train(_table(features, torch.tensor([0, 0, 1, 1])), 2, steps=1, batch_px=4).ensemble
    torch.testing.assert_close(ensemble.mean, torch.tensor([3.0, 103]))
    torch.testing.assert_close(ensemble.scale, torch.tensor([5.0**0.5, 3]))


def test_the_seed_decides(separable: PixelTable) -> None:
    first, again, other = (_train(separable, steps=5, seed=seed).ensemble.state_dict() for seed in (1, 1, 2))
    torch.testing.assert_close(first, again, atol=0, rtol=0)
    assert not torch.equal(first["weight1"], other["weight1"])


def test_the_ensemble_is_the_same_bit_for_bit_with_the_rows_on_disk(separable: PixelTable, tmp_path: Path) -> None:
    on_disk = DiskRows(tmp_path, 300, 2)
    on_disk[0:300] = separable.features[torch.arange(300)]
    tables = (separable, replace(separable, features=on_disk))
    first, second = (_train(t, steps=5, calibrate=True, dropout=0.3).ensemble.state_dict() for t in tables)
    torch.testing.assert_close(first, second, atol=0, rtol=0)


def test_each_member_goes_through_its_own_shuffles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only feature is the pixel's number, so a member's batches can be read from what it is shown."""
    shown: list[Tensor] = []

    class Recorder(Ensemble):
        def hidden(self, features: Tensor) -> Tensor:
            shown.append(features[..., 0].int())
            return super().hidden(features)

    monkeypatch.setattr(train_mlps, "Ensemble", Recorder)
    table = _table(torch.arange(6.0)[:, None], torch.arange(6) % 2)
    _train(table, 2, steps=3, batch_px=4)
    assert [tuple(batch.shape) for batch in shown] == [(2, 4)] * 3
    orders = torch.cat(shown, dim=1).tolist()
    for order in orders:
        # Twelve pixels of six: all of them once, and then all of them again.
        assert sorted(order[:6]) == sorted(order[6:]) == list(range(6))
    assert [order[:6] for order in orders] == [[3, 4, 2, 0, 1, 5], [5, 1, 3, 0, 4, 2]]


def test_a_member_learns_as_if_alone(separable: PixelTable) -> None:
    alone, among = (_train(separable, steps=5, members=m).ensemble for m in (1, 3))
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
    ensemble = _train(table, 2, steps=150, batch_px=192).ensemble
    found = _probabilities(ensemble, torch.tensor([[-1.0], [1.0]]))
    expected = torch.tensor([[0.675 / 0.7, 0.025 / 0.7], [0.225 / 0.3, 0.075 / 0.3]])
    torch.testing.assert_close(found, expected.expand(2, -1, -1), atol=0.01, rtol=0)


def test_features_that_tell_nothing_give_the_natural_shares() -> None:
    features = torch.tensor([[-1.0], [0], [1]]).repeat(3, 1)
    classes = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
    table = _table(features, classes, {0: 700, 1: 250, 2: 50})
    # A fourth class without labels stays out of it.
    ensemble = _train(table, 4, steps=150, batch_px=9).ensemble
    found = _probabilities(ensemble, features).mean(1)
    torch.testing.assert_close(found, torch.tensor([[0.7, 0.25, 0.05, 0.0]]).expand(2, -1), atol=0.01, rtol=0)


def test_a_channel_that_half_precision_flattened_does_not_disturb(separable: PixelTable) -> None:
    """1.0004 is 1 in half precision: the table cannot say how such a channel varies, so it may hardly count."""
    flat = torch.cat([separable.features.float(), torch.ones(300, 1)], dim=1)
    ensemble = _train(_table(flat, separable.classes)).ensemble
    off = flat + torch.tensor([0.0, 0.0, 0.0004])
    assert float(ensemble.scale[2]) == 2**-10
    assert (_probabilities(ensemble, off).argmax(2) == separable.classes).float().mean() > 0.98


@pytest.mark.parametrize(("pixels", "found"), [(4, "one class, 1"), (0, "no labelled pixel")])
def test_fewer_than_two_classes_are_refused(pixels: int, found: str) -> None:
    table = _table(torch.ones(pixels, 2), torch.ones(pixels, dtype=torch.int64))
    wanted = f"the train crops show {found}; at least two classes are needed. Annotate more"
    with pytest.raises(LabelError, match=wanted):
        train_ensemble(table, 3, slides=["a"], settings=_settings(), device=CPU)


@pytest.fixture(scope="module")
def five_slides() -> PixelTable:
    """600 pixels of five slides: three classes that overlap, and 20 features that can only be overfitted."""
    generator = torch.Generator().manual_seed(2)
    classes = torch.arange(600) % 3
    means = torch.tensor([[0.0, 0], [2, 0], [0, 2]])
    telling = means[classes] + torch.randn(600, 2, generator=generator)
    idle = torch.randn(600, 20, generator=generator)
    table = _table(torch.cat([telling, idle], dim=1), classes)
    return replace(table, crops=torch.arange(600) // 120)


def test_each_member_trains_on_the_slides_it_does_not_hold_out(
    five_slides: PixelTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Tensor] = []

    class Recorder(Ensemble):
        def hidden(self, features: Tensor) -> Tensor:
            shown.append(features[..., 0].half())
            return super().hidden(features)

    monkeypatch.setattr(train_mlps, "Ensemble", Recorder)
    numbered = replace(five_slides, features=torch.arange(600.0)[:, None].half())
    _train(numbered, members=6, steps=40, batch_px=60, early_stopping=True)
    slides_of = torch.cat([x for x in shown if x.shape[1] == 60], dim=1).long() // 120
    learnt = [set(row.tolist()) for row in slides_of]
    missing = [set(range(5)) - slides for slides in learnt]
    assert [len(slides) for slides in missing] == [1] * 6
    assert set.union(*missing[:5]) == set(range(5))
    assert missing[5] == missing[0]


@pytest.mark.slow
def test_an_early_stop_keeps_what_fits_held_out_slides_better(five_slides: PixelTable) -> None:
    changes: dict[str, Any] = {"members": 5, "steps": 400, "batch_px": 64}
    stopped = _train(five_slides, early_stopping=True, **changes)
    to_the_end = _train(five_slides, **changes)
    assert stopped.kept_steps is not None
    assert all(step % 50 == 0 for step in stopped.kept_steps)
    assert max(stopped.kept_steps) < 400  # learning by heart had begun
    early, late = (_loss_of_new_pixels(trained.ensemble, five_slides) for trained in (stopped, to_the_end))
    assert early < late


def _loss_of_new_pixels(ensemble: Ensemble, table: PixelTable) -> float:
    """Of pixels drawn as the table's were."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(600, 22, generator=generator)
    noise[:, :2] += torch.tensor([[0.0, 0], [2, 0], [0, 2]])[table.classes]
    return float(torch.nn.functional.nll_loss(_probabilities(ensemble, noise).mean(0).log(), table.classes))


def test_the_temperature_calibrates_overconfident_probabilities(five_slides: PixelTable) -> None:
    changes: dict[str, Any] = {"members": 5, "steps": 400, "batch_px": 64}
    trained = _train(five_slides, calibrate=True, **changes)
    assert trained.calibration is not None
    assert trained.kept_steps is None
    assert trained.calibration.temperature > 1.2
    assert trained.calibration.ece_after < 0.5 * trained.calibration.ece_before


def test_calibrated_scores_are_the_others_divided_by_the_temperature(five_slides: PixelTable) -> None:
    found = _train(five_slides, members=5, steps=50, early_stopping=True, calibrate=True)
    stopped = _train(five_slides, members=5, steps=50, early_stopping=True)
    assert found.calibration is not None
    assert found.kept_steps == stopped.kept_steps
    features = five_slides.features[:20].float().expand(5, -1, -1)
    with torch.no_grad():
        expected = stopped.ensemble(features) / found.calibration.temperature
        torch.testing.assert_close(found.ensemble(features), expected)


def test_of_one_slide_nothing_is_held_out(separable: PixelTable) -> None:
    plain, asked = _train(separable), _train(separable, early_stopping=True, calibrate=True)
    torch.testing.assert_close(asked.ensemble.state_dict(), plain.ensemble.state_dict(), atol=0, rtol=0)
    assert (asked.kept_steps, asked.calibration) == (None, None)


def test_hidden_features_look_like_the_mean_and_shown_ones_keep_the_sum(
    five_slides: PixelTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Tensor] = []

    class Recorder(Ensemble):
        def hidden(self, features: Tensor) -> Tensor:
            shown.append((features - self.mean) / self.scale)
            return super().hidden(features)

    monkeypatch.setattr(train_mlps, "Ensemble", Recorder)
    _train(five_slides, steps=10, batch_px=300)
    _train(five_slides, steps=10, batch_px=300, dropout=0.4)
    before, after = torch.cat(shown[:10]), torch.cat(shown[10:])
    hidden = after.abs() < 1e-5
    assert float(hidden.float().mean()) == pytest.approx(0.4, abs=0.01)
    torch.testing.assert_close(after[~hidden], before[~hidden] / 0.6, atol=1e-4, rtol=1e-4)
    assert not torch.equal(hidden[0], hidden[1])  # each member has other ones hidden
    assert not torch.equal(hidden[:2], hidden[2:4])  # and at each step


def test_weights_decay_and_offsets_do_not(separable: PixelTable) -> None:
    """At a rate too small to learn anything, only the decay is seen: (1 - rate * decay) each step, the rate falling."""
    before = Ensemble(2, 2, 3, seed=1)
    after = _train(separable, steps=2, rate=1e-4, weight_decay=1000.0).ensemble
    left = (1 - 0.1) * (1 - 0.05)
    torch.testing.assert_close(after.weight1, before.weight1 * left, atol=3e-4, rtol=0)
    torch.testing.assert_close(after.norm1.weight, before.norm1.weight, atol=3e-4, rtol=0)


def test_the_regulariser_reaches_the_trunk_and_so_the_classifier(separable: PixelTable) -> None:
    without, with_it = (_train(separable, steps=5, etf_weight=weight).ensemble for weight in (0.0, 0.4))
    assert not torch.allclose(without.weight1, with_it.weight1, atol=1e-4)
    found = [_probabilities(ensemble, separable.features) for ensemble in (without, with_it)]
    assert not torch.allclose(*found, atol=1e-3)


@pytest.mark.slow
def test_the_regulariser_draws_classes_to_the_corners(separable: PixelTable) -> None:
    ensembles = [_train(separable, steps=200, etf_weight=weight).ensemble for weight in (0.0, 1.0)]
    corners = torch.stack([simplex(32, 3, seed=1, member=m) for m in range(2)])
    at_corner = []
    for ensemble in ensembles:
        with torch.no_grad():
            hidden = ensemble.hidden(separable.features.float().expand(2, -1, -1))
        nearest = torch.bmm(hidden, corners).argmax(2)
        at_corner.append(float((nearest == separable.classes).float().mean()))
    assert at_corner[1] > 0.98
    assert at_corner[0] < 0.8


def test_the_regulariser_at_weight_0_is_off_bit_for_bit(separable: PixelTable, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _train(separable, steps=5).ensemble.state_dict()
    monkeypatch.delattr(train_mlps, "simplex")  # it is not even made
    second = _train(separable, steps=5, etf_weight=0.0).ensemble.state_dict()
    torch.testing.assert_close(first, second, atol=0, rtol=0)


def test_a_class_without_a_pixel_is_never_predicted(separable: PixelTable) -> None:
    few = separable.classes != 2
    table = _table(separable.features[few], separable.classes[few])
    ensemble = _train(table, steps=2).ensemble  # too few to unlearn it
    anywhere = 100 * torch.randn(500, 2, generator=torch.Generator().manual_seed(1))
    found = _probabilities(ensemble, anywhere)
    assert (found[:, :, 2] == 0).all()
    assert {0, 1} == set(found.argmax(2).unique().tolist())


def test_a_class_of_one_pixel_is_learned_without_upset(separable: PixelTable) -> None:
    keep = torch.cat([torch.nonzero(separable.classes != 2)[:, 0], torch.nonzero(separable.classes == 2)[:1, 0]])
    table = _table(separable.features[keep], separable.classes[keep])
    assert table.counts == {0: 100, 1: 100, 2: 1}
    ensemble = _train(table).ensemble
    assert all(bool(tensor.isfinite().all()) for tensor in ensemble.state_dict().values())
    found = _probabilities(ensemble, table.features)
    torch.testing.assert_close(found.sum(2), torch.ones(2, 201))
    right = found.argmax(2) == table.classes
    assert right[:, :200].float().mean() > 0.98
