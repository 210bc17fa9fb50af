"""The page Slides: choices, viewer arguments, and messages."""

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from tests.apps.sighted import told_viewer

Review = Callable[..., AppTest]


@pytest.fixture
def page(review: Review, tmp_path: Path, sighted: Path) -> Callable[[], AppTest]:
    """Open the page over the made run."""

    def opened() -> AppTest:
        app = review("slides", "--base", str(tmp_path))
        assert not app.exception, app.exception
        return app

    return opened


def _texts(app: AppTest) -> str:
    parts = [*app.main.markdown, *app.caption, *app.info, *app.warning, *app.error, *app.title, *app.header]
    return "\n".join(str(part.value) for part in parts).replace("\\", "")


def test_the_viewer_gets_the_slide_and_its_layers(page: Callable[[], AppTest]) -> None:
    told = told_viewer(page())
    assert told["slide"] == "/tiles/sighted/slide/board"
    assert (told["width"], told["height"], told["finest"], told["mpp"]) == (600, 600, 2, 0.5)
    assert [(layer["name"], layer["query"], layer["opacity"]) for layer in told["layers"]] == [
        ("classes", "&classes=1", 0.5),
        ("uncertainty", "", 0.0),
        ("truth", "&classes=1", 0.0),
    ]
    assert told["jump"] is None


def test_a_pixel_size_that_only_the_recipe_states_is_used_and_said(
    page: Callable[[], AppTest], sighted: Path, tmp_path: Path
) -> None:
    assert "assumes" not in _texts(page())
    Image.new("RGB", (60, 60), (90, 90, 90)).save(tmp_path / "slides" / "a.png")
    recipe = sighted / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("folders: [slides]", "folders: [slides]\n  assume_mpp: 0.25"))
    shutil.rmtree(sighted / "predictions")
    app = page()
    assert told_viewer(app)["mpp"] == 0.25
    assert "The slide does not state its pixel size; the recipe assumes 0.25 µm." in _texts(app)


def test_layers_opacity_and_classes_can_be_chosen(page: Callable[[], AppTest]) -> None:
    app = page()
    assert [toggle.label for toggle in app.toggle] == ["Class map", "Uncertainty", "Ground truth"]
    assert "look at bright places" in app.toggle[1].help
    assert not app.toggle[0].help
    assert [box.label for box in app.checkbox] == ["background", "cell"]
    app.toggle[2].set_value(True).run()
    app.slider[2].set_value(80).run()
    app.toggle[0].set_value(False).run()
    app.checkbox[0].check().run()
    assert [(layer["query"], layer["opacity"]) for layer in told_viewer(app)["layers"]] == [
        ("&classes=0,1", 0.0),
        ("", 0.0),
        ("&classes=0,1", 0.8),
    ]


def test_a_place_can_be_gone_to_twice(page: Callable[[], AppTest]) -> None:
    app = page()
    for number in (1, 2):
        for field, value in zip(app.number_input, (100, 200, 50), strict=True):
            field.set_value(value)
        next(button for button in app.button if button.label == "Go").click().run()
        assert told_viewer(app)["jump"] == {"slide": "board", "x": 100, "y": 200, "width": 50, "number": number}


def test_a_link_opens_a_run_a_slide_and_a_place(review: Review, sighted: Path, tmp_path: Path) -> None:
    shutil.copytree(sighted, sighted.with_name("another"))
    shutil.copy(tmp_path / "slides" / "board.ome.tif", tmp_path / "slides" / "second.ome.tif")
    app = review("app", "--base", str(tmp_path))
    viewer = importlib.import_module("viewer")
    link = viewer.link(sighted, "second", {"x": 300, "y": 20, "width": 100})
    assert link == "/slides?run=sighted&slide=second&x=250&y=0&width=100"
    app.query_params.update(dict(pair.split("=") for pair in link.partition("?")[2].split("&")))
    app.switch_page("pages/slides.py").run()
    assert app.sidebar.selectbox[0].value == "sighted"
    told = told_viewer(app)
    assert (told["slide"], told["jump"]["x"], told["jump"]["y"], told["jump"]["width"]) == (
        "/tiles/sighted/slide/second",
        250,
        0,
        100,
    )
    assert not app.query_params


def test_a_link_of_nonsense_is_passed_over(review: Review, sighted: Path, tmp_path: Path) -> None:
    app = review("app", "--base", str(tmp_path))
    app.query_params.update({"run": "../..", "slide": "/etc/passwd", "x": "-1", "y": "NaN", "width": "1e9"})
    app.switch_page("pages/slides.py").run()
    assert not app.exception
    told = told_viewer(app)
    assert (told["slide"], told["jump"]) == ("/tiles/sighted/slide/board", None)


