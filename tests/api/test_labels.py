import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cytoseg as cs
from cytoseg.errors import LabelError

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One image of 4x4 px with a rectangle over its two middle columns, annotated in labelme."""
    Image.fromarray(PIXELS).save(tmp_path / "12_a.png")
    shape = {"label": "cell", "shape_type": "rectangle", "points": [[1, 0], [3, 4]]}
    content = {"version": "5.5.0", "shapes": [shape], "imagePath": "12_a.png", "imageData": None}
    (tmp_path / "12_a.json").write_text(json.dumps({**content, "imageWidth": 4, "imageHeight": 4}), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("as_given", [str, Path])
def test_labelme_files_become_arrays(folder: Path, as_given: type) -> None:
    labels = cs.read_labels(as_given(folder), ["glass", "cell"], fill="glass", slide_regex=r"^(\d+)_")
    assert labels.label_maps[0].tolist() == [[0, 1, 1, 0]] * 4
    np.testing.assert_array_equal(labels.images[0], PIXELS)
    assert (labels.groups, labels.names, labels.classes) == (["12"], ["12_a"], ("glass", "cell"))


def test_labels_show_no_pixels_in_a_notebook(folder: Path) -> None:
    labels = cs.read_labels(folder, ["glass", "cell"])
    assert repr(labels) == "Labels(1 images of 1 groups, classes=('glass', 'cell'))"


def test_unmarked_pixels_are_ignored_without_a_fill_class(folder: Path) -> None:
    labels = cs.read_labels(folder / "12_a.json", ["cell", "other"])
    assert labels.label_maps[0].tolist() == [[cs.IGNORE, 0, 0, cs.IGNORE]] * 4


def test_masks_are_read_too(tmp_path: Path) -> None:
    for name, pixels in (("images", PIXELS), ("masks", np.eye(4, dtype=np.uint8))):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "a.png")
    labels = cs.read_labels(tmp_path, ["glass", "cell"])
    assert labels.label_maps[0].tolist() == np.eye(4, dtype=int).tolist()


@pytest.mark.parametrize("classes", [None, [], "cell", ["cell", "cell"], [0, 1]])
def test_the_classes_must_be_named(folder: Path, classes: list[str] | None) -> None:
    with pytest.raises(LabelError, match="read_labels needs the class names, each once"):
        cs.read_labels(folder, classes)


def test_names_are_mapped_and_ignored(folder: Path) -> None:
    renamed = cs.read_labels(folder, ["glass", "nucleus"], fill="glass", renames={"cell": "nucleus"})
    assert renamed.label_maps[0].tolist() == [[0, 1, 1, 0]] * 4
    ignored = cs.read_labels(folder, ["glass", "nucleus"], fill="glass", ignore=["cell"])
    assert ignored.label_maps[0].tolist() == [[0, cs.IGNORE, cs.IGNORE, 0]] * 4


def test_what_is_wrong_is_reported(folder: Path) -> None:
    with pytest.raises(LabelError, match=r"labels not in the class list \(glass, nucleus\): 'cell' \(1 shape"):
        cs.read_labels(folder, ["glass", "nucleus"])
    with pytest.raises(LabelError, match="fill: 'empty' is not in the class list"):
        cs.read_labels(folder, ["glass", "cell"], fill="empty")


def test_a_runs_labels_folder_says_its_classes_itself(folder: Path, tmp_path: Path) -> None:
    from cytoseg.classes import ClassList
    from cytoseg.labels.import_labels import import_labels
    from cytoseg.labels.import_settings import ImportRules

    imported = tmp_path / "run" / "labels"
    class_list = ClassList(("glass", "cell"), ((0, 0, 0), (1, 1, 1)), "glass")
    import_labels(folder / "12_a.json", imported, classes=class_list, rules=ImportRules())
    labels = cs.read_labels(imported)
    assert labels.classes == ("glass", "cell")
    assert labels.label_maps[0].tolist() == [[0, 1, 1, 0]] * 4
    with pytest.raises(LabelError, match=r"has the classes \(glass, cell\)"):
        cs.read_labels(imported, ["cell", "glass"])
