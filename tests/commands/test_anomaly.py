import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from cytoseg.commands import anomaly
from cytoseg.predict.slide_task import SlideTask

CytosegCommand = Callable[..., Result]


def test_at_least_a_slide_must_be_named(cytoseg: CytosegCommand) -> None:
    result = cytoseg("anomaly", "tiny.yaml", "training.device=cpu")
    assert result.exit_code == 2
    assert result.stderr == (
        "cytoseg: anomaly: no slide was named. Name slides to score, or normal ones with --normal.\n"
    )
    assert not Path("runs").exists()


def test_a_run_without_a_bundle_says_what_to_do(cytoseg: CytosegCommand) -> None:
    result = cytoseg("anomaly", "tiny.yaml", "slides", "--normal", "slides/dark_a.png")
    assert result.exit_code == 2
    assert "no bundle yet. Run `cytoseg train-interpreter`" in result.stderr


def test_a_wrong_slide_is_reported_before_a_network_is_loaded(cytoseg: CytosegCommand) -> None:
    result = cytoseg("anomaly", "tiny.yaml", "--normal", "lost.tif")
    assert result.exit_code == 2
    assert "lost.tif: no such file" in result.stderr


@pytest.mark.parametrize(
    ("named", "status", "said"),
    [
        (["slides/dark_a.png"], 2, "cytoseg: dark_a.png: is damaged.\n"),
        (["slides"], 1, "cytoseg: anomaly: 1 of 2 slides failed, the others are done.\n  dark_a.png: is damaged.\n"),
    ],
)
def test_a_slide_that_fails_is_reported(
    cytoseg: CytosegCommand, monkeypatch: pytest.MonkeyPatch, named: list[str], status: int, said: str
) -> None:
    def score(_scorer: object, slides: list[Path], _thresholds: object) -> list[tuple[Path, str | None]]:
        return [(path, f"{path.name}: is damaged." if "dark_a" in path.name else None) for path in slides]

    shown: list[SlideTask] = []
    monkeypatch.setattr(anomaly, "load_scorer", lambda *_: None)
    monkeypatch.setattr(anomaly, "known_thresholds", lambda *_: type("Known", (), {"slides": ()}))
    monkeypatch.setattr(anomaly, "score_slides", score)
    monkeypatch.setattr(anomaly, "_tell_slide", shown.append)
    result = cytoseg("anomaly", "tiny.yaml", *named)
    assert (result.exit_code, result.stderr) == (status, said)
    assert len(shown) == len(named) - 1 + (named == ["slides"])
    (entry,) = json.loads(Path("runs/tiny/run.json").read_text())["commands"]
    assert entry["failed"] == 1
