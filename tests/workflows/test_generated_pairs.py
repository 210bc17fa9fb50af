"""Reading generated pairs; making them is tested in end_to_end/test_make_pairs.py."""

import os
from pathlib import Path

import pytest

from cytoseg.classes import ClassList
from cytoseg.errors import LabelError
from cytoseg.labels.index import LabelIndex, write_index
from cytoseg.workflows.generated_pairs import generated_crops

CLASSES = ClassList(("background", "cell"), ((0, 0, 0), (9, 9, 9)), fill="background")


def test_no_pairs_are_read_where_none_are_asked_for(tmp_path: Path) -> None:
    assert generated_crops(tmp_path, 0, CLASSES) == ()
    with pytest.raises(LabelError, match="holds 0 generated pairs"):
        generated_crops(tmp_path, 1, CLASSES)


@pytest.mark.posix
@pytest.mark.parametrize("content", [b"", b"null", None])
def test_a_damaged_list_of_pairs_names_the_command_that_makes_them(tmp_path: Path, content: bytes | None) -> None:
    index = tmp_path / "made" / "labels" / "index.json"
    index.parent.mkdir(parents=True)
    if content is None:
        os.mkfifo(index)
    else:
        index.write_bytes(content)
    with pytest.raises(LabelError, match=r"index\.json: the generated pairs cannot be read\. .+ `cytoseg make-pairs`"):
        generated_crops(tmp_path, 1, CLASSES)


def test_pairs_of_other_classes_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "labels"
    folder.mkdir(parents=True)
    write_index(LabelIndex(folder, ("background", "nucleus"), ()))
    says = (
        r"labels: the pairs were made with the classes \(background, nucleus\), the recipe has \(background, cell\)\. "
        "Run `cytoseg make-pairs` again"
    )
    with pytest.raises(LabelError, match=says):
        generated_crops(tmp_path, 1, CLASSES)
