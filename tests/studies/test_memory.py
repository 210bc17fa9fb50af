import subprocess
import sys
from pathlib import Path

import pytest

from cytoseg.studies import memory
from cytoseg.studies.memory import Peak, peak_memory


@pytest.fixture(params=[False, True])
def measured(request: pytest.FixtureRequest) -> list[float]:
    """Peaks of nothing, 40 MB and nothing again, in a process of its own; with the allocator untouched and tuned."""
    code = f"""if True:
        import numpy as np
        from cytoseg.devices import tune_cpu_allocator
        from cytoseg.studies.memory import peak_memory
        if {request.param}:
            assert tune_cpu_allocator()
        for size in (1, 40_000_000, 1):
            with peak_memory() as peak:
                np.ones(size, np.uint8).sum()
            print(peak.mb)
    """
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return [float(line) for line in output.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_counts_what_was_given_back_and_forgets_what_came_before(measured: list[float]) -> None:
    before, large, after = measured
    assert large - before == pytest.approx(40, abs=3)
    assert after == pytest.approx(before, abs=3)


@pytest.mark.parametrize("status", [None, "Name: python"])
def test_none_where_the_system_does_not_tell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: str | None
) -> None:
    if status is not None:
        (tmp_path / "clear_refs").touch()
        (tmp_path / "status").write_text(status)
    monkeypatch.setattr(memory, "_SELF", tmp_path if status else tmp_path / "nowhere")
    with peak_memory() as peak:
        pass
    assert peak == Peak(None)
