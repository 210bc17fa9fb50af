import csv
import json
from pathlib import Path

import numpy as np
import pytest

from cytoseg.anomaly import regions
from cytoseg.anomaly.regions import AnomalousRegion, find_regions, read_list, scored_slides, write_regions_csv
from cytoseg.csv_table import ENCODING
from cytoseg.errors import PredictionError
from cytoseg.geometry import Region
from tests.anomaly.maps import spool_of, thresholds


def test_squares_above_a_threshold_are_ranked_in_level_0_pixels(tmp_path: Path) -> None:
    ids = np.ones((4, 10), np.uint8)
    texture, shape = np.zeros((4, 10), np.float32), np.zeros((4, 10), np.float32)
    texture[0, 5] = 3.0  # 1.5 thresholds of a cell
    shape[3, 8] = 12.0  # 3 thresholds, in the narrow square at the right edge
    texture[2, 1] = 1.9
    found = find_regions(spool_of(tmp_path, ids, texture, shape), thresholds(), side_px=4, downsample=2.0)
    tenth = 3.0 / 2  # of 8 pixels one, of 16 two
    assert [(r.region, r.score, r.kind, r.label) for r in found] == [(Region(16, 0, 4, 8), 3.0, "shape", "cell")]
    texture[1, 5] = 3.0
    more = find_regions(spool_of(tmp_path, ids, texture, shape), thresholds(), side_px=4, downsample=2.0)
    assert [(r.region, r.texture, r.kind) for r in more[1:]] == [(Region(8, 0, 8, 8), tenth, "texture")]


def test_a_square_of_less_than_a_level_0_pixel_is_one_pixel_wide(tmp_path: Path) -> None:
    ids, texture = np.ones((4, 5), np.uint8), np.zeros((4, 5), np.float32)
    texture[:, 4] = 8.0  # in a last column that is left over, of maps finer than level 0
    spool = spool_of(tmp_path, ids, texture, np.zeros_like(texture))
    (found,) = find_regions(spool, thresholds(), side_px=4, downsample=0.25)
    assert found.region == Region(1, 0, 1, 1)
    assert Region.from_json(found.region.as_json()) == found.region


def test_no_more_than_the_highest_are_listed(tmp_path: Path) -> None:
    texture = np.arange(1, 101, dtype=np.float32).reshape(10, 10) * 10
    spool = spool_of(tmp_path, np.zeros((10, 10), np.uint8), texture, np.zeros_like(texture))
    found = find_regions(spool, thresholds(), side_px=1, downsample=1.0)
    assert len(found) == regions.MAX_REGIONS
    assert [r.texture for r in found[:2]] == [2000.0, 1980.0]


def test_the_table_has_a_row_for_each_region(tmp_path: Path) -> None:
    one = AnomalousRegion(Region(1, 2, 3, 4), 1.5, 2.5, "cell", "01.png")
    write_regions_csv(tmp_path / "regions.csv", [one])
    with (tmp_path / "regions.csv").open(encoding=ENCODING, newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {
        "rank": "1",
        "score": "2.5",
        "kind": "shape",
        "texture": "1.5",
        "shape": "2.5",
        "class": "cell",
        "x": "1",
        "y": "2",
        "width": "3",
        "height": "4",
        "picture": "01.png",
    }


def test_a_list_that_is_missing_or_names_other_files_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "anomaly" / "smear"
    with pytest.raises(PredictionError, match=r"smear/regions\.json: is missing\. Run `cytoseg anomaly"):
        read_list(folder)
    folder.mkdir(parents=True)
    assert scored_slides(tmp_path) == []
    one = {"region": [0, 0, 4, 4], "texture": 2.0, "shape": 1.0, "label": "cell", "picture": "../../secret.png"}
    content = {"format": 1, "slide_path": "", "regions": [one], "areas": {}}
    (folder / "regions.json").write_text(json.dumps(content))
    assert scored_slides(tmp_path) == [folder]
    with pytest.raises(PredictionError, match="is not an image of a region"):
        read_list(folder)
