from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cytoseg.interpreter.mlp import Ensemble
from cytoseg.interpreter.settings import hidden_sizes

MakeEnsemble = Callable[..., Ensemble]
PlainMember = Callable[[Ensemble, int], nn.Sequential]


def _features(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    ("classes", "sizes"), [(2, (128, 32)), (3, (128, 32)), (29, (128, 32)), (30, (256, 128)), (34, (256, 128))]
)
def test_many_classes_get_wider_layers(classes: int, sizes: tuple[int, int]) -> None:
    assert hidden_sizes(classes) == sizes
    ensemble = Ensemble(2, 5, classes, seed=0)
    assert ensemble.weight1.shape == (2, 5, sizes[0])
    assert ensemble.weight2.shape == (2, *sizes)
    assert ensemble.weight3.shape == (2, sizes[1], classes)


def test_in_evaluation_each_member_equals_torchs_own_layers(
    make_ensemble: MakeEnsemble, plain_member: PlainMember
) -> None:
    ensemble, features = make_ensemble(3, 5, 4), _features(3, 6, 5)
    logits = ensemble(features)
    assert logits.shape == (3, 6, 4)
    for m in range(3):
        expected = plain_member(ensemble, m)((features[m] - ensemble.mean) / ensemble.scale)
        torch.testing.assert_close(logits[m], expected, atol=1e-5, rtol=1e-5)


def test_in_training_too_with_the_same_gradients_and_running_statistics(
    make_ensemble: MakeEnsemble, plain_member: PlainMember
) -> None:
    ensemble, features = make_ensemble(3, 5, 4).train(), _features(3, 6, 5)
    plain = [plain_member(ensemble, m) for m in range(3)]
    logits = ensemble(features)
    logits.square().sum().backward()
    for m in range(3):
        expected = plain[m]((features[m] - ensemble.mean) / ensemble.scale)
        torch.testing.assert_close(logits[m], expected, atol=1e-4, rtol=1e-4)
        expected.square().sum().backward()
        found, wanted = ensemble.weight1.grad, plain[m].get_parameter("0.weight").grad
        assert found is not None
        assert wanted is not None
        torch.testing.assert_close(found[m], wanted.T, atol=1e-2, rtol=1e-3)
        for norm, place in ((ensemble.norm1, 2), (ensemble.norm2, 5)):
            torch.testing.assert_close(norm.running_mean[m], plain[m][place].running_mean, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(norm.running_var[m], plain[m][place].running_var, atol=1e-5, rtol=1e-5)


def test_a_temperature_divides_scores_with_their_offsets(make_ensemble: MakeEnsemble) -> None:
    ensemble, features = make_ensemble(2, 5, 3), _features(2, 6, 5)
    before = ensemble(features).detach()
    ensemble.divide_scores(2.5)
    torch.testing.assert_close(ensemble(features).detach(), before / 2.5)


def test_the_folded_first_layer_takes_features_as_they_are(make_ensemble: MakeEnsemble) -> None:
    ensemble, features = make_ensemble(2, 5, 3), _features(2, 6, 5)
    weight, bias = ensemble.folded_first()
    assert (weight.shape, bias.shape) == ((2, 5, 128), (2, 128))
    folded = torch.stack([features[m] @ weight[m] + bias[m] for m in range(2)])
    standard = (features - ensemble.mean) / ensemble.scale
    first = torch.stack([standard[m] @ ensemble.weight1[m] + ensemble.bias1[m] for m in range(2)])
    torch.testing.assert_close(folded, first, atol=1e-4, rtol=1e-4)


def test_first_weights_depend_on_the_seed_and_the_member_only() -> None:
    few, many, other = (Ensemble(m, 4, 3, seed=s) for m, s in ((2, 1), (5, 1), (2, 9)))
    for name in ("weight1", "weight2", "weight3"):
        assert torch.equal(getattr(few, name), getattr(many, name)[:2])
        assert not torch.equal(getattr(few, name)[0], getattr(few, name)[1])
        assert not torch.equal(getattr(few, name), getattr(other, name))


def test_first_weights_keep_the_size_of_standardised_features() -> None:
    ensemble = Ensemble(2, 400, 3, seed=0)
    assert abs(float(ensemble.weight1.detach().std()) - 0.05) < 0.001
    assert not ensemble.bias1.any()


def test_a_class_that_is_ruled_out_has_no_probability_and_the_others_keep_their_ratio(
    make_ensemble: MakeEnsemble,
) -> None:
    ensemble, whole = make_ensemble(3, 5, 4), make_ensemble(3, 5, 4)
    features = torch.randn(3, 20, 5, generator=torch.Generator().manual_seed(0))
    ensemble.rule_out([1])
    with torch.no_grad():
        found, before = ensemble(features).softmax(2), whole(features).softmax(2)
    assert (found[:, :, 1] == 0).all()
    others = before[:, :, [0, 2, 3]]
    torch.testing.assert_close(found[:, :, [0, 2, 3]], others / others.sum(2, keepdim=True))
