import json
from pathlib import Path

import pytest

from cytoseg.errors import LabelError
from cytoseg.formats.sidecar import Origin
from cytoseg.geometry import Region
from cytoseg.labels.original_annotation import OriginalAnnotation, read_original, write_original

WHOLE = {"origin": None, "labelme": None, "features": None, "area": None, "frame": None}


@pytest.mark.parametrize(
    "kept",
    [
        OriginalAnnotation(Origin("slide é", Region(1, 2, 3, 4))),
        OriginalAnnotation(
            Origin("s", None), labelme={"flags": {"\U0001f600 \n": 0.1 + 0.2}, "shapes": [], "more": [1e300, 2**70]}
        ),
        OriginalAnnotation(None, features=({"type": "Feature"}, {"id": "б"}), area=Region(-5, 0, 7, 8), frame=1),
        OriginalAnnotation(None, features=()),
    ],
)
def test_what_is_kept_comes_back(tmp_path: Path, kept: OriginalAnnotation) -> None:
    write_original(tmp_path, "a.b", kept)
    assert vars(read_original(tmp_path, "a.b")) == vars(kept)


def test_nothing_is_kept_of_a_mask_and_what_was_there_goes(tmp_path: Path) -> None:
    write_original(tmp_path, "a", OriginalAnnotation(Origin("s", None)))
    write_original(tmp_path, "a", OriginalAnnotation())
    assert list((tmp_path / "shapes").iterdir()) == []
    assert vars(read_original(tmp_path, "a")) == vars(OriginalAnnotation())


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        json.dumps(WHOLE | {"features": 5}),
        json.dumps(WHOLE | {"features": [5]}),
        json.dumps(WHOLE | {"labelme": "x"}),
        json.dumps(WHOLE | {"area": [1]}),
        json.dumps(WHOLE | {"area": [0, 0, 0, 4]}),
        json.dumps(WHOLE | {"area": [0, 0, 2.5, 4]}),
        json.dumps(WHOLE | {"frame": 99}),
        json.dumps(WHOLE | {"frame": "0"}),
        json.dumps(WHOLE | {"origin": {}}),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes" / "a.json").write_text(text)
    with pytest.raises(LabelError, match=r"shapes/a\.json: "):
        read_original(tmp_path, "a")
