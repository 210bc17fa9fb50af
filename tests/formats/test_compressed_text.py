import errno
import gzip
import re
import zipfile
from pathlib import Path
from typing import NoReturn

import pytest

from cytoseg.errors import CytosegError, LabelError
from cytoseg.formats.compressed_text import is_geojson_name, is_packed, json_members, plain_stems, read_unpacked


def make_zip(path: Path, *names: str, text: str = "[]") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, text)
    return path


def test_gzip_and_zip_are_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.geojson.GZ").write_bytes(gzip.compress(b"[1]"))
    assert read_unpacked(tmp_path / "a.geojson.GZ", name="a") == b"[1]"
    made = make_zip(tmp_path / "b.zip", "deep/slide_7.geojson", "__MACOSX/deep/._slide_7.geojson", "readme.txt")
    assert read_unpacked(made, name="b") == b"[]"
    (tmp_path / "c.geojson").write_bytes(b"[3]")
    assert read_unpacked(tmp_path / "c.geojson", name="c") == b"[3]"


def test_the_content_tells_what_is_packed_and_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "plain.geojson.gz").write_bytes(b"[1]")
    (tmp_path / "gzip.geojson").write_bytes(gzip.compress(b"[1]"))
    make_zip(tmp_path / "zip.geojson", "a.geojson", text="[1]")
    (tmp_path / "gzip.zip").write_bytes(gzip.compress(b"[1]"))
    (tmp_path / "extracting.zip").write_bytes(b"#!" + make_zip(tmp_path / "b", "a.json", text="[1]").read_bytes())
    for name in ("plain.geojson.gz", "gzip.geojson", "zip.geojson", "gzip.zip", "extracting.zip"):
        assert read_unpacked(tmp_path / name, name=name) == b"[1]"
    assert [is_packed(Path(name)) for name in ("a.tar.GZ", "a.7z", "a.json")] == [True, True, False]


def test_names_tell_geojson_and_the_slide(tmp_path: Path) -> None:
    made = make_zip(tmp_path / "export.zip", "slide_7.svs.geojson")
    assert is_geojson_name(made)
    assert plain_stems(made) == ("export", "slide_7.svs")
    assert not is_geojson_name(make_zip(tmp_path / "slides.zip", "a.svs"))
    assert not is_geojson_name(tmp_path / "missing.zip")
    for name, wanted in (("a.GeoJSON", True), ("a.svs.geojson.gz", True), ("a.json.gz", False), ("a.gz", False)):
        assert is_geojson_name(tmp_path / name) == wanted
    assert plain_stems(tmp_path / "a.svs.geojson.gz") == ("a.svs",)


def test_a_zip_with_backslashes_is_read_as_one_with_slashes(tmp_path: Path) -> None:
    made = make_zip(
        tmp_path / "w.zip", "out\\slide_8.svs.geojson", "__MACOSX\\out\\._slide_8.svs.geojson", "out\\a.txt"
    )
    assert is_geojson_name(made)
    assert plain_stems(made) == ("w", "slide_8.svs")
    assert read_unpacked(made, name="w") == b"[]"
    empty = make_zip(tmp_path / "e.zip", "out\\a.txt")
    with pytest.raises(LabelError, match=r"e: holds no GeoJSON file \(a\.txt\)\."):
        read_unpacked(empty, name="e")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ((), "m: holds no GeoJSON file that can be listed: it is empty or damaged, or holds over 1,000 files. Export"),
        (("in/a.svs", "b", "c", "d", "e"), "m: holds no GeoJSON file (a.svs, b, c, d and 1 more). Export"),
        (("a.geojson", "b.geojson"), "m: holds 2 JSON files (a.geojson, b.geojson). Unpack it, and name the folder."),
    ],
)
def test_a_zip_without_one_file_says_what_it_holds(tmp_path: Path, names: tuple[str, ...], says: str) -> None:
    with pytest.raises(LabelError, match=re.escape(says)):
        read_unpacked(make_zip(tmp_path / "a.zip", *names), name="m")


