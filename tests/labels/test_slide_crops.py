import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.errors import LabelError
from cytoseg.formats.sidecar import Origin
from cytoseg.geometry import Region
from cytoseg.labels import slide_crops
from cytoseg.labels.import_labels import ImportReport, import_labels
from cytoseg.labels.import_settings import ImportRules
from cytoseg.labels.original_annotation import read_original
from cytoseg.labels.slide_crops import SlideRules
from cytoseg.quoting import printable
from cytoseg.slides.settings import SlidesSection
from tests.labels.features import box, feature

Write = Callable[..., Path]
PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
"""Of a slide of 40x30 px."""


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """A slide at 0.5 micrometres per pixel, named as slides are: with dots, a space and letters of all kinds."""
    return save(tmp_path / "src" / "Pap 07.2 мазок.png")


def save(path: Path, mpp: float | None = 0.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS).save(path, **({} if mpp is None else {"dpi": (25_400 / mpp, 25_400 / mpp)}))
    return path


@pytest.fixture
def take_in(tmp_path: Path, classes: ClassList) -> Callable[..., ImportReport]:
    """Import a file or folder; names the rules for slides by keyword."""

    def run(source: Path, rules: ImportRules | None = None, **slides: Any) -> ImportReport:
        rules = rules or ImportRules(slides=SlideRules(**slides))
        return import_labels(source, tmp_path / "labels", classes=classes, rules=rules)

    return run


def refusal(take_in: Callable[..., ImportReport], source: Path, **slides: Any) -> str:
    with pytest.raises(LabelError) as caught:
        take_in(source, **slides)
    return str(caught.value)


def test_each_region_becomes_a_crop(slide: Path, write_geojson: Write, take_in: Callable[..., ImportReport]) -> None:
    path = write_geojson(
        slide.with_suffix(".geojson"),
        box("nucleus", 12, 6, 2, 2),
        box("Region*", 10, 5, 8, 6),
        box("cell", 11, 5, 30, 4),
        box("Region*", 30, 20, 100, 100),
        feature("cell", (0, 0), (3, 0), (0, 3)),
        box(None, 11, 6, 1, 1),
    )
    report = take_in(path)
    assert report.notes == (
        "Pap 07.2 мазок.geojson: annotations left out: 1 without a class, 1 outside every region.",
        "Files without a shape: 1, first Pap 07.2 мазок.geojson, feature 4; all their pixels became 'background'.",
    )
    first, second = report.crops
    assert (first.crop, first.slide) == ("Pap 07.2 мазок_x10_y5", "Pap 07.2 мазок")
    assert first.source == "Pap 07.2 мазок.geojson, feature 2"
    np.testing.assert_array_equal(first.picture(), PIXELS[5:11, 10:18])
    expected = np.zeros((6, 8), np.uint8)
    expected[:4, 1:], expected[1:3, 2:4] = 1, 2
    np.testing.assert_array_equal(first.label_map(), expected)
    assert (second.crop, second.width, second.height) == ("Pap 07.2 мазок_x30_y20", 10, 10)
    assert read_original(first.folder, first.crop).origin == Origin("Pap 07.2 мазок", Region(10, 5, 8, 6))


def test_which_of_several_images_was_drawn_on_is_noted(
    tmp_path: Path, write_geojson: Write, take_in: Callable[..., ImportReport]
) -> None:
    (tmp_path / "src").mkdir()
    stack = np.stack([PIXELS] * 3)
    rgb = {"photometric": "rgb", "tile": (16, 16)}
    tifffile.imwrite(tmp_path / "src" / "z.ome.tif", stack, ome=True, metadata={"axes": "ZYXS"}, **rgb)
    path = write_geojson(tmp_path / "src" / "z.geojson", box("cell", 1, 1, 3, 2))
    assert take_in(path).notes[0] == (
        "z.geojson: drawn on z.ome.tif, of which this is read: plane 2 of 3 (the middle one)."
    )


