import json
import shutil
import threading
from pathlib import Path

import pytest

import cytoseg
from cytoseg.runs import (
    MetricsLog,
    read_metrics,
    recorded,
    versions,
)


def test_versions_name_us_python_and_the_libraries() -> None:
    found = versions()
    assert found["cytoseg"] == cytoseg.__version__
    assert {"python", "torch", "monai", "numpy", "tifffile"} <= found.keys()


def _record(folder: Path, error: BaseException | None) -> None:
    with recorded(folder, "evaluate", recipe="tiny", seed=3) as entry:
        entry["crops"] = 30
        if error is not None:
            raise error


def test_commands_are_recorded_one_after_another(tmp_path: Path) -> None:
    _record(tmp_path, None)
    with pytest.raises(ValueError, match="a bug"):
        _record(tmp_path, ValueError("a bug"))
    with pytest.raises(KeyboardInterrupt):
        _record(tmp_path, KeyboardInterrupt())
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["format"], run["recipe"]) == (1, "tiny")
    assert [c["outcome"] for c in run["commands"]] == ["finished", "failed", "interrupted"]
    first = run["commands"][0]
    assert (first["command"], first["seed"], first["crops"]) == ("evaluate", 3, 30)
    assert first["versions"] == versions()
    assert first["started"] <= first["finished"]
    assert first["seconds"] >= 0


def test_commands_that_end_at_once_are_all_recorded(tmp_path: Path) -> None:
    threads = [threading.Thread(target=_record, args=(tmp_path, None)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads((tmp_path / "run.json").read_text())["commands"]) == 8
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def _log(path: Path, counts: list[int], *, keep_until: int | None) -> None:
    log = MetricsLog(path, keep_until=keep_until)
    for crops_seen in counts:
        log.write({"crops_seen": crops_seen, "loss": crops_seen / 8})
    log.close()


def test_resuming_drops_the_rows_that_will_be_written_again(tmp_path: Path) -> None:
    path = tmp_path / "ddpm" / "metrics.jsonl"
    _log(path, [4, 8, 12], keep_until=None)
    _log(path, [12, 16], keep_until=8)
    assert read_metrics(path) == [{"crops_seen": c, "loss": c / 8} for c in (4, 8, 12, 16)]


def test_resuming_drops_rows_whose_count_is_not_numeric(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"crops_seen": "4"}\n{"crops_seen": null}\n{"crops_seen": NaN}\n{"crops_seen": 4}\n[4]\n')
    _log(path, [], keep_until=8)
    assert read_metrics(path) == [{"crops_seen": 4}]


def test_steps_are_counted_likewise(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {step}}}\n' for step in range(1, 6)))
    log = MetricsLog(path, keep_until=3, count="step")
    log.write({"step": 4})
    log.close()
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3, 4]


def test_a_log_that_was_taken_away_goes_on_in_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "ddpm" / "metrics.jsonl"
    log = MetricsLog(path)
    log.write({"step": 1})
    shutil.rmtree(tmp_path / "ddpm")
    log.write({"step": 2})
    log.write({"step": 3})
    log.close()
    assert [row["step"] for row in read_metrics(path)] == [2, 3]


def test_a_new_log_starts_empty(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    _log(path, [4, 8], keep_until=None)
    _log(path, [4], keep_until=None)
    assert read_metrics(path) == [{"crops_seen": 4, "loss": 0.5}]


def test_rows_are_on_disk_at_once(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.write({"step": 1})
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1}]
    log.close()


def test_a_line_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"loss": 1.0}\n{"loss": 0.')
    assert read_metrics(path) == [{"loss": 1.0}]
    assert read_metrics(tmp_path / "missing.jsonl") == []


@pytest.mark.parametrize(
    "content", ["{", "[" * 100_000, "[]", '{"commands": 3}', '{"commands": [NaN]}', "\0", "1" * 9999]
)
def test_a_damaged_record_is_kept_beside_and_a_new_one_begun(tmp_path: Path, content: str) -> None:
    for name in ("run.json.damaged", "run.json.damaged-2"):
        (tmp_path / "run.json").write_text(content)
        with recorded(tmp_path, "evaluate", recipe="tiny", seed=1):
            pass
        assert (tmp_path / name).read_text() == content
        found = json.loads((tmp_path / "run.json").read_text())
        assert [entry["command"] for entry in found["commands"]] == ["evaluate"]
