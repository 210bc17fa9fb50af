import importlib.util
import shutil
from collections.abc import Callable

import pytest
import torch
from typer.testing import Result

import cytoseg as package

CytosegCommand = Callable[..., Result]


def rows(result: Result) -> dict[str, list[str]]:
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines() if "│" in line]
    return {line[0]: line[1:] for line in lines}


def test_doctor_shows_versions_and_devices(cytoseg: CytosegCommand) -> None:
    result = cytoseg("doctor")
    assert result.exit_code == 0, result.output
    found = rows(result)
    assert found["cytoseg"][0] == package.__version__
    assert found["torch"][0] == torch.__version__
    assert "cores" in found["processor"][0]
    assert "free here" in found["disk"][0]
    assert found["torchvision"][0] in ("healthy", "mended: built for another torch")


def test_doctor_says_how_to_get_what_is_missing(cytoseg: CytosegCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = rows(cytoseg("doctor"))
    assert found["openslide: NDPI, MRXS, SCN and other vendors' slides"] == [
        "missing",
        "pip install 'cytoseg[openslide]'",
    ]
    assert found["streamlit: the review app"] == ["missing", "pip install 'cytoseg[app]'"]
    assert found["labelme: annotating"] == ["missing", "pip install 'cytoseg[label]'"]
