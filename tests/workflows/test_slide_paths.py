import unicodedata
from pathlib import Path

import pytest

from cytoseg.errors import SlideError
from cytoseg.workflows.slide_paths import expand, without_overrides


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Slides with dots, spaces and other scripts in their names, and files that are none; the current folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.svs", "b.tif", "deep/c.svs", "deep/Präparat 12.3 细胞.svs", "deep/notes.csv"):
        path = tmp_path / "slides" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(texts: list[str]) -> list[str]:
    return [path.as_posix() for path in expand(texts, command="predict")]


def test_files_folders_and_globs_each_slide_once(folder: Path) -> None:
    assert names(["slides/b.tif", "slides"]) == ["slides/b.tif", "slides/a.svs"]
    assert names(["slides/deep"]) == ["slides/deep/Präparat 12.3 细胞.svs", "slides/deep/c.svs"]
    assert names(["slides/**/*.svs"]) == [
        "slides/a.svs",
        "slides/deep/Präparat 12.3 细胞.svs",
        "slides/deep/c.svs",
    ]


def test_a_glob_takes_slides_only(folder: Path) -> None:
    Path("slides/deep/made_1.labels.ome.tif").touch()
    assert names(["slides/deep/*"]) == ["slides/deep/Präparat 12.3 细胞.svs", "slides/deep/c.svs"]
    with pytest.raises(SlideError, match=r"slides/deep/\*\.csv: no such file, and no slide matches it"):
        expand(["slides/deep/*.csv"], command="predict")


@pytest.mark.posix
def test_a_slide_named_in_two_ways_is_one_slide(folder: Path) -> None:
    whole = (folder / "slides" / "a.svs").as_posix()
    assert names(["slides/a.svs", whole, "slides/deep/../a.svs"]) == ["slides/a.svs"]
    assert names([whole, "slides"]) == [whole, "slides/b.tif"]
    (folder / "monday").symlink_to("slides")
    (folder / "slides" / "linked.svs").symlink_to("a.svs")
    assert names(["slides/a.svs", "monday/a.svs", "slides/linked.svs"]) == ["slides/a.svs", "slides/linked.svs"]


def test_a_list_names_any_of_these(folder: Path) -> None:
    Path("today.txt").write_text("# of Monday\n\nslides/deep/c.svs\n  slides/*.tif  \n", encoding="utf-8")
    assert names(["today.txt", "slides/a.svs"]) == ["slides/deep/c.svs", "slides/b.tif", "slides/a.svs"]


def test_a_list_of_windows_is_read_and_one_that_names_itself_is_refused(folder: Path) -> None:
    Path("today.txt").write_bytes("\ufeffslides/a.svs\r\nslides/b.tif\r\n".encode())
    assert names(["today.txt"]) == ["slides/a.svs", "slides/b.tif"]
    Path("one.txt").write_text("today.txt\ntwo.txt\n")
    Path("two.txt").write_text("./one.txt\n")
    with pytest.raises(SlideError, match=r"^one\.txt: this list of slides names itself\. Remove that line\.$"):
        expand(["one.txt"], command="predict")


def test_a_name_with_brackets_is_a_file_first(folder: Path) -> None:
    Path("slides/x[1].svs").touch()
    assert names(["slides/x[1].svs"]) == ["slides/x[1].svs"]


def test_a_zarr_folder_is_a_slide_and_not_a_folder_of_slides(folder: Path) -> None:
    Path("slides/z.ome.zarr/0").mkdir(parents=True)
    Path("slides/z.ome.zarr/thumbnail.png").touch()
    assert names(["slides/z.ome.zarr/"]) == ["slides/z.ome.zarr"]
    assert names(["slides/*.zarr", "slides"]) == ["slides/z.ome.zarr", "slides/a.svs", "slides/b.tif"]
    Path("list.txt").write_text("slides/z.ome.zarr\n")
    assert names(["list.txt"]) == ["slides/z.ome.zarr"]


def test_all_that_is_wrong_is_reported_at_once(folder: Path) -> None:
    Path("empty").mkdir()
    Path("bad.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SlideError) as raised:
        expand(["gone.svs", "empty", "bad.txt", "slides/a.svs"], command="predict")
    text = str(raised.value)
    assert "gone.svs: no such file, and no slide matches it as a glob" in text
    assert "no slide in empty" in text
    assert "bad.txt: is not a list of slides, because it is not text" in text


def test_nothing_named(folder: Path) -> None:
    with pytest.raises(SlideError, match=r"^predict: no slide was named"):
        expand([], command="predict")


def test_problems_are_those_of_the_command(folder: Path) -> None:
    with pytest.raises(SlideError, match=r"^anomaly: 2 problems, nothing was written\."):
        expand(["a.svs", "b.svs"], command="anomaly")


def test_a_slide_with_an_equals_sign_is_no_override(folder: Path) -> None:
    Path("stain=pap.svs").touch()
    Path("=1.svs").touch()
    slides = ["stain=pap.svs", "=1.svs", "=*.svs", "slides/no=1.svs", "stain*=*.svs", "~/a=1.svs", "slides"]
    overrides = ["slides.mpp=0.5", 'slides.include=["a/*.svs"]', "no.such.key=1", "x=" + "y" * 5000, "stain=no.svs"]
    assert without_overrides([*slides, *overrides]) == (slides, overrides)
    assert names(["=*.svs", "stain*=*.svs"]) == ["=1.svs", "stain=pap.svs"]


def test_slides_below_home_or_with_accents_in_the_other_form_are_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder))
    typed = unicodedata.normalize("NFD", "Präparat 12.3 细胞.svs")
    assert names([f"slides/deep/{typed}"]) == ["slides/deep/Präparat 12.3 细胞.svs"]
    assert names(["~/slides/a.svs", "~/slides/*.tif"]) == [str(folder / "slides/a.svs"), str(folder / "slides/b.tif")]
