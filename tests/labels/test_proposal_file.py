import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.formats.annotation import paint
from cytoseg.formats.labelme import read_labelme
from cytoseg.labels.exported_shapes import traced
from cytoseg.labels.proposal_file import is_saved, proposal, sealed

CLASSES = ClassList(("glass", "cell", "nucleus"), ((240,) * 3, (80, 180, 230), (210, 90, 0)), "glass")


@pytest.fixture
def class_map() -> NDArray[np.uint8]:
    """A round cell with a nucleus of 9 px and a hole in it, a speck, and an unlabelled corner."""
    y, x = np.mgrid[:80, :100]
    ids = np.zeros((80, 100), np.uint8)
    ids[(x - 40) ** 2 + (y - 40) ** 2 <= 30**2] = 1
    ids[(x - 45) ** 2 + (y - 38) ** 2 <= 4.5**2] = 2
    ids[(x - 25) ** 2 + (y - 45) ** 2 <= 5**2] = 0
    ids[10:12, 90:93] = 2
    ids[70:, 90:] = 255
    return ids


def test_labelme_reads_nearly_the_same_map_from_few_points(tmp_path: Path, class_map: NDArray[np.uint8]) -> None:
    Image.new("RGB", (100, 80)).save(tmp_path / "crop.png")
    content = proposal(class_map, CLASSES, picture="crop.png")
    (tmp_path / "crop.json").write_text(json.dumps(content))
    problems: list[str] = []
    found = read_labelme(tmp_path / "crop.json", root=tmp_path, problems=problems)
    assert found is not None
    assert problems == []
    painted = paint(found.annotation, CLASSES)
    class_map[10:12, 90:93] = 0  # the speck is left out
    for class_id, share in ((1, 0.02), (2, 0.07), (255, 0.0)):
        wrong = ((painted == class_id) != (class_map == class_id)).sum()
        assert wrong <= share * (class_map == class_id).sum() + 1e-9
    assert [shape["label"] for shape in content["shapes"]] == ["cell", "__ignore__", "nucleus"]
    exact = [point for shape in traced(class_map, CLASSES) for ring in (shape.points, *shape.holes) for point in ring]
    assert [len(shape["points"]) for shape in content["shapes"]] == [88, 4, 8]
    assert len(exact) == 220


def test_nothing_predicted_is_an_empty_file() -> None:
    content = proposal(np.zeros((8, 9), np.uint8), CLASSES, picture="crop.png")
    assert (content["shapes"], content["imageHeight"], content["imageWidth"]) == ([], 8, 9)


def test_a_proposal_is_untouched_until_it_is_saved(tmp_path: Path, class_map: NDArray[np.uint8]) -> None:
    path, content = tmp_path / "smear_1_2.json", proposal(class_map, CLASSES, picture=64 * "0" + ".png")
    path.write_text(sealed(content), encoding="utf-8")
    found = json.loads(path.read_text(encoding="utf-8"))
    assert {key: found[key] for key in content} == content
    assert is_saved(path) is False
    path.write_text(json.dumps(found, indent=2), encoding="utf-8")  # as labelme writes it, which keeps all keys
    assert is_saved(path) is True


def test_drawn_marks_are_not_a_proposal(tmp_path: Path, class_map: NDArray[np.uint8]) -> None:
    path = tmp_path / "drawn.json"
    path.write_text(json.dumps(proposal(class_map, CLASSES, picture="drawn.png")))
    assert is_saved(path) is None
