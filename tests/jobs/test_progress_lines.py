"""Parsing progress lines."""

import pytest

from cytoseg.duration_text import PROGRESS_VARIABLE
from cytoseg.jobs.progress_lines import Progress, last_word, read_line
from cytoseg.terminal import progress


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("features 3 of 10, 12 s so far, about 28 s to go", Progress("features", 3, 10, "28 s", "")),
        ("crops 0 of 1000, 1 s so far, loss 0.1", Progress("crops", 0, 1000, "", "loss 0.1")),
        ("a 1 of 2.svs 5 of 9, 1 min so far\n", Progress("a 1 of 2.svs", 5, 9, "", "")),
        ("3 of 4 slides failed", None),
        ("", None),
    ],
)
def test_progress_lines_are_distinguished_from_others(line: str, expected: Progress | None) -> None:
    assert read_line(line) == expected


def test_what_commands_write_is_what_is_read() -> None:
    with progress("slides", 4) as bar:
        bar.update(3, "smear_A")
        assert read_line(bar.line()) == Progress("slides", 3, 4, read_line(bar.line()).left, "smear_A")  # type: ignore[union-attr]


def test_the_commands_own_word_on_its_failure_stays() -> None:
    said = ""
    for line in ("Traceback\n", "ValueError: x\n", "cytoseg: one line\n", "later\n", "\n"):
        said = last_word(said, line)
    assert said == "cytoseg: one line"
    assert last_word("first", "\x1b[31mred\n") == "[31mred"


def test_the_app_asks_for_more_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(PROGRESS_VARIABLE, "not a number")
    with progress("slides", 4):
        pass
    assert "so far" not in capsys.readouterr().out
