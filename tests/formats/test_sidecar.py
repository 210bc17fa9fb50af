import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from cytoseg.errors import LabelError
from cytoseg.formats.sidecar import Cut, Origin, has_sidecar, parse_origin, read_sidecar, write_sidecar
from cytoseg.geometry import Region


def test_slide_and_region_are_read() -> None:
    found = parse_origin({"slide": "s", "region": [5, 6, 7, 8]}, name="x")
    assert found == Origin("s", Region(5, 6, 7, 8))


def test_where_on_the_slide_may_be_unknown() -> None:
    assert parse_origin({"slide": "s", "region": None}, name="x") == Origin("s", None)


@pytest.mark.parametrize("value", [None, [], {}, {"slide": ""}, {"slide": 4}])
def test_a_slide_must_be_named(value: object) -> None:
    with pytest.raises(LabelError, match="x: 'slide' is"):
        parse_origin(value, name="x")


def test_a_region_is_not_left_out() -> None:
    with pytest.raises(LabelError, match="x: 'region' is None"):
        parse_origin({"slide": "s"}, name="x")


@pytest.mark.parametrize("region", [[1, 2, 3], [1, 2, 3, 0], [1, 2, 3, 4.5], "1234", [1, 2, 3, 4, 5]])
def test_a_region_has_four_whole_numbers(region: object) -> None:
    with pytest.raises(LabelError, match=re.escape(f"x: 'region' is {region!r}. It must be")):
        parse_origin({"slide": "s", "region": region}, name="x")


def test_a_sidecar_stands_beside_its_picture(tmp_path: Path) -> None:
    (tmp_path / "a.crop.json").write_text('{"slide": "s", "region": [0, 0, 1, 1]}')
    assert read_sidecar(tmp_path / "a.png") == Origin("s", Region(0, 0, 1, 1))
    assert read_sidecar(tmp_path / "b.png") is None


def test_a_damaged_sidecar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.crop.json").write_text('{"slide"')
    with pytest.raises(LabelError, match=r"a\.crop\.json: is not complete JSON"):
        read_sidecar(tmp_path / "a.png")


def test_what_was_cut_is_written_with_the_number_of_its_format(tmp_path: Path) -> None:
    cut, picture = Cut("s", Region(5, 6, 7, 8), 0.5), tmp_path / "a.png"
    assert not has_sidecar(picture, cut)
    write_sidecar(picture, cut)
    content = {"format": 1, "slide": "s", "region": [5, 6, 7, 8], "mpp": 0.5}
    assert json.loads((tmp_path / "a.crop.json").read_text()) == content
    assert read_sidecar(picture) == Origin("s", Region(5, 6, 7, 8))
    assert [has_sidecar(picture, other) for other in (cut, replace(cut, mpp=None))] == [True, False]
    del content["format"]  # as earlier versions wrote it
    (tmp_path / "a.crop.json").write_text(json.dumps(content))
    assert has_sidecar(picture, cut)


def test_a_sidecar_of_another_format_is_refused() -> None:
    with pytest.raises(LabelError, match=r"^x: has format 2, this version reads 1\. Update cytoseg\.$"):
        parse_origin({"format": 2, "slide": "s", "region": None}, name="x")
