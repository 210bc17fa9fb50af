import json
from pathlib import Path
from typing import Any

import pytest

from cytoseg.errors import SlideError
from cytoseg.geometry import Size
from cytoseg.slides.ngff import Multiscale, is_slide_folder, metadata, read_multiscale

PLAIN = {"axes": [{"name": axis} for axis in "cyx"], "datasets": [{"path": "0"}]}


def write(folder: Path, attributes: Any, shape: tuple[int, ...] = (3, 40, 50)) -> Path:
    """Write the JSON files of a Zarr 2 folder with one level."""
    (folder / "0").mkdir(parents=True)
    (folder / ".zattrs").write_text(attributes if isinstance(attributes, str) else json.dumps(attributes))
    (folder / "0" / ".zarray").write_text(json.dumps({"shape": shape}))
    return folder


def test_a_slide_folder_ends_in_zarr(tmp_path: Path) -> None:
    for name in ("a.ZARR", "zarr", "b.zarr.d"):
        (tmp_path / name).mkdir()
    (tmp_path / "c.zarr").touch()
    assert [path.name for path in sorted(tmp_path.iterdir()) if is_slide_folder(path)] == ["a.ZARR"]


def test_what_zarr_2_says_beside_its_arrays(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", {"multiscales": [PLAIN]})
    assert read_multiscale(path) == Multiscale("cyx", (path / "0",), Size(50, 40), None)


def test_what_zarr_3_says_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    (path / "s0").mkdir(parents=True)
    unit = {"unit": "nanometer"}
    levels = [{"path": "s0", "coordinateTransformations": [{"type": "scale", "scale": [300, 300, 1]}]}]
    axes = [{"name": "y"} | unit, {"name": "x"} | unit, {"name": "c"}]
    found = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
    (path / "zarr.json").write_text(json.dumps({"attributes": {"ome": found}}))
    (path / "s0" / "zarr.json").write_text(json.dumps({"shape": [40, 50, 3]}))
    assert read_multiscale(path) == Multiscale("yxc", (path / "s0",), Size(50, 40), pytest.approx(0.3))


def test_scenes_are_taken_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    root = write(tmp_path / "a.zarr", {"bioformats2raw.layout": 3})
    (root / "0" / ".zattrs").write_text("{}")  # no image: it is no scene
    for number, width in ((10, 70), (9, 60), (1, 70)):
        write(root / str(number), {"multiscales": [PLAIN]}, (3, 40, width))
    found = read_multiscale(root)
    assert (found.arrays, found.note) == ((root / "1" / "0",), "scene 1 of 3 (the first of the largest)")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ("{bad", "the OME-Zarr metadata is missing or damaged"),
        ("[1]", "the OME-Zarr metadata is missing or damaged"),
        ({"multiscales": []}, "missing or damaged"),
        ({"multiscales": [{"datasets": [{"path": "0"}]}]}, r"missing or damaged \(no 'axes'\)"),
        ({"multiscales": [PLAIN | {"axes": ["y", "x"]}]}, "2 axes for an array of 3"),
        ({"multiscales": [PLAIN | {"axes": ["c", "y", "q"]}]}, "axes 'cyq'"),
        ({"multiscales": [PLAIN | {"axes": ["y", "y", "x"]}]}, "axes 'yyx'"),
        ({"multiscales": [PLAIN | {"axes": ["c", "z", "x"]}]}, "axes 'czx'"),
        ({"multiscales": [PLAIN | {"datasets": [{"path": "../b/0"}]}]}, r"a level lies outside the folder: '../b/0'"),
        ({"multiscales": [PLAIN | {"datasets": [{"path": "/etc"}]}]}, r"a level lies outside the folder: '/etc'"),
        ({"multiscales": [PLAIN | {"datasets": [{"path": "7"}]}]}, "missing or damaged"),
        ({"plate": {}}, "contains a plate of wells. Copy one image into"),
        ({"well": {}}, "contains a plate of wells"),
    ],
)
def test_what_is_no_ome_zarr_is_reported_in_one_line(tmp_path: Path, attributes: Any, message: str) -> None:
    with pytest.raises(SlideError, match=rf"^a.zarr: .*{message}.*\.$"):
        read_multiscale(write(tmp_path / "a.zarr", attributes))


def test_a_folder_without_metadata(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(SlideError, match=r"a.zarr: the OME-Zarr metadata is missing"):
        read_multiscale(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / ".zattrs").write_text("{}")
    with pytest.raises(SlideError, match=r"a.zarr: is not an OME-Zarr image \(no multiscales\)"):
        read_multiscale(tmp_path / "a.zarr")


@pytest.mark.parametrize(("rgb", "axes", "shape"), [(True, "cyx", (3, 40, 50)), (False, "yx", (40, 50))])
@pytest.mark.parametrize("mpp", [0.25, None])
def test_what_is_written_is_read(tmp_path: Path, rgb: bool, axes: str, shape: tuple[int, ...], mpp: float) -> None:
    path = write(tmp_path / "a.zarr", metadata("a.zarr", [1, 2], rgb=rgb, mpp=mpp), shape)
    assert read_multiscale(path) == Multiscale(axes, (path / "0", path / "1"), Size(50, 40), mpp)
