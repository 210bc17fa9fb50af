"""New project: the form without any run, and the created project."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from streamlit.testing.v1 import AppTest

from cytoseg.recipe import load_recipe
from cytoseg.workflows import new_project
from tests.apps.sighted import make_run

Review = Callable[..., AppTest]


def _texts(app: AppTest) -> str:
    parts = [*app.main.markdown, *app.caption, *app.info, *app.warning, *app.error]
    return "\n".join(str(part.value) for part in parts).replace("\\", "")


def _press(app: AppTest, label: str) -> AppTest:
    (found,) = [button for button in app.main.button if button.label == label]
    after: AppTest = found.click().run(timeout=60)
    assert not after.exception, after.exception
    return after


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """lab/slides/board.ome.tif, and no run at all."""
    make_run(tmp_path / "lab", size_px=600)
    return tmp_path / "lab"


def test_slides_are_shown_and_a_project_begins_with_its_crops(review: Review, lab: Path, tmp_path: Path) -> None:
    app = review("new_project", "--base", str(tmp_path), "--slides", str(lab / "slides"))
    assert app.title[0].value == "New project"
    assert "1 slide." in _texts(app)
    assert "board.ome.tif: 600 x 600, 0.5 µm a pixel" in _texts(app)
    assert len(app.image) == 1
    assert app.number_input[0].value == 0.5
    assert any("rgb(213,94,0)" in part.proto.body for part in app.get("html"))
    app = app.text_input[0].input("mine").run()
    app = _press(app, "Create the project")
    recipe = load_recipe(str(tmp_path / "mine.yaml"))
    assert recipe.class_list().names == ("background", "cytoplasm", "nucleus")
    assert (tmp_path / "runs" / "mine" / "recipe.yaml").is_file()
    assert app.title[0].value == "Annotate"
    assert "There is no crop to annotate yet." in _texts(app)
    app = app.switch_page("app.py").run(timeout=60)
    assert "This run uses the features of the supplied model cytology-base." in _texts(app)
    assert "cytoseg train-ddpm" not in _texts(app)


def test_small_grey_and_long_slides_are_shown_with_what_their_sizes_mean(
    review: Review, lab: Path, tmp_path: Path
) -> None:
    slides = lab / "slides"
    Image.new("RGB", (60, 60), (200, 120, 160)).save(slides / "tiny [1] (b).png")
    grey = np.full((300, 300), 40_000, np.uint16)
    grey[:150] = 9_000
    tifffile.imwrite(slides / "grau__16 Bit ä.tif", grey)
    Image.new("L", (300, 4000), 90).save(slides / "strip.png")
    app = review("new_project", "--base", str(tmp_path), "--slides", str(slides))
    assert not app.exception, app.exception
    said = _texts(app)
    for text in (
        "tiny [1] (b).png: 60 x 60",
        "grau__16 Bit ä.tif: 300 x 300",
        "strip.png: 300 x 4000, its middle",
        "Not stated by grau__16 Bit ä.tif, strip.png, tiny [1] (b).png: assumed to be 0.5 µm a pixel.",
        "limits the crops for training a diffusion model to 56 px a side, instead of 256.",
    ):
        assert text in said
    assert len(app.image) == 4
    app = app.number_input[0].set_value(0.0).run()
    assert "assumed" not in _texts(app)
    Image.new("RGB", (9, 9)).save(slides / "nothing.png")
    assert "one of 9 px a side is too small for training. Remove it." in _texts(app.run())


def test_a_slide_that_was_being_copied_is_opened_again(review: Review, lab: Path, tmp_path: Path) -> None:
    below = lab / "slides" / "monday" / "copied.png"
    below.parent.mkdir()
    Image.new("RGB", (60, 60)).save(lab / "whole.png")
    below.write_bytes((lab / "whole.png").read_bytes()[:-20])
    app = review("new_project", "--base", str(tmp_path), "--slides", str(lab / "slides"))
    assert "copied.png: cannot be opened" in _texts(app)
    below.write_bytes((lab / "whole.png").read_bytes())
    assert "copied.png: 60 x 60" in _texts(app.run())


def test_a_name_that_is_taken_is_reported(review: Review, lab: Path, tmp_path: Path) -> None:
    (tmp_path / "mylab.yaml").touch()
    app = _press(review("new_project", "--base", str(tmp_path), "--slides", str(lab / "slides")), "Create the project")
    assert "a recipe or run of this name already exists" in _texts(app)


def test_without_slides_the_example_is_one_click_away(
    review: Review, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_project, "EXAMPLE_PX", 256)
    monkeypatch.setattr(new_project, "EXAMPLE_SLIDES", 1)
    app = review("new_project", "--base", str(tmp_path))
    assert "No slides in" in _texts(app)
    assert str(tmp_path.parent) not in _texts(app)
    assert [button.label for button in app.main.button] == ["Try an example"]
    app = _press(app, "Try an example")
    assert app.title[0].value == "Annotate"
    assert (tmp_path / "runs" / "example" / "recipe.yaml").is_file()
