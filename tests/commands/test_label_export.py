import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

CytosegCommand = Callable[..., Result]


def mark(path: Path, *points: tuple[float, float]) -> None:
    """Draw a cell in labelme."""
    entry = {"label": "cell", "shape_type": "polygon", "points": points, "flags": {"sure": True}, "group_id": 3}
    content = {"version": "5.5.0", "flags": {}, "shapes": [entry], "imagePath": f"{path.stem}.png", "imageData": None}
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def labels(cytoseg: CytosegCommand) -> list[dict[str, Any]]:
    """Two crops, cut at another resolution than the slide's, marked in labelme and imported; gives the index."""
    cytoseg("label-crops", "tiny.yaml", "slides.mpp=0.75", "crops.size_px=16", "--size", "16", "--n", "2")
    for path in Path("runs/tiny/to_label").glob("*.png"):
        mark(path.with_suffix(".json"), (1.5, 1.25), (12, 2), (9, 14.75))
    assert cytoseg("label-import", "runs/tiny/to_label", "--recipe", "tiny.yaml").exit_code == 0
    return index()


def index() -> list[dict[str, Any]]:
    crops: list[dict[str, Any]] = json.loads(Path("runs/tiny/labels/index.json").read_text())["crops"]
    return crops


def test_crops_go_to_qupath_and_come_back_in_place_of_themselves(
    cytoseg: CytosegCommand, labels: list[dict[str, Any]]
) -> None:
    result = cytoseg("label-export", "tiny.yaml", "out", "--format", "geojson")
    assert result.exit_code == 0, result.output
    slides = {crop["slide"] for crop in labels}
    assert f"2 crops exported into {len(slides)} files in out." in result.stdout
    assert {path.name for path in Path("out").iterdir()} == {f"{slide}.geojson" for slide in slides}
    again = cytoseg("label-import", "out", "--slides", "slides", "--recipe", "tiny.yaml", "slides.mpp=0.75")
    assert again.exit_code == 0, again.output
    assert "2 crops imported (2 replaced), 2 in all" in again.stdout
    same = ("crop", "slide", "image_sha256", "label_sha256")
    assert [[crop[key] for key in same] for crop in index()] == [[crop[key] for key in same] for crop in labels]


def test_crops_go_back_to_labelme_as_they_were(cytoseg: CytosegCommand, labels: list[dict[str, Any]]) -> None:
    result = cytoseg("label-export", "tiny.yaml", "out")
    assert result.exit_code == 0, result.output
    assert "2 crops exported into 2 files in out." in result.stdout
    for crop in labels:
        name = crop["crop"]
        before = json.loads(Path(f"runs/tiny/to_label/{name}.json").read_text())
        after = json.loads(Path(f"out/{name}.json").read_text())
        assert after == before | {"imageWidth": 16, "imageHeight": 16}
    assert "2 crops imported (2 replaced)" in cytoseg("label-import", "out", "--recipe", "tiny.yaml").stdout
    assert index() == labels


def test_what_was_imported_before_shapes_were_kept_is_traced(
    cytoseg: CytosegCommand, labels: list[dict[str, Any]]
) -> None:
    for path in Path("runs/tiny/labels/shapes").iterdir():
        path.unlink()
    result = cytoseg("label-export", "tiny.yaml", "out")
    assert "note: 2 crops were imported without shapes and traced from their label maps." in result.stdout
    cytoseg("label-import", "out", "--recipe", "tiny.yaml")
    assert [crop["label_sha256"] for crop in index()] == [crop["label_sha256"] for crop in labels]


def test_files_in_the_way_are_left_alone(cytoseg: CytosegCommand, labels: list[dict[str, Any]]) -> None:
    result = cytoseg("label-export", "tiny.yaml", "runs/tiny/to_label")
    assert result.exit_code == 2
    assert "runs/tiny/to_label: already exists and is not empty. Name a new folder." in result.stderr


def test_nothing_imported_is_reported(cytoseg: CytosegCommand) -> None:
    result = cytoseg("label-export", "tiny.yaml", "out")
    assert result.exit_code == 2
    assert "there are no imported labels. Run `cytoseg label-import` first." in result.stderr


def test_regions_of_another_class_are_named_on_the_command_line(cytoseg: CytosegCommand) -> None:
    def box(label: str, x: int, y: int, side: int) -> dict[str, Any]:
        ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        return {"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": label}}}

    Path("dark_a.png.geojson").write_text(json.dumps([box("Field 1", 48, 0, 16), box("cell", 50, 2, 4)]))
    arguments = ("label-import", "dark_a.png.geojson", "--slides", "slides", "--recipe", "tiny.yaml", "slides.mpp=1.0")
    result = cytoseg(*arguments, "--region", "Field 1")
    assert result.exit_code == 0, result.output
    (crop,) = index()
    assert (crop["crop"], crop["slide"], crop["width"]) == ("dark_a_x48_y0", "dark_a", 8)
    assert crop["pixels"] == {"background": 60, "cell": 4}
    refused = cytoseg(*arguments)
    assert "'Field 1' (1 shape, first dark_a.png.geojson, feature 1)" in refused.stderr
