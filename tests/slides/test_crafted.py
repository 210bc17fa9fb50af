"""Damaged and crafted TIFFs, made from a seed: read, or refused in one printable line."""

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cytoseg.errors import SlideError
from cytoseg.geometry import Region
from cytoseg.maps.raster import Raster
from cytoseg.slides.image import read_picture
from cytoseg.slides.open import open_slide

KINDS: dict[str, dict[str, Any]] = {
    "tiles": {"tile": (16, 16)},
    "strips": {},
    "jpeg": {"tile": (16, 16), "compression": "jpeg"},
    "deflate": {"compression": "zlib"},
    "ome": {"tile": (16, 16), "ome": True, "metadata": {"axes": "YXS", "PhysicalSizeX": 0.5}},
    "imagej": {"imagej": True},
}
NUMBERS = (0, 1, 2, 3, 5, 65535, 2**28, 2**31 - 1, 2**32 - 1)
OME = '<OME><Image><Pixels SizeX="50" SizeY="40" SizeZ="{}" SizeC="3" SizeT="1">{}</Pixels></Image></OME>'
TEXTS = {
    "planes without end": OME.format(10**9, ""),
    "planes of 3,000 digits": OME.format("9" * 3000, ""),
    "channels of 3,000 digits": OME.replace('SizeC="3"', f'SizeC="{"7" * 3000}"').format(2, ""),
    "a plane before the first": OME.format(3, '<TiffData IFD="-9"/>'),
    "a plane behind the last": OME.format(3, '<TiffData IFD="99999999"/>'),
    "a page that is text": OME.format(3, '<TiffData FirstZ="x"/>'),
    "20,000 deep": "<OME>" + "<a>" * 20000 + "</a>" * 20000 + "</OME>",
    "entities within entities": "<!DOCTYPE z [<!ENTITY a 'aaaaaaaaaa'>"
    + "".join(f"<!ENTITY {chr(98 + i)} '{f'&{chr(97 + i)};' * 10}'>" for i in range(9))
    + "]><OME><Image>&j;</Image></OME>",
    "ImageJ without end": "ImageJ=1.5\nimages=1000000000\nslices=1000000000\n",
    "ImageJ of less than none": "ImageJ=1.5\nimages=-4\nslices=-4\n",
    "ImageJ of infinitely many": "ImageJ=1.5\nimages=inf\nslices=inf\n",
    "ImageJ of words": "ImageJ=1.5\nimages=many\nunit=" + "u" * 9999,
    "MPP of 99,999 digits": "Aperio |MPP = " + "9" * 99999,
}


def tiff(path: Path, *, pages: int = 1, **options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    writing = {key: options.pop(key) for key in ("ome", "imagej") if key in options}
    with tifffile.TiffWriter(path, **writing) as tif:
        for number in range(pages):
            tif.write(pixels, photometric="rgb", **(options if number == 0 else {"tile": (16, 16), "metadata": None}))
    return path.read_bytes()


def harmless(path: Path) -> None:
    """Read a file with every reader; an error must be a SlideError of one short, printable line."""

    def slide() -> None:
        with open_slide(path) as found:
            for level in range(len(found.levels)):
                found.read_region(Region(0, 0, 60, 50), level)

    def raster() -> None:
        with Raster(path) as found:
            found.sample(np.arange(min(9, found.levels[0].size.height)), np.arange(min(9, found.levels[0].size.width)))

    readers: tuple[Callable[[], Any], ...] = (slide, raster, lambda: read_picture(path, name=path.name))
    for read in readers:
        message = ""
        try:
            read()
        except SlideError as error:
            message = str(error)
        assert not message or message.isprintable()
        assert len(message) < 500


@pytest.mark.parametrize("kind", KINDS)
def test_tags_of_any_type_count_and_value(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("a.ome.tif" if kind == "ome" else "a.tif")
    whole, choose = tiff(path, **KINDS[kind]), random.Random(kind)
    (begin,) = struct.unpack_from("<I", whole, 4)
    (count,) = struct.unpack_from("<H", whole, begin)
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(choose.choice((1, 1, 1, 2, 4))):
            entry = begin + 2 + 12 * choose.randrange(count)
            if choose.random() < 0.4:
                struct.pack_into("<H", content, entry + 2, choose.choice((0, 1, 2, 3, 4, 5, 7, 12, 16, 99)))
            else:
                struct.pack_into("<I", content, entry + choose.choice((4, 8)), choose.choice((*NUMBERS, len(whole))))
        path.write_bytes(content)
        harmless(path)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_changed_anywhere(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.tif"
    whole, choose = tiff(path, **KINDS[kind]), random.Random(kind)
    for _ in range(25):
        content = bytearray(whole[: choose.choice((len(whole), len(whole), choose.randrange(len(whole))))])
        for _ in range(choose.choice((1, 4, 30))):
            if content:
                content[choose.randrange(len(content))] = choose.choice((0, 1, 127, 255))
        path.write_bytes(content)
        if content:
            harmless(path)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("pages", [1, 3])
def test_descriptions_that_make_no_sense(tmp_path: Path, text: str, pages: int) -> None:
    path = tmp_path / "a.tif"
    tiff(path, pages=pages, tile=(16, 16), description=TEXTS[text], metadata=None)
    harmless(path)
