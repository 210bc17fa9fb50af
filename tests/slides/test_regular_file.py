import os
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cytoseg.cli import build_app
from cytoseg.errors import SlideError
from cytoseg.slides.image import read_picture
from cytoseg.slides.open import find_slides, open_slide
from cytoseg.slides.regular_file import kind_unless_file, within_time


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


MAKERS: dict[str, Callable[[Path], None]] = {
    "a named pipe": lambda path: os.mkfifo(path),  # which Windows lacks
    "a socket": _socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": Path.mkdir,
}


@pytest.mark.posix
@pytest.mark.parametrize("kind", MAKERS)
def test_what_is_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket may have 108 characters
    MAKERS[kind](Path("a"))
    assert kind_unless_file(Path("a")) == kind
    Path("link").symlink_to("a")
    assert kind_unless_file(Path("link")) == kind


@pytest.mark.posix
def test_a_file_and_a_link_to_one(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to("a")
    assert kind_unless_file(tmp_path / "a") == kind_unless_file(tmp_path / "link") == ""


@pytest.mark.posix
@pytest.mark.parametrize("suffix", [".tif", ".svs", ".png", ".jpg", ".ndpi", ".mrxs", ".czi"])
@pytest.mark.parametrize("kind", ["a named pipe", "a device"])
def test_a_slide_that_never_answers_is_refused_by_name(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"a{suffix}"
    MAKERS[kind](path)
    with pytest.raises(SlideError, match=rf"a{suffix}: is {kind}, not a file. Name the slide itself, or exclude it"):
        open_slide(path)
    with pytest.raises(SlideError, match=rf"a: cannot be read, it is {kind} and not a file"):
        read_picture(path, name="a")


@pytest.mark.parametrize(
    "look", [open_slide, lambda path: read_picture(path, name="a"), lambda path: find_slides([path])]
)
def test_a_share_that_never_answers_is_reported_in_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, look: Callable[[Path], object]
) -> None:
    forever = threading.Event()
    path = tmp_path / "a.png"
    stat = Path.stat

    def blocked(self: Path, **options: bool) -> os.stat_result:
        if self == path:
            forever.wait()
        return stat(self, **options)

    monkeypatch.setattr("cytoseg.slides.regular_file.LIMIT_S", 0.05)
    monkeypatch.setattr(Path, "stat", blocked)
    with pytest.raises(SlideError, match=r"a\.png: did not answer within 0 s\. Mount its disk or share again\.$"):
        look(path)
    forever.set()


@pytest.mark.parametrize(
    ("dead", "line"),
    [
        ("recipes", "label-crops recipes/tiny.yaml"),
        ("runs", "label-crops tiny.yaml"),
        ("labels", "label-crops tiny.yaml labels.folder=labels/here"),
        ("annotated", "label-import annotated --recipe tiny.yaml"),
        ("runs", "runs runs"),
        ("runs", "review tiny.yaml"),
    ],
)
def test_a_folder_of_a_run_that_never_answers_is_reported_in_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dead: str, line: str
) -> None:
    forever, exists = threading.Event(), os.path.exists

    def blocked(path: str | os.PathLike[str]) -> bool:
        if Path(path).parts[:1] == (dead,):
            forever.wait()
        return exists(path)

    monkeypatch.chdir(tmp_path)
    classes = "classes: [{name: a, colour: '#ffffff'}, {name: b, colour: '#000000'}]"
    Path("tiny.yaml").write_text(f"name: tiny\nslides: {{mpp: 0.5}}\n{classes}\n")
    monkeypatch.setattr("cytoseg.slides.regular_file.LIMIT_S", 0.05)
    monkeypatch.setattr("os.path.exists", blocked)
    result = CliRunner().invoke(build_app(line.split()[0]), line.split())
    assert result.exit_code == 2
    assert re.search(rf"{dead}\S*: did not answer within 0 s\. Mount its disk or share again\.$", result.stderr)
    forever.set()


def test_an_error_of_what_is_done_in_time_is_its_own(tmp_path: Path) -> None:
    def late() -> None:
        raise TimeoutError("of the disk itself")

    with pytest.raises(TimeoutError, match="of the disk itself"):
        within_time(tmp_path, late)
    assert within_time(tmp_path, lambda: 7) == 7