def test_one_of_several_files_is_read_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {"in/b.svs.geojson": "[1]", "__MACOSX/in/._b.svs.geojson": "", "c.GEOJSON": "[2]"}.items():
            archive.writestr(name, text)
        archive.writestr("classes.json", "{}")
    assert json_members(path) == ("in/b.svs.geojson", "c.GEOJSON")
    assert [read_unpacked(path, name="a", member=member) for member in json_members(path)] == [b"[1]", b"[2]"]
    assert plain_stems(path, "in/b.svs.geojson") == ("b.svs",)
    assert json_members(make_zip(tmp_path / "d.zip", "x.json", ".y.json")) == ("x.json",)
    (tmp_path / "plain.geojson").write_bytes(b"[1]PK\5\6")
    assert json_members(tmp_path / "plain.geojson") == json_members(tmp_path / "missing.zip") == ()


@pytest.mark.parametrize("name", ["a.geojson.gz", "a.zip"])
def test_damaged_archives_are_refused(tmp_path: Path, name: str) -> None:
    make_zip(tmp_path / "a.zip", "a.geojson", text="[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]")
    (tmp_path / "a.geojson.gz").write_bytes(gzip.compress(b"[1, 2, 3]" * 99 + bytes(range(200))))
    data = bytearray((tmp_path / name).read_bytes())
    data[44:52] = b"damaged!"
    (tmp_path / name).write_bytes(data if name == "a.zip" else data[:-6])
    with pytest.raises(LabelError, match=r"m: (cannot be unpacked|holds no GeoJSON)"):
        read_unpacked(tmp_path / name, name="m")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_read_and_refused_if_damaged(tmp_path: Path, method: int) -> None:
    text = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]"
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a.geojson", text)
    assert read_unpacked(tmp_path / "a.zip", name="m").decode() == text
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[52:60] = b"damaged!"
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(LabelError, match=r"m: cannot be unpacked \("):
        read_unpacked(tmp_path / "a.zip", name="m")


def test_a_zip_whose_file_lies_before_its_start_is_refused(tmp_path: Path) -> None:
    data = bytearray(make_zip(tmp_path / "a.zip", "a.geojson").read_bytes())
    end = data.rfind(b"PK\5\6")
    data[end + 16 : end + 20] = (0x7FFFFFFF).to_bytes(4, "little")  # where the list of files is said to begin
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(LabelError, match=r"m: (cannot be unpacked|holds no GeoJSON)"):
        read_unpacked(tmp_path / "a.zip", name="m")
    with pytest.raises(LabelError, match=r"m: cannot be unpacked"):
        read_unpacked(tmp_path / "a.zip", name="m", member="a.geojson")


def test_a_disk_that_fails_is_no_damaged_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> NoReturn:
        raise OSError(errno.EIO, "Input/output error")

    make_zip(tmp_path / "a.zip", "a.geojson")
    monkeypatch.setattr("cytoseg.formats.compressed_text._read", fail)
    with pytest.raises(OSError, match="Input/output error"):
        read_unpacked(tmp_path / "a.zip", name="m")


@pytest.mark.parametrize("name", ["a.geojson.gz", "a.zip", "a.geojson"])
def test_a_bomb_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYTOSEG_MAX_JSON_MB", "9")
    text = " " * 4_000_000
    make_zip(tmp_path / "a.zip", "a.geojson", text=text)
    (tmp_path / "a.geojson.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "a.geojson").write_text(text)
    says = r"m: (holds over 3 MB of text|is 4\.0 MB long)\. If it is meant to be that large, set CYTOSEG_MAX"
    with pytest.raises(CytosegError, match=says):
        read_unpacked(tmp_path / name, name="m")


def test_a_zip_of_too_many_files_is_not_listed(tmp_path: Path) -> None:
    assert not is_geojson_name(make_zip(tmp_path / "a.zip", *(f"{i}.geojson" for i in range(1001))))
