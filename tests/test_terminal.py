import threading
from types import SimpleNamespace
from typing import cast

import pytest
from rich.progress import Task

from cytoseg import terminal
from cytoseg.terminal import Bar, cells, console, one_by_one, progress, say, say_estimate, say_next, weighted_progress


def test_a_bar_shows_count_and_note() -> None:
    with console.capture() as shown, progress("a[1].tif", 5) as bar:
        bar.update(2, "loss 0.5")
        bar.update_of(3, 4)
    assert "a[1].tif" in shown.get()
    assert "3/4" in shown.get()
    assert "loss 0.5" in shown.get()


def test_a_bar_of_a_slide_with_an_odd_name_stays_one_printable_line() -> None:
    with console.capture() as shown, progress("a\nb\x1b[31m.tif", 5) as bar:
        bar.update(2, "c\x1b]0;title\x07\u202e")
        assert bar.line().startswith("a b\\x1b[31m.tif 2 of 5, ")
        assert bar.line().endswith(" to go, c\\x1b]0;title\\x07\\u202e")
    assert "a b\\x1b[31m.tif" in shown.get()
    assert "\u202e" not in shown.get()
    assert "\x07" not in shown.get()


def test_what_is_said_is_not_taken_for_markup() -> None:
    with console.capture() as shown:
        say("slides [bold] of 12 files")
    assert shown.get() == "slides [bold] of 12 files\n"


def test_the_next_command_can_be_copied() -> None:
    with console.capture() as shown:
        say_next("predict", "my lab.yaml", "SLIDE")
    assert shown.get() == "Next: cytoseg predict 'my lab.yaml' SLIDE\n"


def test_only_what_takes_long_is_estimated() -> None:
    with console.capture() as shown:
        say_estimate(59)
        say_estimate(3720, what="3 trainings")
    assert shown.get() == "About 1 h 02 min for 3 trainings on this machine.\n"


@pytest.mark.parametrize(
    ("done", "fraction_left", "moved_s", "elapsed_s", "left"),
    [
        (1, None, 60, 60, 120),
        (1, None, 60, 100, 80),  # a second unit that is as long as the first is in work
        (1, None, 60, 180, None),  # and takes longer than all were expected to
        (3, None, 180, 200, 0),
        (2, 0.75, 100, 100, 300),  # of uneven units three quarters of the work remain
        (2, 0.75, 100, 350, 50),
        (2, 0.75, 100, 900, None),
    ],
)
def test_the_remaining_time_does_not_grow_while_one_unit_is_in_work(
    done: int, fraction_left: float | None, moved_s: float, elapsed_s: float, left: float | None
) -> None:
    fields = {"before": 0, "before_s": 0.0, "moved_s": moved_s, "fraction_left": fraction_left}
    task = SimpleNamespace(completed=done, total=3, elapsed=elapsed_s, fields=fields)
    assert terminal._seconds_left_of(cast(Task, task)) == left


def test_a_pipe_gets_a_line_also_while_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "LOG_LINE_S", 0.02)
    said: list[str] = []
    spoken = threading.Event()

    def hear(text: str) -> None:
        said.append(text)
        spoken.set()

    monkeypatch.setattr(terminal, "say", hear)
    monkeypatch.setattr(terminal, "seconds_left", lambda *_: 60.0)
    with progress("compare", 4) as bar:
        bar.update(2, "U-Net from scratch")
        spoken.clear()
        assert spoken.wait(10)
    assert said[-1].startswith("compare 2 of 4, 0.")
    assert " s so far, about " in said[-1]
    assert said[-1].endswith(" to go, U-Net from scratch")
    number = len(said)
    spoken.clear()
    assert not spoken.wait(0.1)
    assert len(said) == number


def test_what_was_done_by_an_earlier_call_does_not_count_for_the_pace() -> None:
    with progress("crops", 100, done=80) as bar:
        bar.update(81)
        assert "to go" not in bar.line()
        bar.update(90)
        assert "to go" in bar.line()


