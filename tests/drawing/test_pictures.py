"""Painted and packed images, at sizes that can be checked by hand."""

import base64
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cytoseg.drawing.pictures import data_uri, is_noise, is_noise_file, read_map, read_rgb, reduced
from cytoseg.errors import CytosegError

GREY = np.full((2, 2, 3), 100, np.uint8)
IDS = np.array([[0, 1], [2, 255]], np.uint8)


def _disc(side: int) -> NDArray[np.uint8]:
    y, x = np.indices((side, side))
    inside = (y - side / 2) ** 2 + (x - side / 2) ** 2 < (side / 3) ** 2
    return np.where(inside[..., None], np.uint8(60), np.uint8(220)).repeat(3, axis=2)


def test_noise_is_distinguished_from_pictures() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (32, 66, 3), dtype=np.uint8)
    noise[:, 32:34] = 255  # the gap between two samples
    assert is_noise(noise)
    assert not is_noise(_disc(32))
    grainy = np.clip(_disc(32) + rng.normal(0, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
    assert not is_noise(grainy)


@pytest.mark.parametrize("shape", [(4, 4, 3), (1, 1, 3), (1, 9, 3), (9, 1, 3)])
def test_a_picture_of_one_colour_is_no_noise(shape: tuple[int, ...]) -> None:
    assert not is_noise(np.full(shape, 100, np.uint8))


def test_a_missing_or_damaged_picture_is_no_noise(tmp_path: Path) -> None:
    assert not is_noise_file(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no image")
    assert not is_noise_file(tmp_path / "text.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "n.png")
    assert is_noise_file(tmp_path / "n.png")


def test_reducing_keeps_the_shape_and_leaves_small_pictures() -> None:
    left_black = np.repeat(np.array([0, 200], np.uint8), 4)[None, :, None].repeat(4, axis=0).repeat(3, axis=2)
    small = reduced(left_black, 4)
    assert small.shape == (2, 4, 3)
    assert small[0, 0].max() < 10
    assert small[0, 3].min() > 190
    assert reduced(left_black, 8).tolist() == left_black.tolist()


def test_reading(tmp_path: Path) -> None:
    Image.fromarray(IDS).save(tmp_path / "ids.png")
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_map(tmp_path / "ids.png"), IDS)
    np.testing.assert_array_equal(read_rgb(tmp_path / "grey.png"), GREY)
    with pytest.raises(CytosegError, match=r"grey.png: expected one channel of 8 bits, found mode RGB"):
        read_map(tmp_path / "grey.png")


def test_a_missing_and_a_damaged_picture_are_named(tmp_path: Path) -> None:
    with pytest.raises(CytosegError, match=r"none.png is missing"):
        read_rgb(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(CytosegError, match=r"text.png cannot be read as an image"):
        read_rgb(tmp_path / "text.png")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "half.png")
    whole = (tmp_path / "half.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CytosegError, match=r"half.png cannot be read as an image"):
        read_rgb(tmp_path / "half.png")


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_data_uri_reduces_large_pictures(tmp_path: Path, kind: str) -> None:
    Image.new("RGBA", (40, 20), (10, 200, 30, 255)).save(tmp_path / "wide.png")
    head, packed = data_uri(tmp_path / "wide.png", max_px=10, kind=kind).split(",")
    assert head == f"data:image/{kind};base64"
    picture = Image.open(BytesIO(base64.b64decode(packed)))
    assert picture.size == (10, 5)
    np.testing.assert_allclose(np.asarray(picture)[2, 5], (10, 200, 30), atol=4)


@pytest.mark.parametrize("read", [read_rgb, read_map])
def test_a_picture_with_a_broken_chunk_is_said(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "broken.png"
    # Noise cannot be packed, so that it takes more than one chunk of 64 KiB.
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 400), np.uint8)).save(path)
    content = path.read_bytes()
    second = content.index(b"IDAT", content.index(b"IDAT") + 1)
    path.write_bytes(content[:second] + b"\0\0\0\0" + content[second + 4 :])
    with pytest.raises(CytosegError, match=r"broken\.png cannot be read as an image\."):
        read(path)


def test_a_picture_that_claims_more_than_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (2000, 1000)).save(tmp_path / "a.png")
    monkeypatch.setenv("CYTOSEG_MAX_PICTURE_PX", "1000000")
    with pytest.raises(
        CytosegError, match=r"claims 2000x1000 pixels\. .* set CYTOSEG_MAX_PICTURE_PX to more than 1000000"
    ):
        read_rgb(tmp_path / "a.png")
