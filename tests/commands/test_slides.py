from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import Result

from cytoseg.errors import SlideError
from cytoseg.geometry import Size
from cytoseg.locks import locked
from cytoseg.synthetic.draw import make_scene
from cytoseg.synthetic.generate import draw_bands

CytosegCommand = Callable[..., Result]


def test_info_shows_size_scale_and_tissue(cytoseg: CytosegCommand) -> None:
    result = cytoseg("slides", "info", "slides")
    assert result.exit_code == 0, result.output
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines() if "dark_" in line]
    assert [row[:4] for row in rows] == [[f"dark_{name}.png", "96 x 64", "1/1", "0.5"] for name in "ab"]
    assert all(20 <= int(row[4].removesuffix("%")) <= 40 for row in rows)  # a quarter, and the places at its edge


def test_info_shows_good_slides_and_tells_of_bad_ones(cytoseg: CytosegCommand) -> None:
    Path("slides/dark_b.png").write_bytes(b"")
    result = cytoseg("slides", "info", "slides/dark_a.png", "slides/dark_b.png")
    assert result.exit_code == 2
    assert "dark_a.png" in result.stdout
    assert result.stderr == "cytoseg: dark_b.png: is empty. Copy or download it again.\n"


def stack_file() -> Path:
    """Write three z-planes that are 0, 90 and 180 everywhere."""
    planes = np.repeat(np.array([0, 90, 180], np.uint8), 64 * 64 * 3).reshape(3, 64, 64, 3)
    tifffile.imwrite("z.ome.tif", planes, ome=True, photometric="rgb", tile=(16, 16), metadata={"axes": "ZYXS"})
    return Path("z.ome.tif")


def test_info_says_which_of_several_planes_is_read(cytoseg: CytosegCommand) -> None:
    result = cytoseg("slides", "info", str(stack_file()), "slides/dark_a.png")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-2] == "z.ome.tif: plane 2 of 3 (the middle one)"


def test_convert_writes_what_info_shows_and_then_leaves_it_alone(cytoseg: CytosegCommand) -> None:
    pytest.importorskip("zarr")
    for out in ("out/dark.zarr", "out/dark.ome.tif"):
        result = cytoseg("slides", "convert", "slides/dark_a.png", out)
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines()[-2] == f"See {out}"
    shown = cytoseg("slides", "info", "out/dark.zarr", "out")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.stdout.splitlines() if "dark" in line]
    assert [row[:4] for row in rows] == [
        ["dark.zarr", "96 x 64", "1/1", "0.5"],
        ["dark.ome.tif", "96 x 64", "1/1", "0.5"],
        ["dark.zarr", "96 x 64", "1/1", "0.5"],
    ]
    again = cytoseg("slides", "convert", "slides/dark_a.png", "out/dark.zarr")
    assert again.exit_code == 2
    assert "out/dark.zarr: already exists" in again.stderr


def test_convert_says_which_plane_it_writes(cytoseg: CytosegCommand) -> None:
    result = cytoseg("slides", "convert", str(stack_file()), "flat.ome.tif")
    assert "z.ome.tif: plane 2 of 3 (the middle one)" in result.stdout
    assert set(np.unique(tifffile.imread("flat.ome.tif"))) == {90}


def test_generate_makes_slides_with_crops_and_keeps_what_is_there(cytoseg: CytosegCommand) -> None:
    line = ["slides", "generate", "made", "--width", "256", "--height", "256", "--crop-px", "64"]
    line += ["--n", "1", "--crops", "1", "--seed", "2", "--mpp", "0.5"]
    first = cytoseg(*line)
    assert first.exit_code == 0, first.output
    assert "256/256" in first.stdout
    assert first.stdout.splitlines()[-2] == "1 slides in made/slides, 1 labelled crops in made/labelled"
    slide = Path("made/slides/made_2_00.ome.tif")
    assert tifffile.imread(slide).shape == (256, 256, 3)
    assert len(list(Path("made/labelled").glob("*.json"))) == len(list(Path("made/labelled").glob("*.png"))) == 1
    written = slide.stat().st_mtime_ns
    assert cytoseg(*line).exit_code == 0
    assert slide.stat().st_mtime_ns == written