def test_what_is_said_and_shown_in_tables_is_printable_and_cells_are_short(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\x1b[31m\u202eb\nc")
    assert capsys.readouterr().out == "a\\x1b[31m\\u202eb\nc\n"
    (cell,) = cells("\x1b]0;title\x07" + "x" * 5000)
    assert cell.isprintable()
    assert len(cell) == 200


def _clocked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let a test move the clock of the bars."""
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


def test_a_long_command_says_once_how_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = _clocked(monkeypatch)
    said: list[str] = []
    monkeypatch.setattr(terminal, "say", said.append)
    with progress("crops", 1000) as bar:
        for done, seconds in ((10, 1.0), (20, 2.0), (40, 4.0), (400, 80.0)):
            now[0] = seconds
            bar.update(done)
    assert said == ["About 1 min 40 s for crops on this machine."]


def test_what_was_loaded_before_the_first_unit_is_no_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    now = _clocked(monkeypatch)
    said: list[str] = []
    monkeypatch.setattr(terminal, "say", said.append)
    with progress("tiles", 1000) as bar:
        now[0] = 60.0  # the model was loaded
        bar.update(0)
        for done, seconds in ((10, 61.0), (20, 62.0), (40, 64.0)):
            now[0] = seconds
            bar.update(done)
    assert said == ["About 1 min 40 s for tiles on this machine."]


def test_a_phase_is_estimated_by_its_own_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed slide: its networks load, 900 of 1000 tiles are done before, and its objects are faster."""
    now = _clocked(monkeypatch)
    said: list[str] = []
    monkeypatch.setattr(terminal, "say", said.append)
    monkeypatch.setattr(terminal.console, "get_time", lambda: now[0])
    with progress("slide", 1) as bar:
        now[0] = 60.0
        for done, seconds in ((900, 60.0), (910, 70.0), (920, 80.0), (930, 90.0)):
            now[0] = seconds
            bar.update_phase("tiles", done, 1000)
        assert bar.line().endswith("about 1 min 10 s to go, tiles")
        now[0] = 200.0
        bar.update_phase("objects", 0, 4096)
        now[0] = 210.0
        bar.update_phase("objects", 2048, 4096)
        assert bar.line() == "slide 2048 of 4096, 3 min 30 s so far, about 10 s to go, objects"
    assert said == ["About 1 min 40 s for slide on this machine."]


def test_what_an_earlier_call_did_is_no_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    now = _clocked(monkeypatch)
    said: list[str] = []
    monkeypatch.setattr(terminal, "say", said.append)
    with progress("crops", 1000) as bar:
        bar.resume_at(900)
        for done, seconds in ((910, 10.0), (920, 20.0), (930, 30.0)):
            now[0] = seconds
            bar.update(done)
    assert said == ["About 1 min 40 s for crops on this machine."]


def test_uneven_units_and_short_work_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    now = _clocked(monkeypatch)
    said: list[str] = []
    monkeypatch.setattr(terminal, "say", said.append)
    for even, total in ((False, 1000), (True, 30)):
        with progress("compare", total, even=even) as bar:
            for done in (10, 20):
                now[0] += 10.0
                bar.update(done)
    assert said == []


def test_parts_of_a_batch_in_work_count_for_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = _clocked(monkeypatch)
    said: list[str] = []
    monkeypatch.setattr(terminal, "say", said.append)
    with progress("samples", 200) as bar:
        for step in (1, 2, 3, 4):
            now[0] = 5.0 * step
            bar.update(0, f"step {step} of 10", part=100 * step / 10)
        assert said == ["About 1 min 40 s for samples on this machine."]
        assert bar.line().startswith("samples 0 of 200, 20 s so far, about ")
    fields = {"before": 0, "before_s": 0.0, "moved_s": 20.0, "part": 40.0}
    task = SimpleNamespace(completed=0, total=200, elapsed=20.0, fields=fields)
    assert terminal._seconds_left_of(cast(Task, task)) == 80.0


def test_uneven_work_is_estimated_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    now = _clocked(monkeypatch)
    said: list[str] = []
    monkeypatch.setattr(terminal, "say", said.append)
    with weighted_progress("compare", [30.0, 0.0, 90.0], units="trainings") as on_unit:
        assert said == ["About 2 min 00 s for 2 trainings on this machine."]
        on_unit("forest", 0, 3)
        now[0] = 60.0
        on_unit("kept", 1, 3)
        on_unit("U-Net", 2, 3)
    with weighted_progress("compare", [0.0, 0.0], units="trainings") as on_unit:
        on_unit("forest", 1, 2)
    assert len(said) == 1


def test_the_bar_of_uneven_work_says_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = _clocked(monkeypatch)
    left: list[str] = []
    monkeypatch.setattr(Bar, "set_fraction_left", lambda _, share: left.append(f"{share:.2f}"))
    with weighted_progress("compare", [30.0, 0.0, 90.0], units="trainings") as on_unit:
        for done in range(4):
            now[0] += 1.0
            on_unit("some", done, 3)
    assert left == ["1.00", "0.75", "0.75", "0.00"]


def test_between_slides_the_time_of_the_others_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    now = _clocked(monkeypatch)
    said: list[str] = []
    monkeypatch.setattr(terminal, "say", said.append)
    for taken_s in one_by_one((0.1, 50.0, 70.0, 30.0), "slides"):
        now[0] += taken_s
    # The first was done before.
    assert said == [
        "2 of 4 slides are done; the others take about 1 min 40 s.",
        "3 of 4 slides are done; the others take about 1 min 00 s.",
    ]


def test_of_uneven_units_the_work_ahead_counts() -> None:
    with progress("compare", 4, even=False) as bar:
        bar.update(2)
        bar.set_fraction_left(0.95)
        assert "to go" not in bar.line()
        bar.set_fraction_left(0.75)
        assert "to go" in bar.line()
