import json
import os
import platform
from pathlib import Path

import pytest

from cytoseg.errors import SlideError
from cytoseg.evaluation.run_folder import read_provenance
from cytoseg.running import running_in, running_names
from cytoseg.runs import recorded


def _left_by(folder: Path, pid: int, **changes: object) -> Path:
    content = {"command": "predict", "recipe": "tiny", "started": "2026-03-01T12:00:00+00:00", "host": platform.node()}
    path = folder / f".running-{pid}.json"
    path.write_text(json.dumps({**content, "pid": pid, **changes}))
    return path


def test_a_command_is_running_until_it_ends(tmp_path: Path) -> None:
    with recorded(tmp_path, "train-ddpm", recipe="tiny", seed=0):
        (entry,) = running_in(tmp_path)
        assert (entry.command, entry.recipe, entry.outcome) == ("train-ddpm", "tiny", "running")
        found = read_provenance(tmp_path)
        assert found is not None
        assert (found.recipe, [c.outcome for c in found.commands]) == ("tiny", ["running"])
        names = running_names(tmp_path)
    assert running_in(tmp_path) == []
    assert running_names(tmp_path) != names
    found = read_provenance(tmp_path)
    assert found is not None
    assert [c.outcome_text for c in found.commands] == ["finished"]


def test_a_failed_command_says_why(tmp_path: Path) -> None:
    with pytest.raises(SlideError), recorded(tmp_path, "predict", recipe="tiny", seed=0):
        raise SlideError("a.svs: cut\u202e off.\nsecond line")
    with pytest.raises(ZeroDivisionError), recorded(tmp_path, "predict", recipe="tiny", seed=0):
        raise ZeroDivisionError(9 * "long " * 100)
    found = read_provenance(tmp_path)
    assert found is not None
    first, second = found.commands
    assert first.outcome_text == "failed: a.svs: cut\\u202e off. second line"
    assert second.outcome_text.startswith("failed: ZeroDivisionError: long long")
    assert len(second.message) == 400


def test_a_killed_command_is_distinguished_from_a_running_one_and_forgotten_by_the_next(tmp_path: Path) -> None:
    path = _left_by(tmp_path, 2**22 + 1)  # beyond what a process is numbered
    assert [entry.outcome for entry in running_in(tmp_path)] == ["killed"]
    elsewhere = _left_by(tmp_path, 2**22 + 2, host="another machine")
    assert [entry.outcome for entry in running_in(tmp_path)] == ["killed", "running"]
    with recorded(tmp_path, "evaluate", recipe="tiny", seed=0):
        assert not path.exists()
        assert elsewhere.exists()


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 50_000, '{"command": 3}', " " * 20_000])
def test_a_damaged_file_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / f".running-{os.getpid()}.json").write_text(text)
    (tmp_path / ".running-x.json").mkdir()
    assert running_in(tmp_path) == []
    assert read_provenance(tmp_path) is None
