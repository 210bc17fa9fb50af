"""Truncated slides and damaged tiles: earlier rows are predicted and kept, the tile is named."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from typer.testing import Result

from cytoseg.geometry import Region, Size
from cytoseg.maps.map_spool import IDS, UNCERTAINTY, MapSpool
from cytoseg.slides import tile_table
from cytoseg.slides.open import open_slide
from tests.end_to_end.cases import cut_part
from tests.end_to_end.conftest import run_command

Command = Callable[..., Result]
MAPS = ("class_map.ome.tif", "uncertainty.ome.tif")
BITS = "predict.uncertainty_bits=32"


@pytest.fixture
def pixels(home: Path) -> NDArray[np.uint8]:
    """(256, 128, 3), the left half of a synthetic slide."""
    with open_slide(home / "made" / "slides" / "made_2_00.ome.tif") as slide:
        return slide.read_region(Region(0, 0, 128, 256))


@pytest.fixture
def write(home: Path, pixels: NDArray[np.uint8]) -> Callable[..., int]:
    """Write slide.tif in 4 x 2 tiles of 64 px and coarser levels; gives where a tile of a level begins in the file."""

    def levels(count: int, *, level: int, tile: int) -> int:
        tags = {"tile": (64, 64), "photometric": "rgb", "compression": "zlib"}
        scale = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
        with tifffile.TiffWriter("slide.tif") as tif:
            tif.write(pixels, subifds=count - 1, **tags, **scale)
            for number in range(1, count):
                tif.write(pixels[:: 2**number, :: 2**number], subfiletype=1, **tags)
        with tifffile.TiffFile("slide.tif") as tif:
            return int(tif.series[0].levels[level].pages[0].dataoffsets[tile])

    return levels


@pytest.fixture(scope="module")
def whole(made_run: tuple[Path, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prediction of the undamaged half; its pixels are those of the finest level of all files that are written."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copytree(made_run[0] / "runs", folder / "runs")
    shutil.copy(made_run[0] / "tiny.yaml", folder)
    with open_slide(made_run[0] / "made" / "slides" / "made_2_00.ome.tif") as slide:
        half = slide.read_region(Region(0, 0, 128, 256))
    scale = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(folder / "whole.tif", half, tile=(64, 64), photometric="rgb", **scale)
    line = ("predict", "tiny.yaml", "whole.tif", "slides.folders=[.]", "predict.skip_glass=false", BITS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_command(*line, "--out", "good").exit_code == 0
    return folder / "good" / "whole"


def cut(at: int) -> None:
    Path("slide.tif").write_bytes(Path("slide.tif").read_bytes()[:at])


def spoil(at: int) -> None:
    content = Path("slide.tif").read_bytes()
    Path("slide.tif").write_bytes(content[:at] + bytes(20) + content[at + 20 :])


@pytest.mark.parametrize(
    ("count", "damage", "why"),
    [
        (1, cut, "truncated, tile 7 at x 64, y 192 is cut off"),
        pytest.param(3, cut, "truncated, tile 7 at x 64, y 192 is cut off", marks=pytest.mark.slow),
        pytest.param(1, spoil, "tile 7 at x 64, y 192 is damaged", marks=pytest.mark.slow),
    ],
    ids=["one level, cut", "pyramid, cut", "one level, damaged"],
)
def test_what_comes_before_a_bad_tile_is_predicted_and_kept(
    cytoseg: Command, write: Callable[..., int], whole: Path, count: int, damage: Callable[[int], None], why: str
) -> None:
    """Tiles of prediction begin every 24 rows and are 32 high: that from row 168 on is the first to need row 192."""
    at = write(count, level=0, tile=7)
    damage(at + 10)
    for _ in range(2):  # again from what is kept, with the same end
        result = cytoseg("predict", "tiny.yaml", "slide.tif", "--out", "bad")
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert line.startswith("cytoseg: slide.tif, tile at x ")
        assert why in line
        assert line.endswith("168 of 256 rows are finished and were kept.")
        spool = MapSpool(Path("bad/.slide.part"), size=Size(128, 256))
        assert spool.rows == 168
    assert [path.name for path in Path("bad").iterdir()] == [".slide.part"]
    for name, kept in zip(MAPS, (IDS, UNCERTAINTY), strict=True):
        good = tifffile.imread(whole / name)
        np.testing.assert_array_equal(spool.window(kept, x=0, y=0, width=128, height=168), good[:168])


@pytest.mark.slow
def test_another_slide_is_done_all_the_same(cytoseg: Command, write: Callable[..., int]) -> None:
    cut(write(1, level=0, tile=7) + 10)
    result = cytoseg("predict", "tiny.yaml", "slide.tif", cut_part("made_2_01", "other.tif"), "--out", "results")
    assert result.exit_code == 1
    assert "other.tif: see results/other/preview.png" in result.stdout
    assert "tile 7 at x 64, y 192 is cut off" in result.stderr


@pytest.mark.slow
def test_a_pyramid_without_its_coarsest_level_is_predicted_whole(
    cytoseg: Command, write: Callable[..., int], whole: Path
) -> None:
    cut(write(3, level=2, tile=0) + 10)
    result = cytoseg("predict", "tiny.yaml", "slide.tif", "predict.skip_glass=false", "--out", "bad")
    assert result.exit_code == 0, result.output
    note = json.loads(Path("bad/slide/summary.json").read_text())["note"]
    assert note == "truncated at level 2: 1 of 1 tiles lie beyond the end of the file; the first is tile 0"
    assert f"slide.tif: {note}; see bad/slide/preview.png" in result.stdout
    np.testing.assert_array_equal(
        tifffile.imread("bad/slide/class_map.ome.tif"), tifffile.imread(whole / "class_map.ome.tif")
    )


def test_damage_in_a_coarser_level_is_reported_before_anything_is_computed(
    cytoseg: Command, pixels: NDArray[np.uint8]
) -> None:
    """The mask of a wide slide is made from level 2; no tile would ever meet what is damaged there."""
    wide = np.tile(pixels[:64], (1, 32, 1))
    tags = {"tile": (64, 64), "photometric": "rgb", "compression": "zlib"}
    with tifffile.TiffWriter("slide.tif") as tif:
        tif.write(wide, subifds=2, resolution=(20_000, 20_000), resolutionunit="CENTIMETER", **tags)
        tif.write(wide[::2, ::2], subfiletype=1, **tags)
        tif.write(wide[::4, ::4], subfiletype=1, **tags)
    with tifffile.TiffFile("slide.tif") as tif:
        spoil(int(tif.series[0].levels[2].pages[0].dataoffsets[5]) + 10)
    result = cytoseg("predict", "tiny.yaml", "slide.tif", "--out", "bad")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("cytoseg: slide.tif: tile 5 at x 320, y 0 is damaged")
    assert not list(Path("bad").glob(".*"))


@pytest.mark.parametrize(
    "command",
    [
        ("slides", "info", "slide.tif"),
        ("slides", "convert", "slide.tif", "new.ome.tif"),
        (
            "train-ddpm",
            "tiny.yaml",
            "folder=runs/new",
            "slides.folders=[.]",
            "slides.include=[slide.tif]",
            "slides.background.rule=none",
        ),
    ],
    ids=lambda command: command[0] + " " + command[1],
)
def test_who_needs_the_whole_slide_refuses_it_at_once(
    cytoseg: Command, write: Callable[..., int], command: tuple[str, ...]
) -> None:
    cut(write(1, level=0, tile=7) + 10)
    result = cytoseg(*command)
    assert result.exit_code == 2
    told = "truncated at level 0: 1 of 8 tiles lie beyond the end of the file; the first is tile 7"
    assert result.stderr == f"cytoseg: slide.tif: {told}. Copy the file again.\n"
    assert not Path("new.ome.tif").exists()


@pytest.mark.slow
def test_openslide_predicts_and_keeps_what_comes_before_a_bad_tile_too(
    cytoseg: Command, write: Callable[..., int]
) -> None:
    pytest.importorskip("openslide")
    spoil(write(1, level=0, tile=6) + 10)
    Path("slide.tif").rename("slide.svslide")
    result = cytoseg("predict", "tiny.yaml", "slide.svslide", "--out", "bad")
    assert result.exit_code == 2
    assert "slide.svslide: damaged at Region(x=0, y=168, width=32, height=32)" in result.stderr
    assert "168 of 256 rows are finished and were kept." in result.stderr


@pytest.mark.slow
def test_a_disk_that_fails_for_a_while_leaves_no_mark_on_the_result(
    cytoseg: Command, write: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails while tissue is sought: what was finished before stays, and nothing is computed without the mask."""
    at, line, read_at = write(1, level=0, tile=6), ("predict", "tiny.yaml", "slide.tif", "--out"), tile_table._read_at
    assert cytoseg(*line, "good").exit_code == 0
    assert json.loads(Path("good/slide/summary.json").read_text())["glass_tiles"] == 8

    def failing(after: int) -> Callable[[int, int, int], bytes]:
        asked: list[int] = []

        def give(descriptor: int, count: int, offset: int) -> bytes:
            asked.append(offset)
            if offset >= at and len(asked) > after:
                raise OSError(errno.EIO, "Input/output error")
            return read_at(descriptor, count, offset)

        return give

    # The mask takes each of the 8 tiles once; the second run fails before it has one.
    for after, kept in (
        (8, "168 of 256 rows are finished and were kept."),
        (0, "Check its disk, or copy the file again."),
    ):
        with monkeypatch.context() as patched:
            patched.setattr("cytoseg.slides.tile_table._read_at", failing(after))
            result = cytoseg(*line, "bad")
        assert result.exit_code == 2
        assert "tile 6 at x 0, y 192 cannot be read ([Errno 5] Input/output error)" in result.stderr
        assert result.stderr.endswith(f"{kept}\n")
        assert MapSpool(Path("bad/.slide.part"), size=Size(128, 256)).rows == 168
    assert cytoseg(*line, "bad").exit_code == 0
    for name in MAPS:
        assert (Path("bad/slide") / name).read_bytes() == (Path("good/slide") / name).read_bytes()
