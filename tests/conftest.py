"""Shared by all tests: real data, one thread, no display, and no leftover state of accelerate."""

import gc
import importlib
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

# Read by torch and matplotlib when they are first imported, so that tests without them do not pay for the import.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"
os.environ["COLUMNS"] = "200"  # of the terminal that rich writes tables for; it looks once


ON_ONE_WORKER = ("tests/end_to_end/",)
"""Folders whose files share a trained run that takes ten seconds to make: one worker makes it once."""

BROWSER = Path(__file__).parent / "browser"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out files, and the folders above whole, where pytest-xdist is to hand out files."""
    if config.getoption("dist") != "loadfile":
        return None
    scheduler = importlib.import_module("xdist.scheduler").LoadFileScheduling(config, log)
    scheduler._split_scope = _handed_out_together
    return scheduler


def _handed_out_together(node_id: str) -> str:
    return next((folder for folder in ON_ONE_WORKER if node_id.startswith(folder)), node_id.split("::")[0])


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the browser tests where none is selected: their library takes seconds to load in each worker."""
    if collection_path != BROWSER or any("browser" in argument for argument in config.args):
        return None
    selection = config.getoption("markexpr")
    return True if "not browser" in selection.split(" and ") and " or " not in selection else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector off what lives to the end, libraries and thousands of tests: a quarter of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def cytoseg_data() -> Path:
    """The folder of real cytology: CYTOSEG_DATA, or ``shared/data`` beside the checkout."""
    folder = Path(os.environ.get("CYTOSEG_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set CYTOSEG_DATA")
    return folder


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings end without the feature check and the loss curve, which take longer than they do.

    See commands/test_doctor.py and workflows/test_run_pictures.py.
    """
    monkeypatch.setattr("cytoseg.commands.train_ddpm.check_after_training", lambda *_given, **_named: None)
    for module in ("autoencoder", "training_previews"):
        monkeypatch.setattr(f"cytoseg.workflows.{module}.save_loss_curve", lambda path, _rows: path.touch())


@pytest.fixture
def bf16_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in bf16 where it is asked for, also on a processor that has to emulate it."""
    monkeypatch.setattr("cytoseg.devices.computes_bf16", lambda device: True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what the machine lacks: POSIX, or a GPU, without which accelerate would use the CPU silently."""
    if item.get_closest_marker("posix") and os.name != "posix":
        pytest.skip("needs POSIX: forks, pipes, links, signals or permissions")
    if item.get_closest_marker("gpu") and not importlib.import_module("torch").cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    yield
    forget_accelerate()


def forget_accelerate() -> None:
    """Forget accelerate's process-wide settings: it refuses a second precision or device in one process."""
    if "accelerate" in sys.modules:
        state = sys.modules["accelerate.state"]
        state.AcceleratorState._reset_state(reset_partial_state=True)
        state.GradientState._reset_state()
