import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cytoseg.slides.open import open_slide
from cytoseg.slides.pixel_size import micrometres_in, number_in
from tests.slides.tiffs import retag

Write = Callable[..., Path]
Pixels = NDArray[Any]

KINDS = pytest.mark.parametrize("tile", [(16, 16), None], ids=["tiles", "strips"])


def mpp_of(path: Path) -> float | None:
    with open_slide(path) as slide:
        return slide.mpp


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        *[(unit, 1.0) for unit in ("µm", "μm", "um", "micron", "Microns", "micrometre", "micrometers", " µm ")],
        *[(unit, 1.0) for unit in (r"\u00B5m", r"\u03bcm", "Âµm", "&#181;m", "&#xB5;m")],
        *[(unit, 25400.0) for unit in ("in", "inch", "inches", '"')],
        *[(unit, 1e4) for unit in ("cm", "centimeter", "Centimetres")],
        *[("nm", 1e-3), ("mm", 1e3), ("m", 1e6), ("Å", 1e-4), ("angstrom", 1e-4)],
        *[(unit, None) for unit in ("", "pixel", "Mm", "µ", "px", "second", r"\u", "s")],
    ],
)
def test_units(unit: str, expected: float | None) -> None:
    assert micrometres_in(unit) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[(text, 0.499) for text in ("0.499", "0,499", " 0.4990 ", ".499", ",499", "4.99e-1", "4,99E-01", "+0.499")],
        *[(text, None) for text in ("", ".", "1.2.3", "1,234.5", "nan", "inf", "half", "0x1p-1", "5 µm", "1e")],
    ],
)
def test_numbers(text: str, expected: float | None) -> None:
    assert number_in(text) == expected


@KINDS
@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [(0.25, None, 0.25), (250, "nm", 0.25), (0.00025, "mm", 0.25), (2.5e-5, "cm", 0.25), (1e-5, "in", 0.254)],
)
def test_ome(
    write_tiff: Write, speckles: Pixels, tile: Any, size: float, unit: str | None, expected: float | None
) -> None:
    metadata = {"PhysicalSizeX": size} | ({"PhysicalSizeXUnit": unit} if unit else {})
    path = write_tiff(speckles, name="a.ome.tif", tile=tile, ome=True, metadata=metadata)
    assert mpp_of(path) == pytest.approx(expected)


@KINDS
@pytest.mark.parametrize(
    "stated",
    [
        *[
            "MPP = 0.4990",
            "MPP = 0,4990",
            "MPP=4.99e-1",
            "mpp = 4,99E-1",
            "MPP: .499 um",
            "Mpp = 499nm",
            "MPP = '0.499'",
        ],
        *["MPP = 0.499 um/px", "MPP = 0.499 um / Pixel", "MPP = 499 nm per pixel", "MPP = 0.499;", "MPP = 0.499/px"],
        "MPP = '0.499'",
    ],
)
def test_aperio(write_tiff: Write, speckles: Pixels, tile: Any, stated: str) -> None:
    text = f"Aperio Image Library v11\r\n53x37|AppMag = 20|{stated}|Left = 25.7"
    # The tags say something else, and are no scanner's.
    path = write_tiff(speckles, tile=tile, description=text, metadata=None, resolution=(5000, 5000), resolutionunit=3)
    assert mpp_of(path) == pytest.approx(0.499)


@KINDS
@pytest.mark.parametrize(
    ("pixels", "unit", "expected"),
    [
        (2, "micron", 0.5),
        (2, "um", 0.5),
        (2, "\\u00B5m", 0.5),
        (0.002, "nm", 0.5),
        (2000, "mm", 0.5),
        (20000, "cm", 0.5),
        (50800, "inch", 0.5),
        (2, "pixel", None),
    ],
)
def test_imagej(
    write_tiff: Write, speckles: Pixels, tile: Any, pixels: float, unit: str, expected: float | None
) -> None:
    description = f"ImageJ=1.54f\nunit={unit}\nmin=0.0\n"
    options = {"description": description, "metadata": None, "resolution": (pixels, pixels), "resolutionunit": "NONE"}
    assert mpp_of(write_tiff(speckles, tile=tile, **options)) == (expected and pytest.approx(expected))


@KINDS
def test_imagej_states_the_unit_of_a_stack_on_its_first_page(write_tiff: Write, speckles: Pixels, tile: Any) -> None:
    options: dict[str, Any] = {"imagej": True, "resolution": (2, 2), "metadata": {"unit": "um", "axes": "ZYXS"}}
    assert mpp_of(write_tiff(np.stack([speckles] * 3), photometric="rgb", tile=tile, **options)) == 0.5


