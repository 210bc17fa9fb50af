"""Pages with twelve classes, whose names are as long as allowed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from cytoseg.classes import MOST_CHARACTERS

Review = Callable[..., AppTest]
NAMES = [f"{number} superficial squamous cell with".ljust(MOST_CHARACTERS, "n") for number in range(12)]


def _grow(record: dict[str, Any]) -> None:
    """Give an evaluation of four classes twelve, of which the new ones occur nowhere."""
    more = len(NAMES) - 4
    record["classes"] = [{"name": name, "colour": [20 * i, 100, 200]} for i, name in enumerate(NAMES)]
    for method in record["methods"]:
        absent = method["classes"][-1]
        method["classes"] += [absent] * more
        method["classes"] = [one | {"name": name} for one, name in zip(method["classes"], NAMES, strict=True)]
        rows = [row + [0] * more for row in method["confusion"]]
        method["confusion"] = rows + [[0] * len(NAMES)] * more
        for slide in method["slides"]:
            slide["iou"] += [None] * more
    for crop in record["crops"]:
        crop["iou"] += [None] * more


@pytest.fixture
def twelve(made_run: Path) -> Path:
    path = made_run / "evaluation" / "evaluation.json"
    record = json.loads(path.read_text())
    _grow(record)
    path.write_text(json.dumps(record))
    return made_run


@pytest.mark.usefixtures("twelve")
def test_the_confusion_matrix_fits_the_smallest_screen(review: Review) -> None:
    app = review("confusion")
    assert not app.exception, app.exception
    assert not app.error
    layout = json.loads(app.get("plotly_chart")[0].proto.spec)["layout"]
    assert layout["width"] <= 930  # what 1280 px leave beside the list of pages
    for axis in ("xaxis", "yaxis"):
        assert layout[axis]["tickvals"] == NAMES
        assert layout[axis]["ticktext"][0] == "0 superficial squamous …"


@pytest.mark.usefixtures("twelve")
@pytest.mark.parametrize("page", ["iou", "gallery", "crop", "correct"])
def test_the_pages_of_the_scores_show_them(review: Review, page: str) -> None:
    app = review(page)
    assert not app.exception, app.exception
    assert not app.error
