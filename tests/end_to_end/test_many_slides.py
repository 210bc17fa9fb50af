"""Many slides at once, by recipe or by bundle, with one that fails; and a kill in the middle of a slide."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import Result

from tests.end_to_end.cases import cut_part

MAPS = ("class_map.ome.tif", "uncertainty.ome.tif")
Cytoseg = Callable[..., Result]


def everything(folder: Path) -> dict[str, Any]:
    """All files as they are, but for the times in the summary, which no two runs share."""
    content: dict[str, Any] = {path.name: path.read_bytes() for path in folder.iterdir()}
    summary = json.loads(content["summary.json"])
    return content | {
        "summary.json": {k: summary[k] for k in summary.keys() - {"made", "seconds", "computing_seconds"}}
    }


def maps(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in MAPS}


def test_a_slide_that_fails_does_not_stop_the_others(home: Path, cytoseg: Cytoseg) -> None:
    slides = home / "made" / "slides"
    content = (slides / "made_2_01.ome.tif").read_bytes()
    (slides / "made_2_01.ome.tif").write_bytes(content[: len(content) // 2])
    (slides / "made_2_02.ome.tif").unlink()
    cut_part("made_2_00", str(slides / "part.tif"))
    (slides / "made_2_00.ome.tif").unlink()
    result = cytoseg("predict", "tiny.yaml", "made/slides", "--out", "results")
    assert result.exit_code == 1, result.output
    assert "part.tif: see results/part/preview.png" in result.stdout
    head, line = result.stderr.splitlines()
    assert head == "cytoseg: predict: 1 of 2 slides failed, the others are done."
    assert line.startswith("  made_2_01.ome.tif, tile at x 0, y 0 of level 0: made_2_01.ome.tif: truncated, tile 0 at ")
    assert line.endswith("Nothing was kept.")
    assert sorted(path.name for path in Path("results").iterdir()) == ["part"]
    last = json.loads((home / "runs" / "tiny" / "run.json").read_text())["commands"][-1]
    assert (last["outcome"], last["failed"]) == ("failed", ["made_2_01.ome.tif"])


@pytest.mark.slow
def test_a_bundle_alone_predicts_the_same(home: Path, part: str, cytoseg: Cytoseg) -> None:
    assert cytoseg("predict", "tiny.yaml", part).exit_code == 0
    shutil.move(home / "runs" / "tiny" / "interpreter" / "bundle", home / "smears")
    result = cytoseg("predict", "smears", part)
    assert result.exit_code == 0, result.output
    assert maps(home / "predictions" / "part") == maps(home / "runs" / "tiny" / "predictions" / "part")
    again = cytoseg("predict", "smears", "p?rt.tif", "predict.tile_px=64")
    assert "part.tif: see predictions" in again.stdout
    assert "done before" in cytoseg("predict", "smears", "p?rt.tif", "predict.tile_px=64").stdout


def test_another_vote_with_the_same_weights_is_not_taken_for_done(home: Path, part: str, cytoseg: Cytoseg) -> None:
    line = ("predict", "tiny.yaml", part)
    assert "done before" not in cytoseg(*line).stdout
    assert "done before" in cytoseg(*line).stdout
    path = home / "runs" / "tiny" / "interpreter" / "bundle" / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "vote": "hard"}))
    again = cytoseg(*line)
    assert again.exit_code == 0, again.output
    assert "done before" not in again.stdout


@pytest.mark.slow
def test_several_processes_give_the_same_maps(
    home: Path, cytoseg: Cytoseg, start: Callable[..., "subprocess.Popen[str]"]
) -> None:
    Path("parts").mkdir()
    names = [Path(cut_part(f"made_2_0{number}", f"parts/{number}.tif")).stem for number in range(3)]
    one = cytoseg("predict", "tiny.yaml", "parts", "--out", "one")
    assert one.exit_code == 0, one.output
    # As a user starts it: a spawned process runs the main module again.
    two = start("predict", "tiny.yaml", "parts", "--out", "two", "--workers", "2")
    said, errors = two.communicate(timeout=240)
    assert two.returncode == 0, said + errors
    for name in names:
        assert maps(home / "two" / name) == maps(home / "one" / name)


def test_a_bundle_that_says_no_mpp_takes_slides_as_they_are_and_tells(home: Path, part: str, cytoseg: Cytoseg) -> None:
    """Trained on pixels of unknown size, it cannot be matched: a slide that states its own gets a note."""
    path = home / "runs" / "tiny" / "interpreter" / "bundle" / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mpp": None}))
    Image.fromarray(np.full((40, 50, 3), 120, np.uint8)).save("silent.png")
    result = cytoseg("predict", "tiny.yaml", part, "silent.png", "--out", "results")
    assert result.exit_code == 0, result.output
    note = "read at its full resolution of 0.5 µm per pixel because the bundle does not specify one"
    assert f"part.tif: {note}; see results/part/preview.png" in result.stdout
    assert "silent.png: see results/silent/preview.png" in result.stdout
    said, silent = (json.loads(Path("results", name, "summary.json").read_text()) for name in ("part", "silent"))
    assert (said["note"], said["mpp"], said["size"]) == (note, 0.5, [80, 80])
    assert (silent["note"], silent["mpp"], silent["size"]) == ("", None, [50, 40])
    assert silent["classes"]["nucleus"]["area_um2"] is None
    assumed = cytoseg("predict", "tiny.yaml", "silent.png", "slides.assume_mpp=0.25", "--out", "results")
    assert "silent.png: read at its full resolution of 0.25 µm per pixel" in assumed.stdout


def test_results_of_another_slide_are_not_replaced(home: Path, cytoseg: Cytoseg) -> None:
    before = maps(home / "runs" / "tiny" / "predictions" / "made_2_00")
    Path("monday").mkdir()
    shutil.copy(home / "made" / "slides" / "made_2_01.ome.tif", "monday/made_2_00.ome.tif")
    result = cytoseg("predict", "tiny.yaml", "monday")
    assert result.exit_code == 2
    assert "made_2_00: holds the results of " in result.stderr
    assert "Choose another folder with --out" in result.stderr
    assert maps(home / "runs" / "tiny" / "predictions" / "made_2_00") == before
    both = cytoseg("predict", "tiny.yaml", "monday", "made/slides/made_2_00.ome.tif", "--out", "results")
    assert both.exit_code == 2
    assert "made_2_00: two slides of this name would share one folder" in both.stderr


def test_slides_of_any_name_and_size_and_one_without_cells(home: Path, cytoseg: Cytoseg) -> None:
    Path("odd").mkdir()
    cells = np.full((300, 260, 3), 240, np.uint8)
    cells[100:140, 90:150] = (90, 60, 140)
    for name, pixels in (
        ("Präparat 12.3 细胞.png", cells),
        ("blank slide.png", cells[:90]),
        ("tiny.v2.png", cells[100:120, 90:105]),
    ):
        Image.fromarray(pixels).save(Path("odd") / name)
    refused = cytoseg("predict", "tiny.yaml", "odd", "--out", "results")
    assert refused.exit_code == 1
    assert refused.stderr.count("does not state its micrometres per pixel") == 3
    result = cytoseg("predict", "tiny.yaml", "odd", "slides.assume_mpp=0.5", "--out", "results")
    assert result.exit_code == 0, result.output
    shapes = {path.name: tifffile.imread(path / MAPS[0]).shape for path in Path("results").iterdir()}
    assert shapes == {"Präparat 12.3 细胞": (300, 260), "blank slide": (90, 260), "tiny.v2": (20, 15)}
    blank = json.loads(Path("results/blank slide/summary.json").read_text())
    assert (blank["glass_tiles"], blank["mean_disagreement"]) == (blank["tiles"], None)
    assert blank["classes"]["background"]["share"] == 1
    assert blank["objects"]["nucleus"]["objects"] == 0
    assert Path("results/blank slide/cells.csv").read_text().count("\n") == 1


def test_a_folder_that_cannot_be_made_is_named(home: Path, cytoseg: Cytoseg) -> None:
    Path("results").write_text("a file, not a folder")
    result = cytoseg("predict", "tiny.yaml", "made/slides/made_2_00.ome.tif", "--out", "results")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "results/made_2_00: cannot be written" in line


def at_once(home: Path, cytoseg: Cytoseg) -> tuple[tuple[str, ...], str]:
    """Predict a slide of 512 x 768 px into at_once/; gives the command without --out, and the slide's name."""
    generate = "slides generate large --n 1 --width 512 --height 768 --crops 1 --seed 3"
    assert cytoseg(*generate.split()).exit_code == 0
    line = ("predict", "tiny.yaml", "large/slides", "predict.skip_glass=false")
    assert cytoseg(*line, "--out", "at_once").exit_code == 0
    (slide,) = (home / "large" / "slides").glob("*_00.ome.tif")
    return line, slide.name.removesuffix(".ome.tif")