@KINDS
@pytest.mark.parametrize(
    ("unit", "rows", "expected"),
    [("um", 2, 0.5), ("nm", 0.002, 0.5), ("nm", 2, None), ("pixel", 2, 0.5), ("pixel", 1, None)],
)
def test_imagej_states_the_unit_of_y_where_it_differs(
    write_tiff: Write, speckles: Pixels, tile: Any, unit: str, rows: float, expected: float | None
) -> None:
    description = f"ImageJ=1.54f\nunit=um\nyunit={unit}\n"
    options = {"description": description, "metadata": None, "resolution": (2, rows), "resolutionunit": "NONE"}
    assert mpp_of(write_tiff(speckles, tile=tile, **options)) == (expected and pytest.approx(expected))


@KINDS
@pytest.mark.parametrize(
    ("pixels", "unit", "expected"),
    [
        *[(20000, "CENTIMETER", 0.5), (50800, "INCH", 0.5), (2000, "MILLIMETER", 0.5), (2, "MICROMETER", 0.5)],
        *[(50800, "NONE", None), (72, "INCH", None)],
    ],
)
def test_tags(write_tiff: Write, speckles: Pixels, tile: Any, pixels: float, unit: str, expected: float | None) -> None:
    options: dict[str, Any] = {"metadata": None, "resolution": (pixels, pixels), "resolutionunit": unit}
    assert mpp_of(write_tiff(speckles, tile=tile, **options)) == (expected and pytest.approx(expected))


@KINDS
@pytest.mark.parametrize(("rows", "expected"), [(20400, 0.5), (10000, None), (40000, None)])
def test_pixels_that_are_not_square_have_no_size(
    write_tiff: Write, speckles: Pixels, tile: Any, rows: float, expected: float | None
) -> None:
    tags: dict[str, Any] = {"metadata": None, "resolution": (20000, rows), "resolutionunit": "CENTIMETER"}
    assert mpp_of(write_tiff(speckles, tile=tile, **tags)) == (expected and pytest.approx(expected))
    sizes = {"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 1e4 / rows, "PhysicalSizeYUnit": "µm"}
    path = write_tiff(speckles, name="a.ome.tif", tile=tile, ome=True, metadata=sizes)
    assert mpp_of(path) == (expected and pytest.approx(expected))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 500}, 0.5),
        ({"PhysicalSizeX": 500, "PhysicalSizeY": 500, "PhysicalSizeYUnit": "nm"}, 0.5),
        ({"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5}, 0.5),
        ({"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 400}, None),
        ({"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "mm"}, None),
    ],
)
def test_one_unit_of_ome_holds_for_equal_sizes(
    write_tiff: Write, speckles: Pixels, sizes: dict[str, Any], expected: float | None
) -> None:
    path = write_tiff(speckles, name="a.ome.tif", tile=None, ome=True, metadata=sizes)
    assert mpp_of(path) == (expected and pytest.approx(expected))


@KINDS
def test_without_a_unit_it_is_inches_as_the_standard_and_openslide_have_it(
    write_tiff: Write, speckles: Pixels, tile: Any
) -> None:
    path = write_tiff(speckles, tile=tile, metadata=None, resolution=(50800, 50800), resolutionunit="INCH")
    assert mpp_of(retag(path, 296, 3, 1, b"\2\0", new_code=297)) == pytest.approx(0.5)
    if tile:
        openslide = pytest.importorskip("openslide")
        with openslide.OpenSlide(path) as theirs:
            assert float(theirs.properties["openslide.mpp-x"]) == 0.5


@KINDS
@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ((282, 12, 1, struct.pack("<d", 50800.0)), 0.5),
        ((282, 4, 1, struct.pack("<I", 50800)), 0.5),
        ((282, 12, 1, struct.pack("<d", float("nan"))), None),
        ((282, 12, 1, struct.pack("<d", 5e-324)), None),
        ((282, 5, 1, struct.pack("<II", 50800, 0)), None),
        ((282, 10, 1, struct.pack("<ii", -50800, 1)), None),
        ((282, 3, 3, struct.pack("<HHH", 1, 2, 3)), None),
        ((282, 2, 5, b"half\0"), None),
        ((282, 5, 2, struct.pack("<IIII", 1, 2, 3, 4)), None),
        ((296, 2, 3, b"cm\0"), None),
        ((296, 3, 2, struct.pack("<HH", 2, 2)), None),
    ],
)
def test_tags_of_any_type(
    write_tiff: Write, speckles: Pixels, tile: Any, tag: tuple[int, int, int, bytes], expected: float | None
) -> None:
    path = write_tiff(speckles, tile=tile, metadata=None, resolution=(50800, 50800), resolutionunit="INCH")
    assert mpp_of(retag(path, *tag)) == (expected and pytest.approx(expected))


def test_what_ome_cannot_say_is_said_by_the_tags(write_tiff: Write, speckles: Pixels) -> None:
    options: dict[str, Any] = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    path = write_tiff(
        speckles,
        name="a.ome.tif",
        ome=True,
        metadata={"PhysicalSizeX": 1.0, "PhysicalSizeXUnit": "pixel"},
        **options,
    )
    assert mpp_of(path) == pytest.approx(0.5)
    assert np.isclose(mpp_of(write_tiff(speckles, metadata=None, **options)) or 0, 0.5)
