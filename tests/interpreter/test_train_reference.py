from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from cytoseg.features.pixel_table import PixelTable
from cytoseg.interpreter import train_reference
from cytoseg.interpreter.mlp import Ensemble
from cytoseg.interpreter.train_reference import StopRule, train_by_reference
from cytoseg.seeds import generator_for
from tests.interpreter import oracle

CPU = torch.device("cpu")
MEMBERS, SEED = 3, 4
PlainMember = Callable[[Ensemble, int], nn.Sequential]


@pytest.fixture
def doubles() -> Iterator[None]:
    """Compute in 64 bits: the order of sums then changes nothing that training could blow up."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def five_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train for five epochs only, here and in the oracle."""
    monkeypatch.setattr(train_reference, "EPOCHS", 5)
    monkeypatch.setattr(oracle, "EPOCHS", 5)


@pytest.fixture
def table() -> PixelTable:
    """Pixels of three classes that overlap, in five features of different size; the last batch has 22 of them."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 3, (150,), generator=generator)
    means = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    noise = torch.randn(150, 5, generator=generator, dtype=torch.float64)
    features = (means[classes] + 2 * noise) * torch.tensor([0.1, 1, 10, 1, 1])
    return PixelTable(features.half(), classes, torch.zeros_like(classes), {0: 50, 1: 50, 2: 50})


def _train(table: PixelTable) -> tuple[Ensemble, list[float]]:
    losses: list[float] = []
    ensemble = train_by_reference(
        table, 3, members=MEMBERS, seed=SEED, device=CPU, on_step=lambda _step, _of, loss: losses.append(loss)
    )
    return ensemble, losses


def _train_separately(table: PixelTable, plain_member: PlainMember) -> tuple[list[nn.Sequential], list[list[float]]]:
    before = Ensemble(MEMBERS, 5, 3, seed=SEED, weight_std=oracle.WEIGHT_STD).train()
    plain = [plain_member(before, m) for m in range(MEMBERS)]
    x, y = table.features.to(torch.get_default_dtype()), table.classes
    orders = [oracle.batches(len(y), generator_for(SEED, m, what="batches")) for m in range(MEMBERS)]
    losses = [oracle.train(model, x, y, order) for model, order in zip(plain, orders, strict=True)]
    return [model.eval() for model in plain], losses


def _mean_of_those_in_training(losses: list[list[float]]) -> list[float]:
    at = [[each[i] for each in losses if i < len(each)] for i in range(max(map(len, losses)))]
    return [sum(values) / len(values) for values in at]


@pytest.mark.slow
@pytest.mark.usefixtures("doubles")
def test_batched_training_is_separate_training_to_the_same_end(table: PixelTable, plain_member: PlainMember) -> None:
    ensemble, losses = _train(table)
    plain, separate = _train_separately(table, plain_member)
    lengths = [len(each) for each in separate]
    assert len(set(lengths)) == MEMBERS  # each member stops at a batch of its own
    assert 12 + 51 < min(lengths) < max(lengths) < 300
    assert len(losses) == max(lengths)
    torch.testing.assert_close(losses, _mean_of_those_in_training(separate), atol=1e-8, rtol=0)
    for m, model in enumerate(plain):
        torch.testing.assert_close(plain_member(ensemble, m).state_dict(), _without_counts(model), atol=1e-7, rtol=0)


def _without_counts(model: nn.Sequential) -> dict[str, Tensor]:
    """Torch's layers count their batches, ours do not."""
    return {
        name: torch.zeros_like(tensor) if name.endswith("num_batches_tracked") else tensor
        for name, tensor in model.state_dict().items()
    }


@pytest.mark.usefixtures("five_epochs")
def test_in_single_precision_the_first_epochs_are_the_same(table: PixelTable, plain_member: PlainMember) -> None:
    _, losses = _train(table)
    _, separate = _train_separately(table, plain_member)
    first = 4 * 3
    assert losses[:first] == pytest.approx(_mean_of_those_in_training(separate)[:first], abs=1e-5)


@pytest.mark.usefixtures("five_epochs")
def test_features_are_not_standardised_and_probabilities_not_shifted(table: PixelTable) -> None:
    rare = PixelTable(table.features, table.classes, table.crops, {0: 9000, 1: 1, 2: 1})
    ensemble, _ = _train(table)
    other, _ = _train(rare)
    assert torch.equal(ensemble.mean, torch.zeros(5))
    assert torch.equal(ensemble.scale, torch.ones(5))
    assert torch.equal(ensemble.bias3, other.bias3)


@pytest.mark.parametrize("best", [0, 7, 30])
def test_the_rule_stops_each_member_where_the_separate_rule_does(best: int) -> None:
    """The second member finds its best loss later than the first, the third one finds new ones forever."""
    losses = torch.ones(200, 3)
    losses[12 + best, 0] = losses[12 + best + 9, 1] = 0.5
    losses[:, 2] = torch.linspace(1, 0, 200)
    rule, stopped = StopRule(3, CPU), [200] * 3
    for i, of_batch in enumerate(losses):
        for m in torch.nonzero(rule.see(i // 3, of_batch))[:, 0].tolist():
            stopped[m] = i
    separate = [oracle.StopRule() for _ in range(3)]
    ends = [
        next((i for i in range(200) if own.stops(i // 3, float(losses[i, m]))), 200) for m, own in enumerate(separate)
    ]
    assert stopped == ends == [12 + best + 51, 12 + best + 60, 200]
    assert rule.stopped.tolist() == [True, True, False]


def test_a_member_that_goes_on_finding_better_losses_trains_for_a_hundred_epochs() -> None:
    """Two pixels that tell themselves apart: the loss falls in every epoch, of which each is one batch."""
    table = PixelTable(torch.tensor([[-1.0], [1.0]]).half(), torch.tensor([0, 1]), torch.zeros(2), {0: 1, 1: 1})
    losses: list[float] = []
    train_by_reference(table, 2, members=2, seed=0, device=CPU, on_step=lambda _step, _of, loss: losses.append(loss))
    assert len(losses) == 100
    assert losses[-1] < losses[50] < losses[0]


def test_a_pixel_left_over_alone_is_left_out() -> None:
    features = torch.linspace(-1, 1, 65)[:, None].half()
    table = PixelTable(features, torch.arange(65) % 2, torch.zeros(65), {0: 33, 1: 32})
    losses: list[float] = []
    train_by_reference(table, 2, members=2, seed=0, device=CPU, on_step=lambda _step, _of, loss: losses.append(loss))
    assert 4 + 51 < len(losses) <= 100  # one batch an epoch, not two


def test_the_length_is_stated_as_four_epochs_and_the_patience_until_it_is_longer(table: PixelTable) -> None:
    told: list[tuple[int, int]] = []
    train_by_reference(
        table, 3, members=2, seed=SEED, device=CPU, on_step=lambda step, of, _loss: told.append((step, of))
    )
    assert told[0] == (1, 4 * 3 + 100)
    assert told[148] == (149, 149)
