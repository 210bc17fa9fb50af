"""New projects: slide folders, listing, written recipe, refused input."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cytoseg.errors import CytosegError, RecipeError, SlideError
from cytoseg.geometry import Size
from cytoseg.recipe import load_recipe
from cytoseg.slides.pyramid import write_pyramid
from cytoseg.workflows import new_project
from cytoseg.workflows.new_project import Project, is_strip, list_slides, make_example, make_project, slide_folders
from cytoseg.workflows.recipe_text import Wanted, class_colours

CLASSES = ("background", "cell wall", "nucleus")


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """lab/2026/smears with a slide of 400 x 200 pixels, its left half dark."""
    folder = tmp_path / "lab" / "2026" / "smears"
    picture = np.full((200, 400, 3), 230, np.uint8)
    picture[:, :200] = 60
    write_pyramid(folder / "a.ome.tif", [picture], size=Size(400, 200), mpp=0.25)
    return folder


@pytest.mark.posix
def test_folders_with_slides_are_found_within_the_roots(slides: Path, tmp_path: Path) -> None:
    root = tmp_path / "lab"
    (root / ".hidden").mkdir()
    (root / ".hidden" / "b.tif").touch()
    (root / "deep" / "er" / "and" / "deeper").mkdir(parents=True)
    (root / "deep" / "er" / "and" / "deeper" / "c.tif").touch()
    (root / "link").symlink_to(slides)
    assert slide_folders([root]) == [slides]
    assert slide_folders([root, root / "2026"]) == [slides]
    assert slide_folders([tmp_path / "nowhere"]) == []


def test_slides_are_listed_with_size_pixel_size_and_thumbnail(slides: Path, tmp_path: Path) -> None:
    (slides / "broken.tif").write_bytes(b"II*\0 no more")
    found, total = list_slides(slides, [tmp_path], max_slides=5)
    assert total == 2
    good, broken = found
    assert (good.name, good.size, good.mpp, good.problem) == ("a.ome.tif", Size(400, 200), 0.25, "")
    assert good.thumbnail is not None
    assert good.thumbnail.shape == (160, 320, 3)
    assert good.thumbnail[:, :140].mean() < 100 < 200 < good.thumbnail[:, 180:].mean()
    assert broken.size is None
    assert "broken.tif" in broken.problem


@pytest.mark.parametrize(("width", "height", "shape"), [(30, 2000, (320, 80, 3)), (1000, 10, (80, 320, 3))])
def test_a_strip_is_listed_with_its_middle(tmp_path: Path, width: int, height: int, shape: tuple[int, ...]) -> None:
    picture = np.full((height, width, 3), 230, np.uint8)
    away = (min(width, height) * 4 + 1) // 2
    middle = picture[max(0, height // 2 - away) :, max(0, width // 2 - away) :][: 2 * away, : 2 * away]
    middle[...] = 60
    write_pyramid(tmp_path / "strip.ome.tif", [picture], size=Size(width, height), mpp=0.25)
    (found,), _ = list_slides(tmp_path, [tmp_path], max_slides=5)
    assert found.thumbnail is not None
    assert found.thumbnail.shape == shape
    assert found.thumbnail.max() < 70
    assert found.size is not None
    assert is_strip(found.size)
    assert not is_strip(Size(400, 100))


@pytest.mark.parametrize("base_model", [None, "cytology-base"])
def test_a_project_is_a_recipe_and_a_run_folder(slides: Path, tmp_path: Path, base_model: str | None) -> None:
    wanted = Wanted(0.5, CLASSES, {"nucleus": "#123456"}, base_model)
    run = make_project(Project("mylab", slides, wanted), tmp_path, [tmp_path])
    assert run == tmp_path / "runs" / "mylab"
    recipe = load_recipe(str(tmp_path / "mylab.yaml"))
    assert recipe.slides.folders == (Path("lab/2026/smears"),)
    assert (recipe.slides.mpp, recipe.class_list().names) == (0.5, CLASSES)
    assert recipe.class_list().colours[2] == (0x12, 0x34, 0x56)
    assert recipe.fill == "background"
    assert load_recipe(str(run / "recipe.yaml")).class_list() == recipe.class_list()
    if base_model:
        assert str(recipe.training.init) == base_model
        assert (recipe.feature_timesteps(), recipe.features.extractors) == ((0,), ("ddpm", "filters"))


def test_a_class_without_a_colour_gets_one_that_no_other_class_has() -> None:
    wanted = Wanted(None, ("background", "nucleus", "debris", "mucus"), {"nucleus": "#D55E00"})
    assert class_colours(wanted) == [
        ("background", "#f0f0f0"),
        ("nucleus", "#D55E00"),
        ("debris", "#cc79a7"),
        ("mucus", "#009e73"),
    ]
    many = Wanted(None, [f"class {number}" for number in range(12)], {"class 3": "#56b4e9"})
    assert len({colour.lower() for _, colour in class_colours(many)}) == 12


@pytest.mark.parametrize(
    ("name", "wanted", "message"),
    [
        ("../x", Wanted(None, CLASSES), "name '../x'"),
        ("", Wanted(None, CLASSES), "name ''"),
        ("taken", Wanted(None, CLASSES), "a recipe or run of this name"),
        ("mylab", Wanted(None, ("one",)), "classes: name two or more"),
        ("mylab", Wanted(None, ("one", "t" * 61)), r"^class 't{40}'\.\.\.: has 61 characters\. Use at most 60\.$"),
        ("mylab", Wanted(None, ("one", "one")), "one"),
        ("mylab", Wanted(None, CLASSES, {"nucleus": '#fff"}\nfolder: /tmp'}), "colour of 'nucleus'"),
    ],
)
def test_what_makes_no_project_leaves_nothing(
    slides: Path, tmp_path: Path, name: str, wanted: Wanted, message: str
) -> None:
    (tmp_path / "taken.yaml").touch()
    with pytest.raises(RecipeError, match=message):
        make_project(Project(name, slides, wanted), tmp_path, [tmp_path])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lab", "taken.yaml"]


@pytest.mark.posix
def test_folders_elsewhere_are_refused(slides: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "link").symlink_to(slides)
    for folder in (slides, tmp_path / "own" / "link", tmp_path / "own" / ".." / "lab"):
        with pytest.raises(SlideError, match="is outside the folders"):
            list_slides(folder, [tmp_path / "own"], max_slides=5)
        with pytest.raises(SlideError, match="is outside the folders"):
            make_project(Project("mylab", folder, Wanted(None, CLASSES)), tmp_path, [tmp_path / "own"])


def test_the_example_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_project, "EXAMPLE_PX", 256)
    monkeypatch.setattr(new_project, "EXAMPLE_SLIDES", 1)
    run = make_example(tmp_path)
    recipe = load_recipe(str(run / "recipe.yaml"))
    assert recipe.slides.folders == (Path("example/slides"),)
    assert [path.name for path in (tmp_path / "example" / "slides").iterdir() if "labels" not in path.name] == [
        "made_00.ome.tif"
    ]
    assert make_example(tmp_path) == run
    (run / "recipe.yaml").unlink()
    with pytest.raises(CytosegError, match="a recipe or run of this name"):
        make_example(tmp_path)


def test_two_people_who_make_the_example_at_once_share_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_project, "EXAMPLE_PX", 256)
    monkeypatch.setattr(new_project, "EXAMPLE_SLIDES", 1)
    generate = new_project.generate_slide

    def overtaken(path: Path, **settings: Any) -> Path:
        monkeypatch.setattr(new_project, "generate_slide", generate)
        make_example(tmp_path)
        return generate(path, **settings)

    monkeypatch.setattr(new_project, "generate_slide", overtaken)
    run = make_example(tmp_path)
    assert load_recipe(str(run / "recipe.yaml")).run_folder() == Path("runs/example")


def test_a_stain_is_the_colours_of_cells_and_of_their_densest_parts() -> None:
    picture = np.full((40, 40, 3), 245, np.uint8)
    assert new_project.stain_colours(picture) == ()
    picture[10:30, 10:30] = (200, 120, 160)
    picture[18:22, 18:22] = (60, 40, 120)  # 16 of 400: less than a twentieth
    picture[24:28, 18:22] = (60, 40, 120)
    assert new_project.stain_colours(picture) == ((200, 120, 160), (60, 40, 120))
    picture[0, 0] = (0, 0, 0)
    assert new_project.stain_colours(picture[:9]) == ((0, 0, 0), (0, 0, 0))
