import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cytoseg.errors import SlideError
from cytoseg.slides.fingerprint import slide_sha256, slide_stamp
from cytoseg.viewer import slide_catalogue
from cytoseg.viewer.reading_threads import Lanes
from cytoseg.viewer.slide_catalogue import Catalogue, CatalogueEntry, check_still_there, list_slides


def _slide(path: Path, grey: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(path)
    return path


def _predicted(run: Path, slide: Path, **changed: Any) -> Path:
    size, moment = slide_stamp(slide)
    provenance = {"slide_bytes": size, "slide_changed": moment}
    record = {"slide_path": str(slide), "slide_sha256": slide_sha256(slide), "provenance": provenance} | changed
    folder = run / "predictions" / slide.stem
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(record))
    return folder


def _listed(tmp_path: Path, *folders: str) -> Catalogue:
    return list_slides(
        tmp_path / "run", folders=[tmp_path / name for name in folders], include=["**/*"], exclude=["no*"]
    )


def test_slides_of_the_recipe_are_listed_by_their_ids(tmp_path: Path) -> None:
    a, b = _slide(tmp_path / "slides" / "a.ome.png"), _slide(tmp_path / "slides" / "deep" / "b.png")
    _slide(tmp_path / "slides" / "no.png")
    listed = _listed(tmp_path, "slides", "missing")
    assert {key: found.path for key, found in listed.slides.items()} == {"a": a, "b": b}
    assert (listed.gone, listed.outside) == ((), 0)


def test_two_slides_of_one_id_have_two_keys(tmp_path: Path) -> None:
    first, second = _slide(tmp_path / "slides" / "x" / "a.png"), _slide(tmp_path / "slides" / "y" / "a.png")
    slides = _listed(tmp_path, "slides").slides
    assert {key: found.path for key, found in slides.items()} == {"a": first, "a (2)": second}


@pytest.mark.posix
def test_a_link_that_leads_out_of_the_folders_is_left_out_and_counted(tmp_path: Path) -> None:
    secret = _slide(tmp_path / "elsewhere" / "secret.png")
    _slide(tmp_path / "slides" / "a.png")
    (tmp_path / "slides" / "link.png").symlink_to(secret)
    (tmp_path / "slides" / "within.png").symlink_to("a.png")
    listed = _listed(tmp_path, "slides")
    assert [found.path.name for found in listed.slides.values()] == ["a.png"]
    assert listed.outside == 1


@pytest.mark.posix
def test_a_link_within_the_folders_is_known_by_its_own_name(tmp_path: Path) -> None:
    slide = _slide(tmp_path / "slides" / "store" / "no_scan.png")  # left out under its own name
    (tmp_path / "slides" / "patient.png").symlink_to("store/no_scan.png")
    folder = _predicted(tmp_path / "run", tmp_path / "slides" / "patient.png", slide_path="")
    assert _listed(tmp_path, "slides").slides == {"patient": CatalogueEntry("patient", "patient", slide, folder)}


@pytest.mark.posix
def test_a_folder_that_is_itself_a_link_may_be_named(tmp_path: Path) -> None:
    slide = _slide(tmp_path / "disk" / "a.png")
    (tmp_path / "slides").symlink_to("disk")
    assert _listed(tmp_path, "slides").slides["a"].path == slide


def test_a_predicted_slide_of_the_recipe_has_its_maps(tmp_path: Path) -> None:
    folder = _predicted(tmp_path / "run", _slide(tmp_path / "slides" / "a.png"))
    _slide(tmp_path / "slides" / "b.png")
    slides = _listed(tmp_path, "slides").slides
    assert (slides["a"].prediction, slides["b"].prediction) == (folder, None)


def test_a_predicted_slide_from_elsewhere_is_shown_if_it_is_that_file(tmp_path: Path) -> None:
    slide = _slide(tmp_path / "elsewhere" / "a.png")
    folder = _predicted(tmp_path / "run", slide)
    (tmp_path / "slides").mkdir()
    found = _listed(tmp_path, "slides").slides["a"]
    assert (found.path, found.prediction) == (slide, folder)


def test_a_copy_of_another_time_is_known_by_its_content(tmp_path: Path) -> None:
    slide = _slide(tmp_path / "elsewhere" / "a.png")
    _predicted(tmp_path / "run", slide)
    os.utime(slide, (5, 5))
    assert _listed(tmp_path).slides["a"].path == slide


def test_an_unpredicted_file_is_not_shown(tmp_path: Path) -> None:
    # A summary from elsewhere may name any file of this machine: it must prove that it has seen it.
    slide = _slide(tmp_path / "elsewhere" / "a.png")
    size, moment = slide_stamp(slide)
    _predicted(tmp_path / "run", slide, provenance={"slide_bytes": size, "slide_changed": 1}, slide_sha256="0" * 64)
    listed = _listed(tmp_path)
    assert (listed.slides, listed.gone) == ({}, ("a",))
    _rewrite(tmp_path, provenance={"slide_bytes": size + 1, "slide_changed": moment})
    assert _listed(tmp_path).gone == ("a",)
    _rewrite(tmp_path, provenance={})
    assert _listed(tmp_path).gone == ("a",)