def rows_in(part: Path) -> int:
    """How many rows of a prediction are finished."""
    finished = part / "rows.txt"
    return int(finished.read_text()) if finished.exists() else 0


def wait_for(is_time: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not is_time():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.posix
@pytest.mark.slow  # six starts of the program
def test_a_killed_prediction_goes_on_and_ends_in_the_same_bytes(
    home: Path, cytoseg: Cytoseg, start: Callable[..., "subprocess.Popen[str]"]
) -> None:
    line, name = at_once(home, cytoseg)
    part = home / "killed" / f".{name}.part"
    unsorted = part / "cells.csv.raw"  # is there while objects are written

    def rows() -> int:
        return rows_in(part)

    for is_time in (lambda: rows() > 100, lambda: rows() > 400, unsorted.exists):
        assert rows() < 768
        process = start(*line, "--out", "killed")
        wait_for(is_time, process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert (rows(), unsorted.exists(), (part / "summary.json").exists()) == (768, True, False)
    result = cytoseg(*line, "--out", "killed")
    assert result.exit_code == 0, result.output
    assert everything(home / "killed" / name) == everything(home / "at_once" / name)
    assert len(everything(home / "killed" / name)) == 7
    assert [path.name for path in (home / "killed").iterdir()] == [name]


def test_a_predicted_crop_is_corrected_and_comes_back_as_a_label(home: Path, cytoseg: Cytoseg) -> None:
    slide = "made/slides/made_2_00.ome.tif"
    result = cytoseg(
        "label-crops", "tiny.yaml", "--slide", slide, "--at", "120,100", "--at", "250,250", "--out", "mend"
    )
    assert "2 new crops, 0 already existed; 2 with the prediction" in result.stdout, result.output
    for path in (home / "mend").glob("made*[0-9].json"):
        path.write_text(json.dumps(json.loads(path.read_text()), indent=2))  # as labelme saves it
    imported = cytoseg("label-import", "mend", "--recipe", "tiny.yaml", "labels.folder=mended")
    assert imported.exit_code == 0, imported.output
    (path,) = (home / "mended" / "maps").glob("*_104_84.png")
    with Image.open(path) as label_map:
        found = np.array(label_map)
    predicted = tifffile.imread(home / "runs" / "tiny" / "predictions" / "made_2_00" / "class_map.ome.tif")
    # Corners are left out and specks are not proposed: a few pixels at the borders of classes differ.
    assert (found == predicted[84:116, 104:136]).mean() > 0.8


@pytest.mark.slow
def test_ray_gives_the_same_maps(home: Path, cytoseg: Cytoseg) -> None:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    one = cytoseg("predict", "tiny.yaml", "made/slides", "--out", "one")
    ray = cytoseg("predict", "tiny.yaml", "made/slides", "--out", str(home / "ray"), "--engine", "ray")
    assert (one.exit_code, ray.exit_code) == (0, 0), one.output + ray.output
    for name in ("made_2_00", "made_2_01", "made_2_02"):
        assert maps(home / "ray" / name) == maps(home / "one" / name)


@pytest.mark.posix
@pytest.mark.slow
def test_ray_goes_on_where_a_worker_was_killed(
    home: Path, cytoseg: Cytoseg, start: Callable[..., "subprocess.Popen[str]"]
) -> None:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    line, name = at_once(home, cytoseg)
    part = home / "ray" / f".{name}.part"
    process = start(*line, "--out", "ray", "--engine", "ray")
    wait_for(lambda: rows_in(part) > 300, process)
    (worker,) = [pid for pid, title in processes() if title.startswith("ray::attempt")]
    os.kill(worker, signal.SIGKILL)
    assert 300 < rows_in(part) < 768
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, said + errors
    assert everything(home / "ray" / name) == everything(home / "at_once" / name)


def processes() -> list[tuple[int, str]]:
    """Number and title of all processes of this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append((int(path.parent.name), path.read_bytes().replace(b"\0", b" ").decode(errors="replace")))
    return found