def test_a_zip_of_several_exports_is_read_like_its_folder(
    slide: Path, write_geojson: Write, take_in: Callable[..., ImportReport]
) -> None:
    save(slide.with_name("other.png"))
    path = slide.with_name("exports.zip")
    first = write_geojson(slide.with_suffix(".geojson"), box("Region*", 0, 0, 6, 4), box("cell", 1, 1, 3, 2))
    second = write_geojson(slide.with_name("b.geojson"), box("Region*", 8, 4, 6, 4), box("nucleus", 8, 4, 2, 2))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(first, f"batch 1/{slide.name}.geojson")
        archive.write(second, "batch 2/other.geojson")
        archive.writestr("__MACOSX/batch 2/._other.geojson", "\0")
        archive.writestr("classes.json", "{}")
    first.unlink()
    second.unlink()
    for source in (path, path.parent):
        report = take_in(source)
        assert [(crop.crop, crop.slide, crop.source) for crop in report.crops] == [
            ("Pap 07.2 мазок_x0_y0", "Pap 07.2 мазок", f"exports.zip/batch 1/{slide.name}.geojson, feature 1"),
            ("other_x8_y4", "other", "exports.zip/batch 2/other.geojson, feature 1"),
        ]
        assert [crop.pixels["cell"] for crop in report.crops] == [6, 0]
        assert [crop.pixels["nucleus"] for crop in report.crops] == [0, 4]


def test_a_file_in_a_zip_without_its_slide_is_named(
    slide: Path, write_geojson: Write, take_in: Callable[..., ImportReport]
) -> None:
    path = slide.with_name("exports.zip")
    made = write_geojson(slide.with_suffix(".geojson"), box("Region*", 0, 0, 6, 4))
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(made, f"{slide.name}.geojson")
        archive.write(made, "lost.geojson")
        archive.writestr("crop.geojson", '{"shapes": [], "imagePath": "crop.png"}')
    made.unlink()
    told = refusal(take_in, path)
    assert "exports.zip/lost.geojson: no slide called 'lost' beside it. Put it there" in told
    assert "exports.zip/crop.geojson: is a labelme file, not GeoJSON. Unpack it as .json beside its image." in told
    assert str(slide.stem) not in told


def test_what_lies_in_the_box_but_not_in_the_region_is_ignore(
    slide: Path, write_geojson: Write, take_in: Callable[..., ImportReport]
) -> None:
    frame = feature("Region*", (4, 4), (8, 4), (8, 8))
    path = write_geojson(slide.with_suffix(".geojson"), frame, box("cell", 4, 4, 4, 1))
    (crop,) = take_in(path).crops
    ignored = 255
    assert crop.label_map().tolist() == [
        [1, 1, 1, 1],
        [ignored, 0, 0, 0],
        [ignored, ignored, 0, 0],
        [ignored, ignored, ignored, 0],
    ]


def test_larger_shapes_are_painted_first_and_lines_and_points_last(
    slide: Path, write_geojson: Write, take_in: Callable[..., ImportReport]
) -> None:
    line = feature("nucleus", geometry={"type": "LineString", "coordinates": [[0, 0.5], [40, 0.5]]})
    point = feature("background", geometry={"type": "Point", "coordinates": [2.5, 2.5]})
    region, cell, nucleus = box("Region*", 0, 0, 6, 4), box("cell", 0, 0, 5, 4), box("nucleus", 1, 1, 3, 3)
    (crop,) = take_in(write_geojson(slide.with_suffix(".geojson"), line, point, nucleus, cell, region)).crops
    assert crop.label_map().tolist() == [
        [2, 2, 2, 2, 2, 2],
        [1, 2, 2, 2, 1, 0],
        [1, 2, 0, 2, 1, 0],
        [1, 2, 2, 2, 1, 0],
    ]


def test_many_nuclei_merged_into_one_object_lie_over_each_cell(
    slide: Path, write_geojson: Write, take_in: Callable[..., ImportReport]
) -> None:
    """Together they are larger than the cell, and were painted before it: the one inside vanished."""
    far = [[[8, 0], [20, 0], [20, 9], [8, 9], [8, 0]]]
    inside = [[[1, 1], [3, 1], [3, 3], [1, 3], [1, 1]]]
    merged = feature("nucleus", geometry={"type": "MultiPolygon", "coordinates": [inside, far]})
    cells = [box("Region*", 0, 0, 6, 4), box("cell", 0, 0, 5, 4)]
    (crop,) = take_in(write_geojson(slide.with_suffix(".geojson"), merged, *cells)).crops
    assert crop.label_map().tolist() == [[1] * 5 + [0], [1, 2, 2, 1, 1, 0], [1, 2, 2, 1, 1, 0], [1] * 5 + [0]]


