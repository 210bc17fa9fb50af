import re
from pathlib import Path

import pytest

from cytoseg.errors import LabelError
from cytoseg.formats.sidecar import Origin, parse_origin, read_sidecar
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
