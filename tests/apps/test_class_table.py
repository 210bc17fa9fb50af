"""The table of a new project's classes."""

import importlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

APP = Path(__file__).parents[2] / "apps" / "review"


def test_an_empty_row_is_no_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(APP))
    table = importlib.import_module("class_table")
    rows = [("glass", "#f0f0f0"), (" ink ", None), ("dust", np.nan), (None, None), (np.nan, np.nan), ("", "red")]
    names, colours = table.classes_in(pd.DataFrame(rows, columns=["Name", "Colour"]))
    assert names == ["glass", "ink", "dust"]
    assert colours == {"glass": "#f0f0f0"}
