from collections.abc import Callable
from pathlib import Path

import tifffile
from typer.testing import Result

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


def test_generate_makes_slides_with_crops_and_keeps_what_is_there(cytoseg: CytosegCommand) -> None:
    line = ["slides", "generate", "made", "--width", "256", "--height", "256", "--crop-px", "64"]
    line += ["--n", "1", "--crops", "1", "--seed", "2", "--mpp", "0.5"]
    first = cytoseg(*line)
    assert first.exit_code == 0, first.output
    assert "256/256" in first.stdout
    assert first.stdout.splitlines()[-1] == "1 slides in made/slides, 1 labelled crops in made/labelled"
    slide = Path("made/slides/made_2_00.ome.tif")
    assert tifffile.imread(slide).shape == (256, 256, 3)
    assert len(list(Path("made/labelled").glob("*.json"))) == len(list(Path("made/labelled").glob("*.png"))) == 1
    written = slide.stat().st_mtime_ns
    assert cytoseg(*line).exit_code == 0
    assert slide.stat().st_mtime_ns == written


def test_generate_refuses_a_slide_too_small_by_the_options_bound(cytoseg: CytosegCommand) -> None:
    result = cytoseg("slides", "generate", "made", "--width", "100")
    assert result.exit_code == 2
    assert "--width" in result.stderr
    assert not Path("made").exists()
