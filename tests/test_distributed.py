import pytest

from cytoseg.distributed import process_rank


def test_one_process_has_rank_0_and_torchrun_gives_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert process_rank() == 0
    monkeypatch.setenv("RANK", "3")
    assert process_rank() == 3
