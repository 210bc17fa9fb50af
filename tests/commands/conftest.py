"""The commands run in this process, and small slides to run them on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from cytoseg.cli import build_app

RECIPE = """\
name: tiny
slides: {folders: [slides]}
crops: {size_px: 32}
diffusion: {dim: 8, dim_mults: [1, 2]}
training: {device: cpu}
classes:
  - {name: background, colour: "#f0f0f0"}
  - {name: cell, colour: "#0072b2"}
fill: background
labels: {crop_px: 32}
"""


@pytest.fixture
def cytoseg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command in tmp_path, where there are tiny.yaml and slides/dark_{a,b}.png of 96x64 px."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(RECIPE, encoding="utf-8")
    pixels = np.full((64, 96, 3), 245, np.uint8)
    pixels[:32, 48:] = (120, 60, 150)  # a quarter holds cells
    Path("slides").mkdir()
    for name in "ab":
        Image.fromarray(pixels).save(f"slides/dark_{name}.png", dpi=(50_800, 50_800))  # 0.5 micrometres per pixel

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(build_app(arguments[0]), list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run
