"""Starting commands from the app on a run's recipe."""

import pytest

from cytoseg.workflows.start_from_app import device_key


@pytest.mark.parametrize(
    ("named", "key"),
    [
        ("auto", "first"),
        ("cpu", "first"),
        ("cuda", "first"),
        ("cuda:0", "first"),
        ("cuda:1", "cuda-1"),
        ("../x", "first"),
    ],
)
def test_further_gpus_have_jobs_of_their_own(named: str, key: str) -> None:
    assert device_key(named) == key
