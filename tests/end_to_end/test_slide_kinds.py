"""The same pixels as OME-TIFF, as OME-Zarr and as the middle plane of a z-stack give the same prediction."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from typer.testing import Result

Command = Callable[..., Result]


def predicted(cytoseg: Command, slide: str) -> tuple[Path, str]:
    """Predict a slide; gives the folder of the results and the last line that names it (what it counts is indented)."""
    result = cytoseg("predict", "tiny.yaml", slide)
    assert result.exit_code == 0, result.output
    said = [line for line in result.stdout.splitlines() if not line.startswith((" ", "Next:"))]
    return Path("runs/tiny/predictions", Path(slide).name.split(".")[0]), said[-1]


def assert_same_maps(folder: Path, before: Path) -> None:
    for name in ("class_map.ome.tif", "uncertainty.ome.tif"):
        assert_array_equal(tifffile.imread(folder / name), tifffile.imread(before / name))


def test_an_ome_zarr_is_predicted_like_the_tiff_it_was_made_of(cytoseg: Command, part: str) -> None:
    pytest.importorskip("zarr")
    before, _ = predicted(cytoseg, part)
    result = cytoseg("slides", "convert", part, "same.ome.zarr")
    assert result.exit_code == 0, result.output
    folder, said = predicted(cytoseg, "same.ome.zarr")
    assert said == f"same.ome.zarr: see {folder / 'preview.png'}"
    assert_same_maps(folder, before)
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["slide"], summary["note"]) == ("same.ome.zarr", "")
    sizes = [file.stat().st_size for file in Path("same.ome.zarr").rglob("*") if file.is_file()]
    assert summary["provenance"]["slide_bytes"] == sum(sizes)
    assert predicted(cytoseg, "same.ome.zarr/")[1].startswith("same.ome.zarr: done before, see ")
    Path("same.ome.zarr/0/0/0/0").write_bytes(b"damaged")
    again = cytoseg("predict", "tiny.yaml", "same.ome.zarr")
    assert again.exit_code == 2
    assert "same.ome.zarr: damaged at Region" in again.stderr


def test_of_a_stack_the_middle_plane_is_predicted_and_named(cytoseg: Command, part: str) -> None:
    before, _ = predicted(cytoseg, part)
    pixels = tifffile.imread(part)
    metadata = {"axes": "ZYXS", "PhysicalSizeX": 0.5}
    stack = np.stack([255 - pixels, pixels, pixels // 2])
    tifffile.imwrite("stack.ome.tif", stack, ome=True, photometric="rgb", tile=(64, 64), metadata=metadata)
    folder, said = predicted(cytoseg, "stack.ome.tif")
    assert said == f"stack.ome.tif: plane 2 of 3 (the middle one); see {folder / 'preview.png'}"
    assert_same_maps(folder, before)
    assert json.loads((folder / "summary.json").read_text())["note"] == "plane 2 of 3 (the middle one)"


@pytest.mark.usefixtures("unchecked")
def test_a_model_trains_on_ome_zarr_in_other_processes(cytoseg: Command, home: Path) -> None:
    pytest.importorskip("zarr")
    for number in range(2):
        assert (
            cytoseg("slides", "convert", f"made/slides/made_2_0{number}.ome.tif", f"zarrs/{number}.zarr").exit_code == 0
        )
    result = cytoseg("train-ddpm", "tiny.yaml", "name=zarr", "slides.folders=[zarrs]", "training.workers=2")
    assert result.exit_code == 0, result.output
    assert "2 of 2 slides contain cells." in result.stdout
