import sys

import numpy as np
import pytest

from cytoseg.studies import memory
from cytoseg.studies.memory import Peak, peak_memory


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_counts_what_was_given_back_and_forgets_what_came_before() -> None:
    with peak_memory() as before:
        pass
    with peak_memory() as large:
        np.ones(40_000_000, np.uint8).sum()
    with peak_memory() as after:
        pass
    assert before.mb is not None
    assert large.mb is not None
    assert after.mb is not None
    assert 35 < large.mb - before.mb < 80
    assert after.mb < large.mb - 20


def test_none_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(memory, "_SELF", memory.Path("/nowhere"))
    with peak_memory() as peak:
        pass
    assert peak == Peak(None)