def test_the_order_of_the_file_decides_nothing(
    slide: Path, write_geojson: Write, take_in: Callable[..., ImportReport]
) -> None:
    """Of two shapes as large as each other the later in the alphabet covers the other."""
    shapes = [box("cell", 1, 1, 3, 3), box("nucleus", 2, 2, 3, 3), box("Region*", 0, 0, 6, 6)]
    for features in (shapes, shapes[::-1]):
        (crop,) = take_in(write_geojson(slide.with_suffix(".geojson"), *features)).crops
        assert crop.label_map()[2].tolist() == [0, 1, 2, 2, 2, 0]


def test_crops_are_cut_at_the_resolution_asked_for(
    slide: Path, write_geojson: Write, take_in: Callable[..., ImportReport]
) -> None:
    path = write_geojson(slide.with_suffix(".geojson"), box("Region*", 10, 4, 12, 8), box("cell", 14, 6, 4, 2))
    (crop,) = take_in(path, settings=SlidesSection(mpp=1.0)).crops
    halved: NDArray[np.uint8] = np.asarray(Image.fromarray(PIXELS[4:12, 10:22]).resize((6, 4), Image.Resampling.BOX))
    np.testing.assert_array_equal(crop.picture(), halved)
    expected = np.zeros((4, 6), np.uint8)
    expected[1, 2:4] = 1
    np.testing.assert_array_equal(crop.label_map(), expected)


def test_a_slide_that_does_not_say_its_mpp_takes_the_assumed_one(
    tmp_path: Path, write_geojson: Write, take_in: Callable[..., ImportReport]
) -> None:
    save(tmp_path / "src" / "s.png", mpp=None)
    path = write_geojson(tmp_path / "src" / "s.geojson", box("Region*", 0, 0, 8, 8), box("Region*", 9, 0, 8, 8))
    (crop, _) = take_in(path, settings=SlidesSection(mpp=1.0, assume_mpp=0.25)).crops
    assert (crop.width, crop.height) == (2, 2)
    message = refusal(take_in, path, settings=SlidesSection(mpp=1.0))
    assert message.startswith("s.png: does not state its micrometres per pixel, but the recipe requires 1.0.")


def test_a_file_without_a_region_belongs_to_a_small_picture(
    slide: Path, write_geojson: Write, take_in: Callable[..., ImportReport]
) -> None:
    path = write_geojson(slide.with_suffix(".json"), box("cell", 4, 6, 4, 2))
    (crop,) = take_in(path).crops
    assert (crop.crop, crop.slide, crop.source) == ("Pap 07.2 мазок", "Pap 07.2 мазок", "Pap 07.2 мазок.json")
    np.testing.assert_array_equal(crop.picture(), PIXELS)
    assert crop.label_map().sum() == crop.label_map()[6:8, 4:8].sum() == 8
    kept = read_original(crop.folder, crop.crop)
    assert (kept.origin, kept.area) == (None, Region(0, 0, 40, 30))


def test_a_whole_picture_is_scaled_if_it_says_its_mpp_and_is_not_a_crop_already(
    tmp_path: Path, slide: Path, write_geojson: Write, take_in: Callable[..., ImportReport]
) -> None:
    path = write_geojson(slide.with_suffix(".geojson"), box("cell", 4, 6, 4, 2))
    (crop,) = take_in(path, settings=SlidesSection(mpp=1.0)).crops
    assert (crop.width, crop.height, int(crop.label_map().sum())) == (20, 15, 2)
    slide.with_name(slide.stem + ".crop.json").write_text('{"slide": "s7", "region": [100, 50, 80, 60]}')
    (cut,) = import_labels(
        path,
        tmp_path / "more",
        classes=ClassList(("a", "cell"), ((0, 0, 0), (1, 1, 1)), "a"),
        rules=ImportRules(slides=SlideRules(settings=SlidesSection(mpp=1.0))),
    ).crops
    assert (cut.slide, cut.width, cut.height) == ("s7", 40, 30)
    assert read_original(cut.folder, cut.crop).origin == Origin("s7", Region(100, 50, 80, 60))


def test_a_class_of_another_name_may_delimit_crops(
    slide: Path, write_geojson: Write, take_in: Callable[..., ImportReport]
) -> None:
    path = write_geojson(slide.with_suffix(".geojson"), box("Annotated", 0, 0, 5, 5), box("Region*", 9, 9, 2, 2))
    crops = take_in(path, regions=("Region*", "Annotated")).crops
    assert [(crop.width, crop.height) for crop in crops] == [(5, 5), (2, 2)]


