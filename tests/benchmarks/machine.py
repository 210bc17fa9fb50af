"""Shared by the benchmarks: process memory, machine description, writing results."""

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
MB = 1024 * 1024
_VERSIONED = (
    "torch",
    "monai",
    "denoising-diffusion-pytorch",
    "ema-pytorch",
    "accelerate",
    "numpy",
    "tifffile",
    "imagecodecs",
    "pillow",
    "openslide-python",
    "openslide-bin",
    "tiffslide",
)


@dataclass(frozen=True)
class Table:
    """One table of the results: title, notes, column names, and rows of text or numbers."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: list[list[Any]]

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [f"## {self.title}", "", self.note, "", _line(self.columns), _line(["---"] * len(self.columns))]
        return "\n".join([*lines, *(_line(row) for row in self.rows)]) + "\n"


def memory_mb(field: str, process: int | str = "self") -> float:
    """Read the memory of a process: ``VmRSS`` now, ``VmHWM`` its peak, ``Private`` what no other process shares.

    ``ru_maxrss`` would not do: a new process inherits the peak of the one that started it.
    """
    name = "smaps_rollup" if field == "Private" else "status"
    lines = Path(f"/proc/{process}/{name}").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def available_mb() -> float:
    """Return how much memory is free."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 1024


def await_memory(need_gb: float, *, most_s: float = 3600.0) -> None:
    """Wait until this much memory is free plus a tenth of the machine's, because other jobs may be running."""
    need_mb = need_gb * 1e9 / MB + os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / MB / 10
    end = time.monotonic() + most_s
    while available_mb() < need_mb:
        if time.monotonic() > end:
            raise SystemExit(f"{need_gb:.1f} GB and a spare are not free: {available_mb():.0f} MB")
        time.sleep(5)


def run_child(script: str, arguments: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
    """Run a script of this folder in a new process and return the JSON of its last line, or why there is none."""
    command = [sys.executable, str(Path(__file__).parent / script), json.dumps(arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not finished within {timeout_s:.0f} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"failed": f"exit status {done.returncode}: {last[:200]}"}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def describe() -> dict[str, Any]:
    """Describe the machine, its load now, and the versions that decide the numbers."""
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(pages * page / 1e9, 1),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": {name: found for name in _VERSIONED if (found := _version(name))},
    }


def write_results(name: str, title: str, tables: Sequence[Table], *, machine: dict[str, Any], notes: str) -> str:
    """Write ``results/NAME.md`` and ``.json``; return the Markdown."""
    command = shlex.join(["python", f"tests/benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
    versions = ", ".join(f"{name} {found}" for name, found in machine["versions"].items())
    head = (
        f"# {title}\n\n`{command}`, {now}\n\n"
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{machine['gpu'] or 'no GPU'}; {machine['system']}, Python {machine['python']}, {versions}. "
        f"Load when it started: {machine['load_before']}.\n\n{notes}\n\n"
    )
    text = head + "\n".join(table.markdown() for table in tables)
    RESULTS.mkdir(exist_ok=True)
    content: dict[str, Any] = {"title": title, "command": command, "when": now, "machine": machine, "notes": notes}
    content["tables"] = [asdict(table) for table in tables]
    (RESULTS / f"{name}.md").write_text(text)
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return text


def shared_note(machine: dict[str, Any]) -> str:
    """Describe whether other jobs were running on the machine."""
    if machine["load_before"] < 0.5:
        return "Nothing else was running when it started."
    return (
        "The machine was shared with other jobs, so wall-clock times are longer and vary more than on an idle machine. "
        "CPU times of one process are affected less, through the caches."
    )


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _gpu() -> str | None:
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip().splitlines()[0]
