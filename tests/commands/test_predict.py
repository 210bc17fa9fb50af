from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

CytosegCommand = Callable[..., Result]


def test_a_slide_may_have_an_equals_sign_in_its_name(cytoseg: CytosegCommand) -> None:
    Path("slides/dark_a.png").rename("slides/stain=pap.png")
    result = cytoseg("predict", "tiny.yaml", "slides/stain=pap.png", "predict.tile_px=32", "predict.overlap_px=8")
    assert result.exit_code == 2
    assert "runs/tiny/interpreter/bundle" in result.stderr  # the slide was accepted; only the bundle is missing


def test_all_wrong_slides_are_told_before_any_is_predicted(cytoseg: CytosegCommand) -> None:
    result = cytoseg("predict", "tiny.yaml", "slides/dark_a.png", "lost.tif", "slides/*.svs")
    assert result.exit_code == 2
    head, *lines = result.stderr.splitlines()
    assert head == "cytoseg: predict: 2 problems, nothing was written."
    assert [line.strip().split(":")[0] for line in lines] == ["lost.tif", "slides/*.svs"]


def test_at_least_a_slide_must_be_named(cytoseg: CytosegCommand) -> None:
    result = cytoseg("predict", "tiny.yaml")
    assert result.exit_code == 2
    assert "Missing argument" in result.stderr
