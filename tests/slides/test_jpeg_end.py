import io

import numpy as np
import pytest
from PIL import Image

from cytoseg.slides.jpeg_end import is_cut_off


@pytest.mark.parametrize("progressive", [False, True])
def test_a_tile_is_cut_off_if_its_image_has_no_end(progressive: bool) -> None:
    pixels, file = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8), io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", progressive=progressive)
    whole = file.getvalue()
    for complete in (whole, whole + bytes(3), whole + whole[:-2]):  # with padding, and with part of the next tile
        assert not is_cut_off(complete)
    for cut in (whole[:-1], whole[:-2], whole[:-2] + bytes(40), whole[:-40]):
        assert is_cut_off(cut)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\x4f\xff\x51" + bytes(40), b"II*\0\xff\xda"])
def test_other_data_is_not_cut_off(data: bytes) -> None:
    assert not is_cut_off(data)