def test_a_region_may_name_its_crop(slide: Path, write_geojson: Write, take_in: Callable[..., ImportReport]) -> None:
    def region(name: object) -> dict[str, Any]:
        return box("Region*", 1, 1, 4, 4, properties={"classification": {"name": "Region*"}, "name": name})

    path = write_geojson(slide.with_suffix(".geojson"), region("crop=a 1.2"))
    assert [crop.crop for crop in take_in(path).crops] == ["a 1.2"]
    for other in ("field 3", None, 5):
        write_geojson(path, region(other))
        assert [crop.crop for crop in take_in(path).crops] == ["Pap 07.2 мазок_x1_y1"]
    for wrong in ("crop=", "crop=../a", "crop=a/b", "crop=..", "crop=a\0"):
        write_geojson(path, region(wrong))
        assert f"'{printable(wrong)}' must be a valid file name for a crop" in refusal(take_in, path)


def test_a_shape_that_only_its_box_brings_near_is_left_out(
    slide: Path, write_geojson: Write, take_in: Callable[..., ImportReport]
) -> None:
    around = feature("cell", (0, 0), (20, 0), (20, 20), (18, 20), (18, 2), (0, 2))
    (crop,) = take_in(write_geojson(slide.with_suffix(".geojson"), around, box("Region*", 4, 8, 6, 6))).crops
    assert not crop.label_map().any()


@pytest.mark.parametrize("name", ["s.svs.geojson", "s.geojson", "S.geojson", "s.SVS.geojson"])
def test_the_slide_is_found_by_its_name_with_or_without_suffix(
    tmp_path: Path, write_geojson: Write, take_in: Callable[..., ImportReport], name: str
) -> None:
    save(tmp_path / "slides" / "deep" / "s.png").rename(tmp_path / "slides" / "deep" / "s.svs")
    path = write_geojson(tmp_path / "src" / name, box("Region*", 0, 0, 4, 4))
    assert [crop.crop for crop in take_in(path, folder=tmp_path / "slides").crops] == ["s_x0_y0"]


def test_the_suffix_tells_slides_of_one_name_apart(
    tmp_path: Path, write_geojson: Write, take_in: Callable[..., ImportReport]
) -> None:
    save(tmp_path / "s.png")
    Image.new("RGB", (40, 30)).save(tmp_path / "s.bmp")
    path = write_geojson(tmp_path / "s.png.geojson", box("Region*", 0, 0, 4, 4))
    np.testing.assert_array_equal(take_in(path).crops[0].picture(), PIXELS[:4, :4])


def test_slides_of_one_name_in_two_folders_are_refused(
    tmp_path: Path, write_geojson: Write, take_in: Callable[..., ImportReport]
) -> None:
    save(tmp_path / "slides" / "a" / "s.png")
    save(tmp_path / "slides" / "b" / "s.png")
    path = write_geojson(tmp_path / "src" / "s.geojson", box("Region*", 0, 0, 4, 4))
    message = refusal(take_in, path, folder=tmp_path / "slides")
    assert message.startswith("s.geojson: 2 slides are called 's' in ")
    assert message.endswith("(a/s.png, b/s.png). Keep only one there.")


def test_a_missing_slide_is_named(tmp_path: Path, write_geojson: Write, take_in: Callable[..., ImportReport]) -> None:
    path = write_geojson(tmp_path / "src" / "s.geojson", box("Region*", 0, 0, 4, 4))
    assert refusal(take_in, path) == (
        "s.geojson: no slide called 's' beside it. Put it there, or name its folder with --slides."
    )
    (tmp_path / "slides").mkdir()
    assert "in " + str(tmp_path / "slides") + " or next to it" in refusal(take_in, path, folder=tmp_path / "slides")
    write_geojson(tmp_path / "src" / "t.geojson", box("Region*", 0, 0, 4, 4))
    message = refusal(take_in, tmp_path / "src", folder=tmp_path / "nowhere")
    assert message == f"{tmp_path / 'nowhere'}: no such folder. Name the folder of the slides with --slides."


