import unicodedata
from pathlib import Path
from typing import Literal

import pytest

from cytoseg.patterns import excluded, fits, fitting, globbed, globbed_anywhere, on_disk

NAMES = ["P1 H", "P1 [HE]", "P2 [HE]_a", "P2 [HE]_b", "made_0_1", "made_0_2"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("P1 [HE]", ["P1 [HE]"]),
        ("P2 [HE]*", ["P2 [HE]_a", "P2 [HE]_b"]),
        ("P? [HE]_?", ["P2 [HE]_a", "P2 [HE]_b"]),
        ("made_0_[12]", ["made_0_1", "made_0_2"]),
        ("P1 [H]", ["P1 H"]),
        ("x*", []),
    ],
)
def test_a_pattern_is_a_name_before_it_is_one(pattern: str, found: list[str]) -> None:
    assert fitting(NAMES, pattern) == found
    assert all(fits(name, ["nobody", pattern]) for name in found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("P1 [HE].png", "P1 H.png", "P2 [HE].png", "[old]/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("P1 [HE].png", ["P1 [HE].png"]),
        ("*[HE].png", ["P1 [HE].png", "P2 [HE].png"]),
        ("P1 [H].png", ["P1 H.png"]),
        ("[old]/*.png", ["a.png"]),
        ("**/a.png", ["a.png"]),
        ("x" * 5000, []),
    ],
)
def test_files_are_found_by_name_before_pattern(folder: Path, pattern: str, found: list[str]) -> None:
    assert sorted(path.name for path in globbed(folder, pattern)) == found
    assert sorted(path.name for path in globbed_anywhere(f"{folder}/{pattern}")) == found


@pytest.mark.parametrize("pattern", ["", ".", "/a/*", "a\0", "**x"])
def test_what_is_no_pattern_is_refused(folder: Path, pattern: str) -> None:
    with pytest.raises(ValueError, match="attern"):
        globbed(folder, pattern)


@pytest.mark.parametrize("pattern", ["a\0", "x" * 5000, ""])
def test_anywhere_a_strange_pattern_finds_nothing(pattern: str) -> None:
    assert globbed_anywhere(pattern) == []


def test_what_is_left_out_is_a_name_before_a_pattern(folder: Path) -> None:
    files = list(folder.rglob("*.png"))
    assert {path.name for path in excluded(files, "P1 [HE].png")} == {"P1 [HE].png"}
    assert {path.name for path in excluded(files, "[old]/*.png")} == {"a.png"}
    assert {path.name for path in excluded(files, "P1 [H].png")} == {"P1 H.png"}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_fit_however_a_system_writes_them(tmp_path: Path, form: Literal["NFC", "NFD"]) -> None:
    name, typed = (unicodedata.normalize(other, "größé [1].png") for other in (form, {"NFC": "NFD"}.get(form, "NFC")))
    (tmp_path / name).touch()
    assert fitting(["a", name], typed) == fitting(["a", name], f"{typed[:-5]}*") == [name]
    assert fits(name, [typed])
    assert fits(name, [f"*{typed[2:]}"])
    assert globbed(tmp_path, typed) == globbed(tmp_path, f"{typed[:4]}*") == [tmp_path / name]
    assert globbed_anywhere(f"{tmp_path}/{typed}") == [tmp_path / name]
    assert excluded([tmp_path / name], typed) == {tmp_path / name}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_path_is_found_in_the_other_form_of_accents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Literal["NFC", "NFD"]
) -> None:
    other: Literal["NFC", "NFD"] = "NFD" if form == "NFC" else "NFC"
    there = Path(unicodedata.normalize(form, "größe")) / f"{unicodedata.normalize(other, 'é')}.png"
    (tmp_path / there).parent.mkdir()
    (tmp_path / there).touch()
    typed = Path(unicodedata.normalize(other, str(there)))
    assert on_disk(tmp_path / typed) == tmp_path / there
    assert on_disk(tmp_path / typed.parent) == (tmp_path / there).parent
    assert on_disk(tmp_path / "größe" / "no.png") == tmp_path / "größe" / "no.png"
    monkeypatch.chdir(tmp_path)
    assert on_disk(typed) == there


def test_of_two_names_that_differ_in_the_form_of_accents_each_is_itself(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "ḍ̇") for form in ("NFC", "NFD")]
    for name in names:
        (tmp_path / name).touch()
    assert [on_disk(tmp_path / name).name for name in names] == names
    third = "d\u0307\u0323"  # equal to both, and neither
    assert on_disk(tmp_path / third).name == third


def test_a_path_below_home_is_found_unless_it_lies_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home" / "sl").mkdir(parents=True)
    (tmp_path / "home" / "sl" / "a.png").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert on_disk(Path("~/sl")) == tmp_path / "home" / "sl"
    assert globbed_anywhere("~/sl/*.png") == [tmp_path / "home" / "sl" / "a.png"]
    (tmp_path / "~" / "sl").mkdir(parents=True)
    assert on_disk(Path("~/sl")) == Path("~/sl")


@pytest.mark.parametrize("typed", ["~nobody_of_this_name/x", "~/no", "é\0", "é" * 3000, "", "no"])
def test_a_path_that_is_nowhere_stays_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert on_disk(Path(typed)) == Path(typed)
