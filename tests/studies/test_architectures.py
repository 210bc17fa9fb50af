from pathlib import Path

import pytest

from cytoseg.studies.architectures import (
    CONTROL,
    VariantOutcome,
    VariantRow,
    as_markdown,
    outcome_or_stored,
    verdict,
    write_study,
)


def _outcome(kid: float | None, *, loss: float = 0.2, iou: tuple[float | None, ...] = (0.5, None)) -> VariantOutcome:
    return VariantOutcome(1_234_567, 2000, 0.25, {"0-9": loss}, kid, None if kid is None else 8 * kid, iou)


ROWS = (
    VariantRow("base", (_outcome(1.0), _outcome(1.4, loss=0.3))),
    VariantRow("adagn", (_outcome(1.1, loss=0.25), _outcome(1.2, loss=0.25))),
    VariantRow("cosine", (_outcome(0.5, loss=0.25, iou=(0.9, None)), _outcome(0.7, loss=0.25, iou=(0.7, None)))),
    VariantRow(CONTROL, (_outcome(1.2), _outcome(0.9, loss=0.21))),
)


def test_only_what_lies_outside_the_control_counts() -> None:
    assert verdict(ROWS, ("paper", "ink")) == (
        "Outside the range of the base over seeds: cosine KID 0.600 (base 0.900 to 1.400); "
        "cosine FID 4.800 (base 7.200 to 11.200); cosine IoU paper 0.800 (base 0.500 to 0.500). "
        "All others lie within it."
    )
    assert verdict([ROWS[0], ROWS[1], ROWS[3]], ("paper", "ink")) == (
        "No variant lies outside the range of the base over seeds."
    )
    assert verdict(ROWS[:3], ()) == "Without a control, noise cannot be distinguished from real differences."


def test_the_table_has_means_and_spreads() -> None:
    text = as_markdown(ROWS, ("paper", "a|b"), floor=(0.05, 1.5), note="Each trained for 2,000 crops.")
    head, _, base, *_ = text.splitlines()
    assert head == (
        "| variant | seeds | weights | crops | s a step | loss t 0-9 | KID | FID | IoU paper | IoU a&#124;b |"
    )
    assert base == (
        "| base | 2 | 1,234,567 | 2,000 | 0.250 [0.250-0.250] | 0.250 [0.200-0.300] | 1.200 [1.000-1.400] "
        "| 9.600 [8.000-11.200] | 0.500 [0.500-0.500] | n/a |"
    )
    assert "Real crops against other real crops: KID 0.050, FID 1.50." in text
    assert text.endswith("Each trained for 2,000 crops.\n")


def test_table_and_figure_are_written(tmp_path: Path) -> None:
    write_study(tmp_path, ROWS, ("paper", "ink"), floor=(0.05, 1.5), note="")
    lines = (tmp_path / "architectures.csv").read_text(encoding="utf-8-sig").splitlines()
    assert lines[0] == "variant,seed,parameters,crops,step_s,loss 0-9,kid,fid,iou 0,iou 1"
    assert len(lines) == 9
    assert lines[1].startswith("base,0,1234567")
    assert (tmp_path / "architectures.png").stat().st_size > 1000


def test_without_labels_there_is_no_iou() -> None:
    rows = [VariantRow("base", (_outcome(1.0, iou=()),)), VariantRow(CONTROL, (_outcome(1.0, iou=()),))]
    assert "IoU" not in as_markdown(rows, ("paper", "ink"), floor=(0.0, 0.0), note="").splitlines()[0]


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    done = []

    def train() -> VariantOutcome:
        done.append(1)
        return _outcome(1.0)

    path = tmp_path / "runs" / "base-0.json"
    first = outcome_or_stored(path, {"seed": 0}, train)
    assert outcome_or_stored(path, {"seed": 0}, train) == first == _outcome(1.0)
    assert len(done) == 1
    outcome_or_stored(path, {"seed": 1}, train)
    assert len(done) == 2


@pytest.mark.parametrize("text", ["", "{", '{"digest": "another"}'])
def test_a_damaged_outcome_is_measured_again(tmp_path: Path, text: str) -> None:
    path = tmp_path / "base-0.json"
    path.write_text(text)
    assert outcome_or_stored(path, {"seed": 0}, lambda: _outcome(2.0)).kid == 2.0


def test_samples_that_are_not_finite_have_no_score(tmp_path: Path) -> None:
    path = tmp_path / "base-0.json"
    found = outcome_or_stored(path, {"seed": 0}, lambda: _outcome(None))
    assert outcome_or_stored(path, {"seed": 0}, lambda: _outcome(1.0)) == found
    assert VariantRow("base", (found, _outcome(2.0))).of("kid") == [2.0]