def test_a_damaged_slide_is_named(slide: Path, write_geojson: Write, take_in: Callable[..., ImportReport]) -> None:
    path = write_geojson(slide.with_suffix(".geojson"), box("Region*", 0, 0, 4, 4))
    slide.write_text("no image")
    assert "Pap 07.2 мазок.png: is not an image format that cytoseg reads" in refusal(take_in, path)


def test_a_slide_that_is_found_damaged_when_it_is_read_is_named(
    tmp_path: Path, write_geojson: Write, take_in: Callable[..., ImportReport]
) -> None:
    path = write_geojson(tmp_path / "s.geojson", box("Region*", 0, 0, 4, 4))
    Image.fromarray(PIXELS).save(tmp_path / "s.jpg")
    content = (tmp_path / "s.jpg").read_bytes()
    (tmp_path / "s.jpg").write_bytes(content[: len(content) - 200])
    assert "s.jpg: the image is damaged or truncated" in refusal(take_in, path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (box("cell", 50, 0, 4, 4), "feature 2: 'cell' lies outside s.png of 40x30 px. Is this its slide? Move or"),
        (box("cell", -9e6, -9e6, 4, 4), "feature 2: 'cell' lies outside s.png of 40x30 px"),
        (box("Region*", 0, 40, 4, 4), "feature 2: 'Region*' lies outside s.png"),
        (box("Region*", 40, 0, 4, 4), "feature 2: the region 'Region*' covers no pixel of the slide. Draw it again"),
        (box("Region*", 3.6, 0, 0.2, 4), "feature 2: the region 'Region*' covers no pixel of the slide"),
        (
            feature("Region*", geometry={"type": "Point", "coordinates": [3, 4]}),
            "feature 2: the region 'Region*' has no area. Draw a rectangle.",
        ),
        (box("Region*", 1, 1, 4, 4), "s.geojson, feature 2: has the same crop id 's_x1_y1' as s.geojson, feature 1"),
        (
            box("mucus", 2, 2, 2, 2),
            "labels not in the class list (background, cell, nucleus): 'mucus' (1 shape, first s.geojson, feature 2)",
        ),
    ],
)
def test_what_is_wrong_is_reported(
    tmp_path: Path, write_geojson: Write, take_in: Callable[..., ImportReport], wrong: dict[str, Any], message: str
) -> None:
    save(tmp_path / "s.png")
    path = write_geojson(tmp_path / "s.geojson", box("Region*", 1, 1, 9, 9), wrong)
    assert message in refusal(take_in, path)
    assert not (tmp_path / "labels").exists()


def test_crops_that_are_too_large_are_refused(
    slide: Path, write_geojson: Write, take_in: Callable[..., ImportReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slide_crops, "MAX_SIDE_PX", 16)
    path = write_geojson(slide.with_suffix(".geojson"), box("Region*", 0, 0, 20, 4))
    assert "feature 1: the region is 20x4 px, more than 16 a side. Draw smaller" in refusal(take_in, path)
    write_geojson(path, box("cell", 0, 0, 20, 4))
    message = refusal(take_in, path)
    assert "мазок.png, which has no annotation of the class Region*, is 40x30 px, more than 16 a side." in message
    assert [crop.width for crop in take_in(path, settings=SlidesSection(mpp=2.0)).crops] == [10]


def test_all_problems_of_all_files_are_reported_together(
    tmp_path: Path, write_geojson: Write, write_labelme: Write, take_in: Callable[..., ImportReport]
) -> None:
    save(tmp_path / "src" / "s.png")
    write_geojson(tmp_path / "src" / "s.geojson", box("Region*", 1, 1, 9, 9), box("cell", 90, 1, 2, 2))
    write_geojson(tmp_path / "src" / "deep" / "t.json", box("cell", 0, 0, 2, 2))
    write_geojson(tmp_path / "src" / ".hidden" / "u.geojson", box("cell", 0, 0, 2, 2))
    (tmp_path / "src" / "v.geojson").write_text("{")
    write_labelme(tmp_path / "src", "a", imagePath="missing.png").with_suffix(".png").unlink()
    lines = refusal(take_in, tmp_path / "src").splitlines()
    assert lines[0] == "label-import: 4 problems, nothing was written."
    assert [line.strip().split(":")[0] for line in lines[1:]] == [
        "deep/t.json",
        "s.geojson, feature 2",
        "v.geojson",
        "a.json",
    ]
