"""Which Chromium the browser tests use, and that none is an error where one is required."""

import os
from pathlib import Path

import pytest

from tests.browser.conftest import find_chromium


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which programs are found; empty."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CYTOSEG_BROWSER", raising=False)
    return tmp_path


def _install(folder: Path, name: str) -> str:
    program = folder / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.skipif(os.name == "nt", reason="programs have other names there")
def test_the_headless_shell_is_taken_before_the_whole_browser(programs: Path) -> None:
    whole = _install(programs, "chromium")
    assert find_chromium() == whole
    shell = _install(programs, "chromium-headless-shell")
    assert find_chromium() == shell


def test_without_a_browser_tests_are_skipped(programs: Path) -> None:
    with pytest.raises(pytest.skip.Exception, match="no chromium on this machine"):
        find_chromium()


def test_a_browser_that_is_required_and_missing_fails_the_test(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYTOSEG_BROWSER", "required")
    with pytest.raises(pytest.fail.Exception, match="CYTOSEG_BROWSER=required, but neither"):
        find_chromium()
