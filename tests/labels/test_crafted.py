"""Damaged and crafted label files: each is read, or refused in printable lines without a traceback."""

import copy
import gzip
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cytoseg.classes import ClassList
from cytoseg.errors import CytosegError
from cytoseg.labels.export import export_labels
from cytoseg.labels.import_labels import import_labels
from cytoseg.labels.import_settings import ImportRules
from cytoseg.labels.index import load_index
from tests.labels.features import box

Write = Callable[..., Path]
STRANGE = [
    None,
    True,
    0,
    -1,
    1e308,
    float("nan"),
    float("inf"),
    2**63,
    10**3000,
    "",
    "x" * 100_000,
    "\0",
    "\u202e\x1b[2J",
]
STRANGE += ["..", "a/b", [], {}, [[]], [1], {"a": 1}, 0.5, 1e7]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of JSON with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


def spoilt(content: Any, rng: random.Random) -> bytes:
    """Replace one value of JSON, or some of its bytes."""
    content = copy.deepcopy(content)
    if rng.random() < 0.8:
        container, key = rng.choice(list(places(content)))
        container[key] = rng.choice(STRANGE)
    most = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    data = bytearray(json.dumps(content).encode())
    sys.set_int_max_str_digits(most)
    if rng.random() < 0.3:
        for _ in range(3):
            data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def look(folder: Path, source: Path, classes: ClassList, out: Path) -> None:
    """Import, read back and export; whatever is refused is said in short printable lines."""
    said = ""
    try:
        if (folder / "index.json").exists():
            for crop in load_index(folder).crops:
                crop.label_map()
        import_labels(source, folder, classes=classes, rules=ImportRules())
        export_labels(load_index(folder), out / "labelme", form="labelme", classes=classes)
        export_labels(load_index(folder), out / "geojson", form="geojson", classes=classes)
    except CytosegError as error:
        said = str(error)
    assert all(line.isprintable() and len(line) < 500 for line in said.splitlines())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["labelme", "sidecar", "geojson", "gzip", "index", "kept"])
def test_a_spoilt_file_is_read_or_refused(
    tmp_path: Path,
    write_labelme: Write,
    write_geojson: Write,
    classes: ClassList,
    square: dict[str, Any],
    kind: str,
    seed: int,
) -> None:
    rng = random.Random(f"{kind} {seed}")
    circle = {"label": "cell", "shape_type": "circle", "points": [[3, 2], [4, 2]], "group_id": 2}
    origin = {"slide": "s", "region": [0, 0, 6, 4]}
    for number in range(5):
        source, folder = tmp_path / f"{number}", tmp_path / f"{number}.labels"
        path = write_labelme(source, "a", [square, circle], **({} if kind == "sidecar" else {"cytoseg": origin}))
        if kind in ("geojson", "gzip"):
            path.unlink()
            path = write_geojson(source / "a.geojson", box("Region*", 0, 0, 6, 4), box("cell", 1, 1, 3, 3))
        elif kind in ("index", "kept"):
            import_labels(source, folder, classes=classes, rules=ImportRules())
            path = folder / ("index.json" if kind == "index" else "shapes/a.json")
        content = origin if kind == "sidecar" else json.loads(path.read_text())
        path = source / "a.crop.json" if kind == "sidecar" else path
        path.write_bytes(spoilt(content, rng))
        if kind == "gzip":
            packed = bytearray(gzip.compress(path.read_bytes()))
            packed[rng.randrange(len(packed))] ^= 1 << rng.randrange(8)
            (source / "a.geojson.gz").write_bytes(packed)
            path.unlink()
        look(folder, source, classes, tmp_path / f"{number}.out")
