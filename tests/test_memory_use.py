import subprocess
import sys
from pathlib import Path

import pytest

from cytoseg import memory_use
from cytoseg.memory_use import Peak, available_bytes, highest_bytes, peak_memory, resident_bytes


@pytest.fixture(params=[False, True])
def measured(request: pytest.FixtureRequest) -> list[float]:
    """Peaks of nothing, 40 MB and nothing again, in a process of its own; with the allocator untouched and tuned."""
    code = f"""if True:
        import numpy as np
        from cytoseg.allocator import tune_cpu_allocator
        from cytoseg.memory_use import peak_memory
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
    monkeypatch.setattr(memory_use, "_SELF", tmp_path if status else tmp_path / "nowhere")
    with peak_memory() as peak:
        pass
    assert peak == Peak(None)


@pytest.mark.parametrize(
    ("machine", "container", "free"),
    [
        ("MemFree: 5 kB\nMemAvailable: 9 kB\n", None, 9 * 1024),
        ("MemAvailable: 9 kB\n", "max\n", 9 * 1024),
        ("MemAvailable: 9 kB\n", "8192\n", 8192 - 5000 + 1000),  # what all its processes hold, but for files' copies
        ("MemAvailable: 2 kB\n", "8192\n", 2 * 1024),
        ("MemAvailable: 9 kB\n", "1024\n", 0),  # more is held already
        (None, "8192\n", 8192 - 5000 + 1000),
        (None, None, None),
    ],
)
def test_free_memory_is_that_of_the_machine_within_the_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machine: str | None, container: str | None, free: int | None
) -> None:
    (tmp_path / "status").write_text("VmHWM: 7 kB\nVmRSS: 3 kB\n")
    (tmp_path / "memory.current").write_text("5000\n")
    (tmp_path / "memory.stat").write_text("anon 3000\ninactive_anon 7\ninactive_file 1000\n")
    for name, content in (("meminfo", machine), ("memory.max", container)):
        if content is not None:
            (tmp_path / name).write_text(content)
    monkeypatch.setattr(memory_use, "_MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(memory_use, "_CONTAINER", tmp_path)
    monkeypatch.setattr(memory_use, "_SELF", tmp_path)
    assert available_bytes() == free
    assert (resident_bytes(), highest_bytes()) == (3 * 1024, 7 * 1024)


def test_a_container_that_tells_only_its_limit_holds_what_this_process_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "status").write_text("VmRSS: 3 kB\n")
    (tmp_path / "memory.max").write_text("8192\n")
    for name in ("_MACHINE", "_CONTAINER", "_SELF"):
        monkeypatch.setattr(memory_use, name, tmp_path)
    assert available_bytes() == 8192 - 3 * 1024
