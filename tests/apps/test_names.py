"""Unusual names of runs, slides, crops and classes on every page."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.apps.sighted import told_viewer

Review = Callable[..., AppTest]
ODD = (
    "a__b",
    "__",
    "$$STREAMLIT_INTERNAL_KEY_a__b",
    "a b'c\"d\n\u202e",
    "# *x* `y` [z](mailto:evil) :red[x]",
    "é 細胞",
)
"""Streamlit takes two underscores in a component's key for a sign of its own."""


def _rename(run: Path, name: str) -> None:
    """Give the slide, its prediction and the run a name."""
    (slide,) = (run.parents[1] / "slides").iterdir()
    moved = slide.rename(slide.with_name(f"{name}.ome.tif"))
    folder = (run / "predictions" / "board").rename(run / "predictions" / name)
    record = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(record | {"slide": moved.name, "slide_path": str(moved)}))
    run.rename(run.with_name(name))


@pytest.mark.parametrize("name", ODD)
def test_a_run_and_a_slide_may_have_any_name(review: Review, sighted: Path, tmp_path: Path, name: str) -> None:
    _rename(sighted, name)
    app = review("slides", "--base", str(tmp_path))
    assert not app.exception, app.exception
    assert [box.value for box in app.selectbox if box.label != "Compare with"] == [name, name]
    assert told_viewer(app)["width"] == 600
    assert not app.error
    assert not app.warning


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """Give crops, slides and classes of an evaluation other names."""
    if isinstance(value, dict):
        return {key: _renamed(part, names) for key, part in value.items()}
    if isinstance(value, list):
        return [_renamed(part, names) for part in value]
    return names.get(value, value) if isinstance(value, str) else value


@pytest.mark.parametrize("page", ["app", "iou", "confusion", "history", "gallery", "crop", "correct"])
def test_crops_slides_and_classes_may_have_any_name(review: Review, made_run: Path, page: str) -> None:
    path = made_run / "evaluation" / "evaluation.json"
    found = json.loads(path.read_text())
    crops = [crop["crop"] for crop in found["crops"]]
    slides = sorted({crop["slide"] for crop in found["crops"]})
    names = dict(zip(crops, ODD, strict=True)) | dict(zip(slides, ODD[:3], strict=True))
    path.write_text(json.dumps(_renamed(found, names | dict(zip(("nucleus", "debris"), ODD[2:4], strict=True)))))
    shutil.rmtree(made_run / "interpreter")  # it holds the old names of the classes
    app = review(page)
    assert not app.exception, app.exception
    assert not app.error
    if page in ("gallery", "crop"):
        assert ODD[0] in "\n".join(str(part.value) for part in (*app.markdown, *app.selectbox)).replace("\\", "")
