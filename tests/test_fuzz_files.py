"""Pictures, maps, packed labels, weights and overrides mutated at random: read, or refused in one printable line."""

import gzip
import hashlib
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import tifffile
import torch
from PIL import Image

from cytoseg.checkpoints import load_checkpoint
from cytoseg.errors import CytosegError
from cytoseg.formats.labelme import read_labelme
from cytoseg.formats.qupath import read_geojson
from cytoseg.formats.read_mask import read_mask
from cytoseg.geometry import Region, Size
from cytoseg.maps.map_file import MapFile
from cytoseg.recipe.file import load_recipe
from cytoseg.slides.open import open_slide
from cytoseg.slides.pyramid import write_pyramid
from tests.labels.features import box
from tests.test_fuzz import NUMBERS, check, damaged, mutated

IDS = np.random.default_rng(0).integers(0, 3, (40, 50), np.uint8)
SHAPE = {"label": "a", "shape_type": "polygon", "points": [[1, 1], [9, 1], [9, 9]], "group_id": None}
LABELME = {"shapes": [SHAPE], "imagePath": "a.png", "imageHeight": 40, "imageWidth": 50}
GEOJSON = {"type": "FeatureCollection", "features": [box("Region*", 0, 0, 6, 4), box("a", 1, 1, 3, 3)]}
KEYS = (
    "name",
    "slides.mpp",
    "slides.folders",
    "classes",
    "features.taps",
    "training.crops",
    "slides",
    "a.b",
    "",
    "fill",
)
VALUES = (
    *("[", "{", "&a [*a]", "!!python/object:os.system x", "9" * 5000, ".nan", "-.inf", "1e999", "[" * 300, "~", ""),
    *(
        '"\\0"',
        "\u202ex",
        "2001-13-45",
        "<<: *x",
        "-1",
        "{a: 1}",
        "x" * 100_000,
        '["**x"]',
        "? x",
        "%T",
        "@",
        "!!set {a}",
    ),
)


def _png(content: bytes) -> bytes:
    file = io.BytesIO()
    Image.fromarray(IDS).save(file, "png")
    return file.getvalue()


def _tiff(content: bytes) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, IDS, compression="deflate", tile=(16, 16))
    return file.getvalue()


def _zip(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.geojson", content)
    return file.getvalue()


def _map(content: bytes) -> bytes:
    path = Path("made.ome.tif")
    write_pyramid(path, [IDS], size=Size(50, 40), mpp=0.5, categorical=True)
    return path.read_bytes()


def _read_map(path: Path) -> None:
    with MapFile(path) as found:
        found.read(-3, 5, width=60, height=40)


def _read_slide(path: Path) -> None:
    with open_slide(path) as slide:
        for level in range(len(slide.levels)):
            slide.read_region(Region(0, 0, 60, 50), level)


def _weights(content: bytes) -> bytes:
    return safetensors.torch.save({"a": torch.zeros(2, 3), "b": torch.ones(4)})


def _read_weights(path: Path) -> None:
    state = {"format": 1, "sha256": {"model": hashlib.sha256(path.read_bytes()).hexdigest()}}
    (path.parent / "state.json").write_text(json.dumps(state))
    load_checkpoint(path.parent)


def _read_labelme(path: Path) -> None:
    Image.fromarray(IDS).convert("RGB").save(path.with_name("a.png"))
    read_labelme(path, root=path.parent, problems=[])


def _read_geojson(path: Path) -> None:
    read_geojson(path, name=path.name, problems=[])


def _same(content: bytes) -> bytes:
    return content


FILES: dict[str, tuple[str, Any, Callable[[bytes], bytes], Callable[[Path], object]]] = {
    "labelme": ("a.json", LABELME, _same, _read_labelme),
    "geojson": ("a.geojson", GEOJSON, _same, _read_geojson),
    "gzip": ("a.geojson.gz", GEOJSON, gzip.compress, _read_geojson),
    "zip": ("a.zip", GEOJSON, _zip, _read_geojson),
    "mask": ("a.png", None, _png, lambda path: read_mask(path, name=path.name)),
    "tiff mask": ("a.tif", None, _tiff, lambda path: read_mask(path, name=path.name)),
    "map": ("class_map.ome.tif", None, _map, _read_map),
    "slide": ("a.tif", None, _map, _read_slide),
    "weights": ("model.safetensors", None, _weights, _read_weights),
}


def flipped(data: bytes, draw: random.Random) -> bytes:
    """Change some bytes anywhere; one in three is a number of four."""
    changed = bytearray(data)
    for _ in range(draw.choice((0, 1, 1, 3, 20))):
        place = draw.randrange(len(changed))
        if draw.random() < 0.3 and place + 4 <= len(changed):
            struct.pack_into("<I", changed, place, draw.choice((0, 1, 2**16, 2**31, 2**32 - 1)))
        else:
            changed[place] = draw.randrange(256)
    return bytes(changed[: draw.randrange(1, len(changed))] if draw.random() < 0.1 else changed)


@pytest.mark.parametrize("name", FILES)
def test_a_mutated_file_is_read_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    file, content, pack, read = FILES[name]
    whole = pack(json.dumps(content).encode())
    for number in NUMBERS:
        draw = random.Random(f"{name} {number}")
        data = whole
        if content is not None:
            data = pack(damaged(json.dumps(mutated(content, draw)).encode(), draw) or b" ")
        (tmp_path / file).write_bytes(data if pack is _same else flipped(data, draw))
        check(lambda: read(tmp_path / file), number)


def test_overrides_that_make_no_sense(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: t\nslides: {mpp: 0.5}\n")
    for number in (2 * number + odd for number in NUMBERS for odd in (0, 1)):
        draw = random.Random(number)
        overrides = [f"{draw.choice(KEYS)}={draw.choice(VALUES)}" for _ in range(draw.choice((1, 2)))]
        check(lambda given=overrides: load_recipe(str(tmp_path / "r.yaml"), given), number)  # type: ignore[misc] # its own


def test_an_archive_whose_file_has_no_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(_zip(b"{}").replace(b"a.geojson", b"\0.geojson"))
    problems: list[str] = []
    assert read_geojson(path, name=path.name, problems=problems) is None
    assert problems == [
        "a.zip: holds no GeoJSON file that can be listed: it is empty or damaged, or holds over 1,000 files. "
        "Export it again, or unpack it and name the folder."
    ]


@pytest.mark.parametrize("tag", [256, 257, 322, 323])
def test_a_slide_or_tiles_of_no_pixels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: int) -> None:
    monkeypatch.chdir(tmp_path)
    data = bytearray(_tiff(b""))
    (begin,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, begin)
    places = [begin + 2 + 12 * number for number in range(count)]
    (place,) = (place for place in places if struct.unpack_from("<H", data, place)[0] == tag)
    struct.pack_into("<I", data, place + 8, 0)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(CytosegError, match=r"a\.tif: "):
        _read_slide(tmp_path / "a.tif")
