"""A synthetic run with one slide: a chessboard whose class map has every second square."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from streamlit.testing.v1 import AppTest

from cytoseg.classes import ClassList
from cytoseg.formats.sidecar import Origin
from cytoseg.geometry import Region, Size
from cytoseg.labels.index import CropName, LabelIndex, write_crop, write_index
from cytoseg.labels.original_annotation import OriginalAnnotation, write_original
from cytoseg.objects.geojson import ObjectFile, Outlined
from cytoseg.slides.fingerprint import slide_stamp
from cytoseg.slides.pyramid import write_pyramid

SQUARE_PX = 100
"""No divisor of a tile's 256 px, so that edges of tiles lie within squares, where a seam would show."""
MPP = 0.5
GLASS, CELL = (230, 220, 210), (90, 60, 120)
CLASSES = ClassList(("background", "cell"), ((240, 240, 240), (0, 114, 178)), "background")
RECIPE = """\
name: sighted
slides:
  folders: [slides]
  include: ["**/*"]
  exclude: []
labels:
  folder: null
classes:
  - {name: background, colour: "#f0f0f0"}
  - {name: cell, colour: "#0072b2"}
fill: background
"""
TRUTH = Region(100, 100, 100, 100)
"""Where the one marked crop lies; it shows glass, and all of it was marked as cell."""

OBJECTS = ((1, Region(100, 0, 100, 100)), (1, Region(0, 100, 100, 100)), (0, Region(300, 310, 20, 10)))
"""Class id and place of each object that ``add_objects`` writes."""


def squares(size_px: int) -> NDArray[np.uint8]:
    """Give the ids of the chessboard, (size, size): 0 in the upper left square, then 1."""
    row, column = np.indices((size_px, size_px)) // SQUARE_PX
    return ((row + column) % 2).astype(np.uint8)


def make_run(base: Path, *, size_px: int) -> Path:
    """Make base/slides/board.ome.tif and base/runs/sighted with its prediction and one marked crop."""
    run, slide = base / "runs" / "sighted", base / "slides" / "board.ome.tif"
    ids, size = squares(size_px), Size(size_px, size_px)
    picture = np.array([GLASS, CELL], np.uint8)[ids]
    write_pyramid(slide, [picture], size=size, mpp=MPP)
    folder = run / "predictions" / "board"
    write_pyramid(folder / "class_map.ome.tif", [ids], size=size, mpp=MPP, categorical=True)
    write_pyramid(folder / "uncertainty.ome.tif", [ids.astype(np.float32)], size=size, mpp=MPP)
    write_prediction(folder, slide, size_px)
    (run / "recipe.yaml").write_text(RECIPE)
    name, marked = CropName("crop", "board", "crop.json"), np.ones((100, 100), np.uint8)
    crop = write_crop(run / "labels", name, picture=picture[100:200, 100:200], label_map=marked, classes=CLASSES)
    write_original(run / "labels", "crop", OriginalAnnotation(Origin("board", TRUTH)))
    write_index(LabelIndex(run / "labels", CLASSES.names, (crop,)))
    return run


def add_objects(folder: Path, size_px: int) -> None:
    """Write the map, the outlines and the table of three objects of the chessboard; see ``OBJECTS``."""
    ids = np.zeros((size_px, size_px), np.uint32)
    rows = [
        "id,class,centroid_x_level0_px,centroid_y_level0_px,centroid_x_um,centroid_y_um,area_px,area_um2,perimeter_um"
    ]
    with ObjectFile(folder / "objects.geojson", slide="board.ome.tif", classes=CLASSES, downsample=1) as outlines:
        for number, (class_id, place) in enumerate(OBJECTS, start=1):
            x, y, width, height = place.as_json()
            ids[y : y + height, x : x + width] = number
            outlines.add(Outlined(number, class_id, x, y, np.ones((height, width), np.bool_), {}))
            middle, area = (x + width / 2, y + height / 2), width * height
            measured = (*middle, *(MPP * at for at in middle), area, area * MPP**2, MPP * 2 * (width + height))
            rows.append(f"{number},{CLASSES.names[class_id]}," + ",".join(map(str, measured)))
    size = Size(size_px, size_px)
    write_pyramid(folder / "instances.ome.tif", [ids], size=size, mpp=MPP, categorical=True)
    table = [f"{rows[0]},optical_density_mean", *(f"{row},0.5" for row in rows[1:])]
    (folder / "cells.csv").write_text("\n".join(table) + "\n")


def write_prediction(folder: Path, slide: Path, size_px: int) -> None:
    """Write the summary of a prediction whose maps lie in the folder."""
    length, changed = slide_stamp(slide)
    summary = {
        "slide": slide.name,
        "slide_path": str(slide),
        "size": [size_px, size_px],
        "mpp": MPP,
        "classes": {name: {"pixels": 1, "share": 0.5, "area_um2": 1.0} for name in CLASSES.names},
        "provenance": {"slide_bytes": length, "slide_changed": changed},
    }
    (folder / "summary.json").write_text(json.dumps(summary))


def told_viewer(app: AppTest) -> dict[str, Any]:
    """What the viewer of a page receives."""
    (viewer,) = (part for part in app.get("bidi_component") if part.proto.component_name == "cytoseg_viewer")
    told: dict[str, Any] = json.loads(viewer.proto.json)
    return told
