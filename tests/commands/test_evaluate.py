"""The table that ``cytoseg evaluate`` prints."""

import io
from typing import Any

import pytest
from rich.console import Console

from cytoseg.commands import evaluate


def _evaluation() -> dict[str, Any]:
    score = {"iou": 0.981, "iou_low": 0.972, "iou_high": 0.994}
    names = [{"name": name} for name in ("background", "cytoplasm", "nucleus")]
    method = {"classes": [score] * 3, "miou": 0.912, "miou_low": 0.903, "miou_high": 0.924}
    return {
        "classes": names,
        "test_crops": 16,
        "test_slides": 4,
        "methods": [{"title": "DDPM features, 10 MLPs", **method}, {"title": "Random forest, 72 filters", **method}],
    }


@pytest.mark.parametrize("width", [60, 80])
def test_no_digit_of_an_interval_is_cut_off(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    written = io.StringIO()
    monkeypatch.setattr(evaluate, "console", Console(file=written, width=width))
    evaluate._show(_evaluation())
    assert "…" not in written.getvalue()
    assert written.getvalue().count("(0.97-0.99") == 6
    assert written.getvalue().count("(0.90-0.9") == 2


def test_a_terminal_of_80_columns_shows_whole_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(evaluate, "console", Console(file=written, width=80))
    evaluate._show(_evaluation())
    assert written.getvalue().count("(0.97-0.99)") == 6
    assert written.getvalue().count("(0.90-0.92)") == 2
