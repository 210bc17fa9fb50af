import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from cytoseg.errors import LabelError
from cytoseg.formats.id_arrays import find_arrays, read_id_array
from cytoseg.formats.read_mask import read_mask

IDS = np.array([[0, 1, 255], [2, 1, 0]])


@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", ">i4", "<i8", "<u8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_ids_of_any_whole_type_are_read(tmp_path: Path, dtype: str, order: str) -> None:
    values = np.array(IDS % 128, dtype, order=order)  # type: ignore[call-overload] # the order is a text for mypy
    np.save(tmp_path / "a.npy", values)
    found = read_id_array(tmp_path / "a.npy", name="a.npy")
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


def test_a_mask_is_known_by_its_first_bytes_or_its_suffix(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IDS)
    (tmp_path / "a.npy").rename(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", name="a"), IDS)
    (tmp_path / "b.npy").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(LabelError, match=r"^b: is damaged or not a numpy file"):
        read_mask(tmp_path / "b.npy", name="b")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([[0.0, np.nan]]), r"holds values of type float64, not class ids\. Save it with np\.save"),
        (np.array([[0.0, 1.0]], np.float32), r"holds values of type float32"),
        (np.zeros((2, 2), "m8[s]"), r"holds values of type timedelta64\[s\]"),
        (np.array([[True]]), r"holds values of type bool"),
        (np.array([["a"]]), r"holds values of type <U1"),
        (np.zeros((2, 2), [("a", "i4")]), r"holds values of type"),
        (np.array([[{}, None]]), r"holds pickled objects, not class ids"),
        (np.zeros(4, int), r"has shape \(4,\), but must be \(height, width\)"),
        (np.zeros((2, 2, 1), int), r"has shape \(2, 2, 1\)"),
        (np.zeros((0, 5), int), r"claims 5x0 pixels"),
    ],
)
def test_what_holds_no_ids_is_refused_in_one_line(tmp_path: Path, values: np.ndarray, said: str) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(LabelError, match=rf"^train/a\.npy: {said}") as caught:
        read_id_array(tmp_path / "a.npy", name="train/a.npy")
    assert "\n" not in str(caught.value)


def _header(shape: tuple[int, ...]) -> bytes:
    file = BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<i8", "fortran_order": False, "shape": shape})
    return file.getvalue()


def test_a_claim_is_checked_before_memory_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(_header((2**20, 2**20)))
    with pytest.raises(LabelError, match=r"claims 1048576x1048576 pixels\. .*set CYTOSEG_MAX_PICTURE_PX"):
        read_id_array(path, name="a")
    path.write_bytes(_header((4000, 4000)) + bytes(16))
    with pytest.raises(LabelError, match=r"damaged or not a numpy file \(\d+ of 128000\d+ bytes\)"):
        read_id_array(path, name="a")
    monkeypatch.setenv("CYTOSEG_MAX_PICTURE_PX", "5")
    np.save(path, IDS)
    with pytest.raises(LabelError, match=r"claims 3x2 pixels"):
        read_id_array(path, name="a")


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff", b"\x93NUMPY\x07\x00", b"PK\x03\x04"]
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(LabelError, match=r"^a: is damaged or not a numpy file"):
        read_id_array(path, name="a")
    with pytest.raises(LabelError, match=r"^b: is damaged or not a numpy file"):
        read_id_array(tmp_path / "missing.npy", name="b")


def test_arrays_are_found_beside_their_pictures(tmp_path: Path) -> None:
    for place in (
        "real/train/a",
        "real/test/a",
        "real/test/b",
        "ddpm/c",
        "real/.cache/d",
        "real/train/e",
        "real/train/e_seg",
        "real/test/f",
    ):
        path = tmp_path / f"{place}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, IDS)
    for place in ("real/train/a.jpg", "real/test/a.png", "real/test/b.JPEG", "ddpm/c.png", "real/test/f.png"):
        (tmp_path / place).touch()
    (tmp_path / "real/test/f.jpg").touch()
    problems: list[str] = []
    notes: list[str] = []
    found = find_arrays(tmp_path, problems, notes)
    assert [(p.name, a.parent.name, crop) for p, a, crop in found] == [
        ("a.png", "test", "test_a"),
        ("b.JPEG", "test", "test_b"),
        ("a.jpg", "train", "train_a"),
    ]
    assert problems == [
        "real/test/f.npy: has f.jpg, f.png beside it. Put one image of the same name there.",
        "real/train/e.npy: has no image beside it. Put one image of the same name there.",
        "real/train/e_seg.npy: holds pickled masks of Cellpose, which are not read. Save them as PNG or TIFF.",
    ]
    assert notes == ["Samples skipped (ddpm/): 1. They are not images of slides."]


@pytest.mark.parametrize(
    "header", ["(" * 5000, "{'descr': ", "9" * 9000, "{'descr': 5, 'fortran_order': 1, 'shape': 'x'}"]
)
def test_a_header_that_is_no_description_is_refused(tmp_path: Path, header: str) -> None:
    content = header.encode().ljust(9990)
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(content)) + content)
    with pytest.raises(LabelError, match="a: is damaged or not a numpy file"):
        read_id_array(tmp_path / "a.npy", name="a")
