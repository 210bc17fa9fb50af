"""Wrong paths, texts and seeds are refused by name in every function of the API."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import cytoseg as cs
from cytoseg.api.arguments import as_overrides, as_path, as_seed, as_texts
from cytoseg.errors import ArrayError, CheckpointError, LabelError, RecipeError, SlideError

Pixels = NDArray[np.uint8]


def test_paths_that_can_be_are_taken() -> None:
    for path in ("nothing/here", Path("~/nothing"), Path.cwd(), "."):
        assert as_path(path, error=SlideError) == Path(path)


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, Path("y" * 300)])
@pytest.mark.parametrize(
    ("call", "error"),
    [
        (cs.open_slide, SlideError),
        (cs.load_bundle, CheckpointError),
        (lambda path: cs.read_labels(path, ["glass", "cell"]), LabelError),
        (cs.train_diffusion, RecipeError),
    ],
)
def test_paths_that_cannot_be_are_refused_in_one_line(call: Callable[..., Any], error: type, path: Any) -> None:
    with pytest.raises(
        error, match=r": is not a path, it is too long or contains a null character\. Check it\.$"
    ) as caught:
        call(path)
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


def test_a_bundle_is_saved_under_a_name(fitted: cs.PixelClassifier) -> None:
    with pytest.raises(CheckpointError, match=r"^'': has no name\. Write the name of a folder\.$"):
        fitted.save("")


@pytest.mark.parametrize("extractors", [None, 5, [1], {"ddpm", "filters"}])
def test_extractors_are_a_list_of_texts(extractors: Any) -> None:
    with pytest.raises(ArrayError, match=r"^extractors: found .*, but a list of texts is wanted\.$"):
        cs.PixelClassifier(extractors=extractors).fit([np.zeros((4, 4), np.uint8)], [np.zeros((4, 4), int)])


def test_a_backbone_is_a_path() -> None:
    images, maps = [np.zeros((4, 4), np.uint8)], [np.zeros((4, 4), int)]
    with pytest.raises(CheckpointError, match=r": is not a path, it is too long"):
        cs.PixelClassifier(backbone="x" * 5000).fit(images, maps)


@pytest.mark.parametrize("path", [None, 5, b"a.png", ["a.png"], np.zeros((4, 4))])
def test_what_is_no_path_is_a_type_error(path: Any) -> None:
    with pytest.raises(TypeError, match="PathLike"):
        cs.open_slide(path)


@pytest.mark.parametrize("overrides", ["training.crops=2", None, 5, [5], {"training.crops": 2}])
def test_overrides_are_a_list_of_texts(overrides: Any) -> None:
    with pytest.raises(RecipeError, match=r"^overrides .*: found .*, but a list of texts is wanted\.$"):
        cs.train_diffusion("quickstart", overrides=overrides)


def test_lists_of_texts_of_any_kind() -> None:
    assert as_overrides(("a=1", "b=2")) == as_overrides(np.array(["a=1", "b=2"])) == ["a=1", "b=2"]
    assert as_texts(iter(["a"]), name="x", error=LabelError) == ["a"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"renames": ["cell"]}, "renames: found ['cell'], but a table is wanted: {'old name': 'new name'}."),
        ({"renames": {1: "cell"}}, "renames (keys): found [1], but a list of texts is wanted."),
        ({"renames": {"1": 1}}, "renames (values): found [1], but a list of texts is wanted."),
        ({"ignore": "cell"}, "ignore: found 'cell', but a list of texts is wanted."),
        ({"ignore": None}, "ignore: found None, but a list of texts is wanted."),
        ({"ignore": [1]}, "ignore: found [1], but a list of texts is wanted."),
        ({"slide_regex": 5}, "slide_regex: found 5, but a regular expression is wanted, as text."),
    ],
)
def test_wrong_rules_of_labels_are_refused(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(LabelError, match=f"^{re.escape(message)}$"):
        cs.read_labels(tmp_path, ["glass", "cell"], **wrong)


@pytest.mark.parametrize("seed", [-1, 1.5, "a", None])
def test_seeds_are_whole_numbers(seed: Any) -> None:
    maps = [np.zeros((2, 2), int)]
    with pytest.raises(ArrayError, match=r"^seed: found .*, but a whole number from 0 is wanted\.$"):
        cs.evaluate(maps, maps, ["glass"], seed=seed)


def test_a_seed_of_numpy_is_a_seed() -> None:
    assert as_seed(np.int64(3)) == as_seed(3) == 3


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_closed_slide_is_not_read(tmp_path: Path, name: str) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name)
    with cs.open_slide(tmp_path / name) as slide:
        assert slide.read((0, 0, 2, 2)).shape == (2, 2, 3)
    slide.close()
    assert slide.size == cs.Size(8, 8)
    with pytest.raises(SlideError, match=rf"^{re.escape(name)}: is closed\. Open it again\.$"):
        slide.read((0, 0, 2, 2))
