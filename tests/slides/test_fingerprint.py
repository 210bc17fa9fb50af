import hashlib
import os
from pathlib import Path

import pytest

from cytoseg.slides.fingerprint import slide_sha256, slide_stamp


def test_of_a_file_its_own_size_time_and_hash(tmp_path: Path) -> None:
    path = tmp_path / "a.svs"
    path.write_bytes(b"slide")
    os.utime(path, (5, 77.9))
    assert slide_stamp(path) == (5, 77)
    assert slide_sha256(path) == hashlib.sha256(b"slide").hexdigest()


def test_of_a_folder_all_that_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "a.zarr"
    for name, content, time in ((".zattrs", b"{}", 50), ("0/1", b"chunk", 99), ("0/0", b"", 10)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        os.utime(folder / name, (time, time))
    assert slide_stamp(folder) == (7, 99)
    # What ``sha256sum`` prints of these files, in order, hashed again.
    listing = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, content in ((".zattrs", b"{}"), ("0/0", b""), ("0/1", b"chunk"))
    )
    before = slide_sha256(folder)
    assert before == hashlib.sha256(listing.encode()).hexdigest()
    (folder / "0" / "0").rename(folder / "0" / "2")
    assert slide_sha256(folder) != before


def test_of_an_empty_folder(tmp_path: Path) -> None:
    assert slide_stamp(tmp_path) == (0, 0)


def test_what_is_not_there(tmp_path: Path) -> None:
    for give in (slide_stamp, slide_sha256):
        with pytest.raises(FileNotFoundError):
            give(tmp_path / "gone.svs")


def test_the_order_on_the_disk_does_not_matter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_text(name)
    found = []
    for backwards in (False, True):
        listed = sorted(tmp_path.iterdir(), reverse=backwards)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rglob", lambda *_, files=listed: iter(files))
            found.append(slide_sha256(tmp_path))
    listing = "".join(f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in "abc")
    assert found == [hashlib.sha256(listing.encode()).hexdigest()] * 2
