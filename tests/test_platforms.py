"""Every module can be imported where POSIX is missing, as on Windows."""

import importlib
import os
import pkgutil
import signal
import sys
from collections.abc import Iterator

import pytest

import cytoseg

MISSING_MODULES = ("fcntl", "grp", "pwd", "resource", "termios")
MISSING_IN_OS = ("fork", "killpg", "mkfifo", "posix_fallocate", "pread", "sched_getaffinity", "statvfs", "O_NOFOLLOW")
MISSING_SIGNALS = ("SIGHUP", "SIGKILL", "SIGUSR1", "pthread_sigmask", "setitimer")


def _names() -> list[str]:
    return [module.name for module in pkgutil.walk_packages(cytoseg.__path__, "cytoseg.")]


def _import_all() -> None:
    for name in _names():
        importlib.import_module(name)


@pytest.fixture
def _own_modules() -> Iterator[None]:
    """Import the package afresh, and give the other tests back what they have imported."""
    _import_all()  # with the libraries, which are not imported again
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "cytoseg"}
    for name in before:
        del sys.modules[name]
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "cytoseg"]:
        del sys.modules[name]
    sys.modules.update(before)


@pytest.mark.usefixtures("_own_modules")
def test_no_module_needs_posix_to_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MISSING_MODULES:
        monkeypatch.setitem(sys.modules, name, None)
    for name in MISSING_IN_OS:
        monkeypatch.delattr(os, name, raising=False)
    for name in MISSING_SIGNALS:
        monkeypatch.delattr(signal, name, raising=False)
    _import_all()
    assert set(_names()) <= sys.modules.keys()
    assert len(_names()) > 250
    assert sys.modules["cytoseg.locks"].fcntl is None
    assert sys.modules["cytoseg.jobs.processes"]._CAN_BLOCK is False
