from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from cytoseg.diffusion.import_lucidrains import import_torchvision
from cytoseg.errors import CytosegError
from cytoseg.evaluation import generative_scores
from cytoseg.evaluation.generative_scores import (
    check_counts,
    count_copies,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
    score,
)

Array = np.ndarray[Any, Any]


def _two(*, made: int = 60, real: int = 80, width: int = 6) -> tuple[Array, Array]:
    random = np.random.default_rng(0)
    return random.normal(0.3, 1.2, (made, width)), random.normal(0.0, 1.0, (real, width))


def test_frechet_distance_by_hand() -> None:
    # Means 1 and 4, variances 2 and 8: 3^2 + (sqrt 2 - sqrt 8)^2.
    assert frechet_distance(np.array([[0.0], [2.0]]), np.array([[2.0], [6.0]])) == pytest.approx(9.0 + 2.0)


def test_frechet_distance_by_the_root_of_a_matrix() -> None:
    made, real = _two()
    a, b = np.cov(made.T), np.cov(real.T)
    expected = ((made.mean(0) - real.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(made, real) == pytest.approx(expected, rel=1e-8)


def test_the_same_pictures_are_at_distance_zero_also_with_more_features_than_pictures() -> None:
    features = np.random.default_rng(1).normal(size=(10, 40))
    assert frechet_distance(features, features) == pytest.approx(0.0, abs=1e-9)
    assert precision_recall(features, features) == (1.0, 1.0)


def test_frechet_distance_and_kernel_distance_equal_torch_fidelity() -> None:
    import_torchvision()
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    kid = pytest.importorskip("torch_fidelity.metric_kid")
    made, real = _two(made=50, real=50)
    statistics = [fid.fid_features_to_statistics(torch.from_numpy(f)) for f in (made, real)]
    theirs = fid.fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    assert frechet_distance(made, real) == pytest.approx(theirs, rel=1e-3)
    mmd = kid.kernel_mmd(made, real, kid_kernel="poly", kid_kernel_poly_degree=3, kid_kernel_poly_coef0=1)
    assert kernel_distance(made, real, seed=0) == pytest.approx(float(mmd), rel=1e-3)


def test_precision_and_recall_equal_torch_fidelity() -> None:
    import_torchvision()
    prc = pytest.importorskip("torch_fidelity.metric_prc")
    made, real = _two(made=50, real=50)
    theirs = prc.prc_features_to_metric(
        torch.from_numpy(made), torch.from_numpy(real), prc_neighborhood=3, prc_batch_size=50, verbose=False
    )
    assert theirs["precision"] != theirs["recall"]
    assert precision_recall(made, real) == pytest.approx((theirs["precision"], theirs["recall"]), rel=1e-3)


@pytest.mark.parametrize(("count", "splits"), [(60, 1), (1000, 2)])
def test_the_inception_score_equals_torch_fidelity(count: int, splits: int) -> None:
    import_torchvision()
    isc = pytest.importorskip("torch_fidelity.metric_isc")
    logits = torch.from_numpy(np.random.default_rng(2).normal(0.0, 2.0, (count, 12)))
    theirs = isc.isc_features_to_metric(logits, splits=splits, shuffle=False)["inception_score_mean"]
    assert inception_score(torch.softmax(logits, dim=1).numpy()) == pytest.approx(theirs, rel=1e-3)


def test_the_inception_score_by_hand() -> None:
    # Sure of each of two classes, equally often: 2; never sure: 1.
    assert inception_score(np.eye(2)) == pytest.approx(2.0)
    assert inception_score(np.full((4, 5), 0.2)) == pytest.approx(1.0)


def test_kernel_distance_by_hand() -> None:
    x, y = np.array([[1.0], [2.0]]), np.array([[0.0], [1.0]])
    # Within: (1*2+1)^3 = 27 and (0*1+1)^3 = 1; between: 1, 8, 1, 27 -> 9.25.
    assert kernel_distance(x, y, seed=0) == pytest.approx(27 + 1 - 2 * 9.25)


def test_kernel_distance_of_subsets_is_near_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generative_scores, "KID_SUBSETS", 5)
    made, real = _two(made=300, real=400)
    assert kernel_distance(made, real, seed=1) == kernel_distance(made, real, seed=1)
    assert kernel_distance(made, real, seed=1) == pytest.approx(kernel_distance(made, real[:300], seed=1), rel=0.5)


def test_few_kinds_have_precision_without_recall() -> None:
    _, real = _two(real=200)
    precision, recall = precision_recall(np.repeat(real[:1], 20, axis=0), real)
    assert precision == 1.0
    assert recall < 0.05


def test_far_away_pictures_have_neither() -> None:
    made, real = _two()
    assert precision_recall(made + 100, real) == (0.0, 0.0)


def test_copies_are_counted() -> None:
    made, real = _two(made=20, real=50)
    made[3], made[7] = real[4] + 1e-6, real[9]
    assert count_copies(made, real) == 2


def test_a_copy_is_far_nearer_to_one_crop_than_to_the_next_by_hand() -> None:
    # Of two neighbours: .9 against a third of 5.5, 2 against a third of 5.
    assert count_copies(np.array([[0.9], [2.0], [5.0]]), np.array([[0.0], [11.0], [30.0]])) == 1


def test_one_of_many_alike_is_no_copy() -> None:
    alike, near = np.zeros((500, 3)), np.full((1, 3), 1e-3)
    assert count_copies(near, np.concatenate([alike, np.ones((20, 3))])) == 0
    assert count_copies(near, np.concatenate([alike[:1], np.ones((519, 3))])) == 1
    assert count_copies(near, alike[:1]) == 0  # without neighbours nothing is far closer


def test_all_scores_at_once() -> None:
    made, real = _two()
    found = score((made, made[:, :2]), (real, real[:, :2]), seed=0)
    assert found.fid == frechet_distance(made, real)
    assert found.sfid == frechet_distance(made[:, :2], real[:, :2])
    assert (found.precision, found.recall) == precision_recall(made, real)


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(CytosegError, match=r"7 samples are too few to be scored: at least 8 are needed\. Draw more"):
        check_counts(7, 100)


def test_fewer_real_crops_than_samples_are_refused() -> None:
    made, real = _two(made=60, real=59)
    with pytest.raises(CytosegError, match="59 real crops are fewer than the 60 samples"):
        score((made, made), (real, real), seed=0)