def test_a_slide_that_was_not_predicted_can_be_looked_at(page: Callable[[], AppTest], tmp_path: Path) -> None:
    shutil.copy(tmp_path / "slides" / "board.ome.tif", tmp_path / "slides" / "a new one.ome.tif")
    app = page()
    assert app.main.selectbox[0].options == ["board", "a new one"]
    assert "1 of 2 predicted; these come first" in _texts(app)
    app.main.selectbox[0].select("a new one").run()
    told = told_viewer(app)
    assert (told["slide"], told["layers"]) == ("/tiles/sighted/slide/a%20new%20one", [])
    assert "cytoseg predict RECIPE SLIDE" in app.info[0].value
    assert not app.toggle


def test_a_deleted_slide_is_said_in_a_sentence(page: Callable[[], AppTest], tmp_path: Path) -> None:
    (tmp_path / "slides" / "board.ome.tif").unlink()
    app = page()
    texts = _texts(app)
    assert not app.get("bidi_component")
    assert "The predicted slide was moved or replaced" in texts
    assert str(tmp_path) not in texts
    assert len(app.dataframe) >= 2  # the summary is still there


def test_a_changed_slide_is_shown_without_its_old_maps(page: Callable[[], AppTest], tmp_path: Path) -> None:
    with (tmp_path / "slides" / "board.ome.tif").open("ab") as file:
        file.write(b"more")
    app = page()
    assert app.main.selectbox[0].options == ["board"]
    assert "was moved or replaced" in _texts(app)
    assert [layer["name"] for layer in told_viewer(app)["layers"]] == ["truth"]


def test_a_place_is_forgotten_on_another_slide(page: Callable[[], AppTest], tmp_path: Path) -> None:
    shutil.copy(tmp_path / "slides" / "board.ome.tif", tmp_path / "slides" / "second.ome.tif")
    app = page()
    next(button for button in app.button if button.label == "Go").click().run()
    assert told_viewer(app)["jump"] is not None
    app.main.selectbox[0].select("second").run()
    assert told_viewer(app)["jump"] is None


def test_a_damaged_slide_is_said_in_a_sentence(page: Callable[[], AppTest], tmp_path: Path, sighted: Path) -> None:
    shutil.rmtree(sighted / "predictions")
    (tmp_path / "slides" / "board.ome.tif").write_bytes(b"II*\0nonsense")
    app = page()
    assert "board.ome.tif: " in app.warning[0].value.replace("\\", "")
    assert str(tmp_path) not in _texts(app)


def test_a_slide_that_never_answers_is_given_up(
    page: Callable[[], AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(tmp_path / "slides" / "board.ome.tif", tmp_path / "slides" / "cat.ome.tif")
    app = page()
    tiles, service, back = (
        importlib.import_module("tiles"),
        importlib.import_module("cytoseg.viewer.tile_service"),
        Event(),
    )
    monkeypatch.setattr(tiles.LANES, "limit_s", 0.5)
    monkeypatch.setattr(service, "open_slide", lambda path: back.wait(30))
    app.selectbox[0].select("cat").run()
    assert app.warning[0].value.replace("\\", "").startswith("The disk has not answered for 0.5 s.")
    app.selectbox[0].select("board").run()  # known from before
    assert told_viewer(app)["width"] == 600
    back.set()


@pytest.mark.posix
def test_a_link_out_of_the_folders_is_counted(page: Callable[[], AppTest], tmp_path: Path) -> None:
    shutil.copy(tmp_path / "slides" / "board.ome.tif", tmp_path / "secret.ome.tif")
    (tmp_path / "slides" / "link.ome.tif").symlink_to(tmp_path / "secret.ome.tif")
    app = page()
    assert app.main.selectbox[0].options == ["board"]
    assert "Links that point outside the recipe's folders and are not shown: 1." in _texts(app)


def test_a_damaged_map_is_said_and_the_slide_shown(page: Callable[[], AppTest], sighted: Path, tmp_path: Path) -> None:
    (sighted / "predictions" / "board" / "class_map.ome.tif").write_bytes(b"II*\0nonsense")
    app = page()
    assert "class_map.ome.tif: " in _texts(app)
    assert str(tmp_path) not in _texts(app)
    assert [layer["name"] for layer in told_viewer(app)["layers"]] == ["truth"]


@pytest.mark.usefixtures("review")
def test_another_page_can_lead_to_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    viewer, gone_to = importlib.import_module("viewer"), list[str]()
    streamlit = SimpleNamespace(session_state={}, switch_page=gone_to.append)
    monkeypatch.setattr(viewer, "st", streamlit)
    viewer.go_to("board", x=10, y=20, width=30)
    assert gone_to == ["pages/slides.py"]
    assert streamlit.session_state == {"slide": "board", "place": viewer.Jump("board", 10, 20, 30, 1)}
