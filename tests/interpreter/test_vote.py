import math

import pytest
import torch
from torch import Tensor

from cytoseg.interpreter.vote import jensen_shannon, vote


def _members(*rows: list[float]) -> Tensor:
    """One image of one pixel: (M, 1, K, 1, 1)."""
    return torch.tensor(rows)[:, None, :, None, None]


def _voted(members: Tensor, rule: str) -> list[float]:
    found = vote(members, rule=rule)
    assert found.shape == (1, members.shape[2], 1, 1)
    return [round(value, 5) for value in found.flatten().tolist()]


def test_soft_is_the_mean() -> None:
    assert _voted(_members([0.6, 0.4, 0.0], [0.1, 0.5, 0.4]), "soft") == [0.35, 0.45, 0.2]


def test_hard_is_what_most_chose_even_against_the_mean() -> None:
    members = _members([0.51, 0.49], [0.51, 0.49], [0.0, 1.0])
    assert _voted(members, "soft") == [0.34, 0.66]
    hard = _voted(members, "hard")
    # (2/3 + .34 * .49/3, 1/3 + .66 * .49/3), divided by their sum 1 + .49/3
    assert hard == [0.6208, 0.3792]


def test_a_tie_is_broken_by_the_mean() -> None:
    # One member each: (1/2 + .35 * .245, 1/2 + .65 * .245), divided by 1.245
    assert _voted(_members([0.6, 0.4], [0.1, 0.9]), "hard") == [0.47048, 0.52952]


@pytest.mark.parametrize("members", [2, 3, 10, 100])
def test_the_mean_never_outweighs_a_vote(members: int) -> None:
    """One vote more beats any mean: the winners barely chose theirs, the losers were sure."""
    winners = members // 2 + 1
    rows = [[0.501, 0.499]] * winners + [[0.0, 1.0]] * (members - winners)
    hard = _voted(_members(*rows), "hard")
    assert hard[0] > hard[1]
    assert sum(hard) == pytest.approx(1, abs=1e-4)


def test_geometric_lets_one_who_rules_a_class_out_outweigh_two_who_favour_it() -> None:
    members = _members([0.6, 0.4], [0.6, 0.4], [0.01, 0.99])
    assert _voted(members, "soft")[0] == pytest.approx(0.40333, abs=1e-5)
    # Cube roots: (.36 * .01) and (.16 * .99), divided by their sum.
    first, second = 0.0036 ** (1 / 3), 0.1584 ** (1 / 3)
    assert _voted(members, "geometric")[0] == pytest.approx(first / (first + second), abs=1e-5)


def test_geometric_keeps_a_vote_where_members_rule_out_different_classes() -> None:
    assert _voted(_members([1.0, 0.0], [0.0, 1.0]), "geometric") == [0.5, 0.5]


def test_entropy_weighs_by_how_sure_a_member_is() -> None:
    # Entropies 1, 0.46900 and 1 bit: of three only the second counts, but for a millionth.
    assert _voted(_members([0.5, 0.5], [0.9, 0.1], [0.5, 0.5]), "entropy") == [0.9, 0.1]
    # H(.9) = .46900 bit, H(.4) = .97095 bit: weights .53100 and .02905.
    expected = (0.9 * 0.53100 + 0.4 * 0.02905) / (0.53100 + 0.02905)
    assert _voted(_members([0.9, 0.1], [0.4, 0.6]), "entropy")[0] == pytest.approx(expected, abs=1e-4)


def test_undecided_members_all_count_alike() -> None:
    assert _voted(_members([0.5, 0.5], [0.5, 0.5]), "entropy") == [0.5, 0.5]


def test_an_unknown_rule_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError, match="loud"):
        vote(_members([0.5, 0.5]), rule="loud")


def test_each_pixel_votes_for_itself() -> None:
    """Two images of 1x2 pixels, three classes, all members sure: the vote is what they say."""
    ids = torch.tensor([[[0, 1]], [[2, 0]]])
    sure = torch.nn.functional.one_hot(ids, 3).float().movedim(-1, 1).expand(4, -1, -1, -1, -1)
    for rule in ("soft", "hard", "geometric", "entropy"):
        torch.testing.assert_close(vote(sure, rule=rule), sure[0])


def test_members_that_agree_leave_no_uncertainty() -> None:
    found = jensen_shannon(_members(*[[0.7, 0.2, 0.1]] * 3))
    assert found.shape == (1, 1, 1)
    assert float(found) == pytest.approx(0, abs=1e-6)
    assert float(found) >= 0


@pytest.mark.parametrize(
    ("rows", "nats"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], math.log(2)),
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], math.log(3)),
        # H(3/4, 1/4) - (H(1, 0) + H(1/2, 1/2)) / 2 = .56234 - .34657
        ([[1.0, 0.0], [0.5, 0.5]], 0.21576),
    ],
)
def test_disagreement_in_nats(rows: list[list[float]], nats: float) -> None:
    assert float(jensen_shannon(_members(*rows))) == pytest.approx(nats, abs=1e-5)


def test_disagreement_needs_two() -> None:
    with pytest.raises(ValueError, match="disagreement needs two interpreters, found 1"):
        jensen_shannon(_members([0.5, 0.5]))