@pytest.mark.parametrize("named", ["/etc/passwd", "a\0.png", "../a.png", 7, None, ""])
def test_a_summary_that_names_nonsense_shows_nothing(tmp_path: Path, named: object) -> None:
    _predicted(tmp_path / "run", _slide(tmp_path / "elsewhere" / "a.png"), slide_path=named)
    assert _listed(tmp_path).gone == ("a",)


def test_a_file_that_cannot_be_read_to_the_end_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slide = _slide(tmp_path / "elsewhere" / "a.png", 42)
    _predicted(tmp_path / "run", slide)
    os.utime(slide, (5, 5))

    def denied(path: Path) -> str:
        raise PermissionError(path)

    monkeypatch.setattr("cytoseg.viewer.slide_catalogue.slide_sha256", denied)
    assert _listed(tmp_path).gone == ("a",)


def test_a_changed_slide_of_the_recipe_is_shown_without_the_old_maps(tmp_path: Path) -> None:
    slide = _slide(tmp_path / "slides" / "a.png")
    _predicted(tmp_path / "run", slide)
    Image.new("RGB", (99, 8)).save(slide)
    listed = _listed(tmp_path, "slides")
    assert (listed.slides["a"].prediction, listed.gone) == (None, ("a",))


def test_a_slide_that_has_gone_since_is_refused_without_its_path(tmp_path: Path) -> None:
    slide = _slide(tmp_path / "slides" / "a.png")
    found = _listed(tmp_path, "slides").slides["a"]
    check_still_there(found)
    slide.unlink()
    with pytest.raises(SlideError, match=r"^a\.png: no longer exists"):
        check_still_there(found)


@pytest.mark.posix
def test_a_link_put_in_the_place_of_a_slide_is_refused(tmp_path: Path) -> None:
    slide = _slide(tmp_path / "slides" / "a.png")
    found = _listed(tmp_path, "slides").slides["a"]
    slide.unlink()
    slide.symlink_to(_slide(tmp_path / "elsewhere" / "secret.png"))
    with pytest.raises(SlideError, match=r"^a\.png: is now a link"):
        check_still_there(found)


@pytest.mark.posix
def test_a_pipe_is_no_slide_wherever_it_stands(tmp_path: Path) -> None:
    """Reading one waits until another process writes into it."""
    (tmp_path / "slides").mkdir()
    os.mkfifo(tmp_path / "slides" / "pipe.png")
    os.mkfifo(tmp_path / "elsewhere.png")
    length, moment = slide_stamp(tmp_path / "elsewhere.png")
    _predicted(tmp_path / "run", _slide(tmp_path / "a.png"), slide_path=str(tmp_path / "elsewhere.png"))
    _rewrite(tmp_path, provenance={"slide_bytes": length, "slide_changed": moment})
    listed = _listed(tmp_path, "slides")
    assert (listed.slides, listed.gone) == ({}, ("a",))


@pytest.mark.posix
def test_a_pipe_put_in_the_place_of_a_slide_is_refused(tmp_path: Path) -> None:
    slide = _slide(tmp_path / "slides" / "a.png")
    found = _listed(tmp_path, "slides").slides["a"]
    slide.unlink()
    os.mkfifo(slide)
    with pytest.raises(SlideError, match=r"^a\.png: is now a pipe or device and is not read\.$"):
        check_still_there(found)


def _rewrite(tmp_path: Path, **changed: Any) -> None:
    path = tmp_path / "run" / "predictions" / "a" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_a_dead_share_hides_only_its_own_slides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stat of what lies below dead/ never answers; of two predicted slides and two folders, half are on it."""
    alive, dead = _slide(tmp_path / "slides" / "a.png"), _slide(tmp_path / "dead" / "b.png")
    _slide(tmp_path / "far" / "dead" / "c.png")
    _predicted(tmp_path / "run", alive)
    _predicted(tmp_path / "run", dead)
    over, really = threading.Event(), os.stat

    def stat(path: Any, *args: Any, **options: Any) -> os.stat_result:
        if not isinstance(path, int) and "dead" in Path(path).parts:
            over.wait(20)
        return really(path, *args, **options)

    monkeypatch.setattr(slide_catalogue, "_DISKS", Lanes(threads=1, limit_s=0.1))
    monkeypatch.setattr(os, "stat", stat)
    try:
        listed = _listed(tmp_path, "slides", "far/dead")
    finally:
        over.set()
    assert list(listed.slides) == ["a"]
    assert listed.gone == ("b",)


def test_kept_versions_of_this_very_file_have_keys_of_their_own(tmp_path: Path) -> None:
    slide = _slide(tmp_path / "slides" / "a.png")
    folder = _predicted(tmp_path / "run", slide, classes={"cell": {}})
    kept, other = (tmp_path / "run" / "versions" / "a" / f"20260301T14050{n}Z-1234" for n in (1, 2))
    shutil.copytree(folder, kept)
    shutil.copytree(folder, other)
    (other / "summary.json").write_text(json.dumps({"provenance": {"slide_bytes": 1}}))  # of another file
    listed = _listed(tmp_path, "slides")
    assert list(listed.slides) == ["a"]
    assert listed.versions == {f"a@{kept.name}": CatalogueEntry(f"a@{kept.name}", "a", slide, kept)}
    assert [listed.named(key) for key in ("a", f"a@{kept.name}", "b")] == [
        listed.slides["a"],
        *listed.versions.values(),
        None,
    ]
