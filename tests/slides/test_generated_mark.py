import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cytoseg.slides.generated_mark import GeneratedMark, drawn_mark, edited_mark, png_text, read_mark

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


@pytest.mark.parametrize(
    "mark", [drawn_mark("ddim sample"), edited_mark("мазок.png", slide="P1 é", of="ab" * 32), None]
)
def test_a_mark_is_read_as_it_was_written(tmp_path: Path, mark: GeneratedMark | None) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path, format="PNG", pnginfo=png_text(mark))
    assert read_mark(path) == read_mark(path.read_bytes()) == mark
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.array(image), PIXELS)


def test_the_comment_is_a_sentence_for_people(tmp_path: Path) -> None:
    text = png_text(edited_mark("crop.png, seed 0", slide="s", of=""))
    Image.fromarray(PIXELS).save(tmp_path / "a.png", format="PNG", pnginfo=text)
    with Image.open(tmp_path / "a.png") as image:
        assert image.info == {
            "Comment": "Edited by a diffusion model, not a patient's: crop.png, seed 0.",
            "Edited slide": "s",
        }


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("packed", [True, False])
def test_text_that_another_program_rewrote_is_found(tmp_path: Path, packed: bool) -> None:
    note = drawn_mark("x").note
    text = PngInfo()
    text.add_text("Description", note, zip=packed)
    Image.fromarray(PIXELS).save(tmp_path / "a.png", pnginfo=text)
    assert read_mark(tmp_path / "a.png") == GeneratedMark(note)
    # Some programs write the text behind the pixels.
    Image.fromarray(PIXELS).save(tmp_path / "b.png", format="PNG", pnginfo=png_text(None))
    plain = (tmp_path / "b.png").read_bytes()
    behind = plain[:-12] + _chunk(b"tEXt", b"Comment\0" + note.encode()) + plain[-12:]
    assert read_mark(behind) == GeneratedMark(note)


def test_what_is_no_marked_png_has_no_mark(tmp_path: Path) -> None:
    text = PngInfo()
    text.add_text("Comment", "Made by hand")
    Image.fromarray(PIXELS).save(tmp_path / "a.png", pnginfo=text)
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg")
    for name in ("a.png", "a.jpg", "missing.png", "."):
        assert read_mark(tmp_path / name) is None
    assert read_mark((tmp_path / "a.png").read_bytes()[:40]) is None
    assert read_mark(b"") is None
