from collections.abc import Callable

import pytest

from cytoseg.diffusion.settings import TrainSettings, rate_at

Settings = Callable[..., TrainSettings]


@pytest.mark.parametrize(
    ("schedule", "crops_seen", "expected"),
    [
        ("constant", 0, 0.01),  # the first batch of 10 of 100 warm-up crops
        ("constant", 40, 0.05),
        ("constant", 90, 0.1),
        ("constant", 900, 0.1),
        ("cosine", 500, 0.055),
        ("cosine", 1000, 0.01),
        ("cosine", 2000, 0.01),
    ],
)
def test_rate_by_hand(make_settings: Settings, schedule: str, crops_seen: int, expected: float) -> None:
    settings = make_settings(crops=1000, batch=10, rate=0.1, rate_schedule=schedule, warmup_crops=100)
    assert rate_at(crops_seen, settings) == pytest.approx(expected)


def test_without_warm_up_the_first_rate_is_the_highest(make_settings: Settings) -> None:
    assert rate_at(0, make_settings(rate=0.1, warmup_crops=0)) == pytest.approx(0.1)