def test_stains_of_made_slides_are_chosen_by_name_and_take_turns(cytoseg: CytosegCommand) -> None:
    line = ["slides", "generate", "made", "--width", "256", "--height", "256", "--crops", "0", "--n", "3"]
    result = cytoseg(*line, "--stain", "steel-coral", "--stain", "violet-olive")
    assert result.exit_code == 0, result.output
    size = Size(256, 256)
    for number, stain in enumerate(("steel-coral", "violet-olive", "steel-coral")):
        expected = next(draw_bands(make_scene(number, mpp=0.5, stain=stain), size))[0]
        found = tifffile.imread(f"made/slides/made_0_{number:02d}.ome.tif")
        assert np.abs(found.astype(int) - expected).mean() < 5, stain  # JPEG

    result = cytoseg(*line[:2], "other", *line[3:], "--stain", "purple")
    assert result.exit_code == 2
    assert "unknown stain 'purple'. Choose one of teal-rose, " in result.stderr


def test_made_slides_with_a_share_of_dyskaryotic_cells_have_a_kind_map(cytoseg: CytosegCommand) -> None:
    line = ["slides", "generate", "made", "--width", "256", "--height", "256", "--crops", "0", "--n", "1"]
    result = cytoseg(*line, "--dyskaryotic", "1")
    assert result.exit_code == 0, result.output
    assert "256/256" in result.stdout
    names = sorted(path.name for path in Path("made/slides").iterdir())
    assert names == ["made_0_00.kinds.ome.tif", "made_0_00.labels.ome.tif", "made_0_00.ome.tif"]
    labels, kinds = (tifffile.imread(f"made/slides/made_0_00.{what}.ome.tif") for what in ("labels", "kinds"))
    np.testing.assert_array_equal(kinds, np.where(labels > 0, 4, 0))

    refused = cytoseg(*line, "--dyskaryotic", "1.5")
    assert refused.exit_code == 2
    assert "--dyskaryotic" in refused.stderr


def test_generate_names_a_kept_slide_that_is_of_another_size(cytoseg: CytosegCommand) -> None:
    line = ["slides", "generate", "made", "--width", "256", "--crops", "0", "--n", "1"]
    cytoseg(*line, "--height", "256")
    assert "kept as it was" not in cytoseg(*line, "--height", "256").stdout
    kept = "made_0_00.ome.tif: kept as it was, 256 x 256 px at 0.5 µm per pixel. Remove it to generate it again."
    assert kept in cytoseg(*line, "--height", "300").stdout.splitlines()
    assert kept in cytoseg(*line, "--height", "256", "--mpp", "0.4").stdout.splitlines()
    assert kept in cytoseg(*line, "--height", "256", "--dyskaryotic", "0.1").stdout.splitlines()  # it has no kind map


def test_generate_refuses_a_slide_too_small_by_the_options_bound(cytoseg: CytosegCommand) -> None:
    result = cytoseg("slides", "generate", "made", "--width", "100")
    assert result.exit_code == 2
    assert "--width" in result.stderr
    assert not Path("made").exists()


def test_a_slide_that_another_process_generates_is_refused(
    cytoseg: CytosegCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cytoseg.commands.slides.PATIENCE_S", 0)
    with locked(Path("made/slides/made_0_00.ome.tif"), wait_s=0, error=SlideError):
        result = cytoseg("slides", "generate", "made", "--n", "1", "--width", "256", "--height", "256")
    assert result.exit_code == 2
    assert result.stderr.startswith("cytoseg: made/slides/made_0_00.ome.tif: ")
    assert result.stderr.endswith(" is writing it. Wait until it ends, or stop it.\n")
    assert list(Path("made/slides").iterdir()) == []
