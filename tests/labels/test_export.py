import base64
import json
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.errors import LabelError
from cytoseg.labels import export
from cytoseg.labels.export import ExportReport, Format, export_labels
from cytoseg.labels.import_labels import import_labels
from cytoseg.labels.import_settings import ImportRules
from cytoseg.labels.index import LabelIndex, load_index
from cytoseg.labels.original_annotation import OriginalAnnotation
from cytoseg.labels.slide_crops import SlideRules
from cytoseg.slides.settings import SlidesSection
from tests.labels.features import box, feature

Write = Callable[..., Path]
WIDTH, HEIGHT = 24, 16
SLIDE = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
CLASSES = ClassList(("background", "cell", "nucleus"), ((240, 240, 240), (0, 90, 200), (200, 0, 40)), "background")
UNFILLED = ClassList(CLASSES.names, CLASSES.colours)

# Every example has a folder of its own.
SOME = settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])

X, Y = st.floats(0, WIDTH - 1e-3), st.floats(0, HEIGHT - 1e-3)
POINT = st.tuples(X, Y).map(list)
LABEL = st.sampled_from(["cell", "nucleus", "_background_", "__ignore__"])
TEXT = st.text(max_size=5)
VALUE = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | TEXT, st.lists, max_leaves=4)
FLAGS = st.dictionaries(TEXT, st.booleans(), max_size=2)


def png(mask: NDArray[np.bool_]) -> str:
    buffer = BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@st.composite
def labelme_shapes(draw: st.DrawFn) -> dict[str, Any]:
    """A shape of any kind that lies in the image, with keys that cytoseg knows nothing of."""
    counts = {"polygon": 5, "rectangle": 2, "circle": 2, "line": 2, "linestrip": 4, "point": 1, "points": 3}
    kind = draw(st.sampled_from([*counts, "oriented_rectangle", "mask"]))
    count = counts.get(kind, 4)
    entry: dict[str, Any] = {"label": draw(LABEL), "shape_type": kind, "mask": None}
    entry["points"] = draw(st.lists(POINT, min_size=count, max_size=count))
    if kind == "mask":
        entry["points"] = [[2.0, 3.0], [4.0, 4.0]]
        entry["mask"] = png(np.array([[True, False, True], [False, True, True]]))
    entry["group_id"] = draw(st.none() | st.integers(0, 9))
    entry["description"] = draw(TEXT)
    entry["flags"] = draw(FLAGS)
    entry |= draw(st.dictionaries(st.sampled_from(["other", "score"]), VALUE))
    return entry


@st.composite
def geojson_features(draw: st.DrawFn, *, rings: int = 2) -> dict[str, Any]:
    """A QuPath object of any geometry on the slide, often without a class, with all that QuPath may say of it."""
    ring = st.lists(POINT, min_size=3, max_size=6).map(lambda ring: [*ring, ring[0]])
    polygon = st.lists(ring, min_size=1, max_size=rings)
    line = st.lists(POINT, min_size=2, max_size=4)
    kind, coordinates = draw(
        st.one_of(
            st.tuples(st.just("Polygon"), polygon),
            st.tuples(st.just("MultiPolygon"), st.lists(polygon | st.just([]), max_size=3)),
            st.tuples(st.just("LineString"), line),
            st.tuples(st.just("MultiLineString"), st.lists(line, max_size=2)),
            st.tuples(st.just("Point"), POINT),
            st.tuples(st.just("MultiPoint"), st.lists(POINT, min_size=1, max_size=3)),
        )
    )
    geometry = draw(st.just({"type": kind, "coordinates": coordinates, "isEllipse": True}) | st.none())
    name = draw(st.sampled_from([{"name": "cell", "color": [1, 2, 3]}, {"names": ["nucleus"]}, None]))
    properties = {"classification": name, "isLocked": draw(st.booleans()), "name": draw(TEXT)}
    properties["measurements"] = draw(st.dictionaries(TEXT, st.floats(allow_nan=False), max_size=2))
    return {"type": "Feature", "id": draw(TEXT), "geometry": geometry, "properties": properties}


@pytest.fixture(autouse=True)
def no_contact_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes most of the time of an import of one small crop."""
    monkeypatch.setattr("cytoseg.labels.import_labels.draw_sheet", lambda crops, classes: Image.new("L", (1, 1)))


@pytest.fixture
def place(tmp_path: Path) -> Callable[[], Path]:
    """Give a new folder at each call."""
    count = iter(range(10_000))

    def new() -> Path:
        folder = tmp_path / str(next(count))
        folder.mkdir()
        return folder

    return new


def imported(source: Path, labels: Path, classes: ClassList = CLASSES, **slides: Any) -> LabelIndex:
    import_labels(source, labels, classes=classes, rules=ImportRules(slides=SlideRules(**slides)))
    return load_index(labels)


def exported(index: LabelIndex, folder: Path, form: Format, classes: ClassList = CLASSES) -> ExportReport:
    return export_labels(index, folder, form=form, classes=classes)


def maps(index: LabelIndex) -> dict[tuple[str, str], Any]:
    """Label map and image of each crop, by slide and id."""
    return {(crop.slide, crop.crop): (crop.label_map().tolist(), crop.picture().tolist()) for crop in index.crops}


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def text_of(value: Any) -> str:
    """Compare by text, in which NaN equals itself and 1.0 is not 1."""
    return json.dumps(value, sort_keys=True)


def write_slide(folder: Path, *features: dict[str, Any]) -> Path:
    Image.fromarray(SLIDE).save(folder / "s 1.png")
    (folder / "s 1.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return folder / "s 1.geojson"


@SOME
@given(shapes=st.lists(labelme_shapes(), max_size=4), flags=FLAGS, more=st.dictionaries(TEXT, VALUE, max_size=2))
def test_labelme_files_come_back_with_all_they_held(
    place: Callable[[], Path], shapes: list[dict[str, Any]], flags: dict[str, bool], more: dict[str, Any]
) -> None:
    source = place()
    Image.fromarray(SLIDE).save(source / "a.b c.png")
    known = {"version": "5.8.1", "flags": flags, "shapes": shapes, "imagePath": "a.b c.png"}
    content = more | known | {"imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH}
    (source / "a.b c.json").write_text(json.dumps(content))
    index = imported(source, place() / "labels")
    folder = place()
    report = exported(index, folder, "labelme")
    assert (report.crops, report.files, report.traced) == (1, (folder / "a.b c.json",), ())
    assert text_of(load(folder / "a.b c.json")) == text_of(content)
    assert maps(imported(folder, place() / "labels")) == maps(index)


@SOME
@given(features=st.lists(geojson_features(), max_size=5))
def test_features_of_a_whole_picture_come_back_as_they_were(
    place: Callable[[], Path], features: list[dict[str, Any]]
) -> None:
    index = imported(write_slide(place(), *features), place() / "labels")
    folder = place()
    assert exported(index, folder, "geojson").files == (folder / "s 1.geojson",)
    assert text_of(load(folder / "s 1.geojson")["features"]) == text_of(features)
    assert maps(imported(folder, place() / "labels")) == maps(index)


@SOME
@given(features=st.lists(geojson_features(), max_size=5), mpp=st.sampled_from([None, 0.5, 0.75]))
def test_features_of_a_slide_come_back_once_wherever_they_lie(
    place: Callable[[], Path], features: list[dict[str, Any]], mpp: float | None
) -> None:
    """Also those that lie in several crops or in none, and one that appears twice in the file."""
    frames = [box("Region*", 2, 2, 8, 8), box("Region*", 6, 4, 12, 10), feature("Region*", (18, 0), (24, 0), (24, 9))]
    features = [*frames, *features, *features[:1]]
    rules: dict[str, Any] = {"settings": SlidesSection(mpp=mpp, assume_mpp=0.5)}
    source = write_slide(place(), *features)
    index = imported(source, place() / "labels", **rules)
    folder = place()
    exported(index, folder, "geojson")
    found = load(folder / "s 1.geojson")["features"]
    assert Counter(map(text_of, found)) == Counter(map(text_of, features))
    again = imported(folder, place() / "labels", folder=source.parent, **rules)
    assert maps(again) == maps(index)


@SOME
@given(features=st.lists(geojson_features(rings=1), max_size=5), mpp=st.sampled_from([None, 0.25, 0.75]))
def test_what_was_drawn_in_qupath_paints_the_same_from_labelme(
    place: Callable[[], Path], features: list[dict[str, Any]], mpp: float | None
) -> None:
    """With holes, with regions that are no rectangles, at any scale."""
    rings = [
        [[1, 1], [20, 2], [21, 14], [2, 15], [1, 1]],
        [[4, 4], [4, 9.5], [9, 9], [4, 4]],
        [[12, 4], [18, 5], [15, 8], [12, 4]],
    ]
    holed = feature("cell", geometry={"type": "Polygon", "coordinates": rings})
    frames = [box("Region*", 2.25, 2, 8, 8), feature("Region*", (8, 1), (24, 1), (24, 14))]
    rules: dict[str, Any] = {"settings": SlidesSection(mpp=mpp, assume_mpp=0.5)}
    index = imported(write_slide(place(), *frames, holed, *features), place() / "labels", **rules)
    folder = place()
    exported(index, folder, "labelme")
    assert maps(imported(folder, place() / "labels")) == maps(index)


@SOME
@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.sampled_from([CLASSES, UNFILLED]),
    form=st.sampled_from(["labelme", "geojson"]),
    region=st.sampled_from([None, [5, 2, 12, 9], [0, 0, 24, 16]]),
)
def test_masks_come_back_exactly(
    place: Callable[[], Path], seed: int, classes: ClassList, form: Format, region: list[int] | None
) -> None:
    """On the slide if their place is known, else in their image."""
    rng = np.random.default_rng(seed)
    x, y, width, height = region or [3, 3, 7, 5]
    source, slides = place(), place()
    Image.fromarray(SLIDE).save(slides / "s.png")
    for name, pixels in (
        ("images", SLIDE[y : y + height, x : x + width]),
        ("masks", rng.choice(np.array([0, 1, 2, 255], np.uint8), (height, width))),
    ):
        (source / name).mkdir()
        Image.fromarray(pixels).save(source / name / "a.png")
    if region:
        (source / "images" / "a.crop.json").write_text(json.dumps({"slide": "s", "region": region}))
    index = imported(source, place() / "labels", classes)
    folder = place()
    report = exported(index, folder, form, classes)
    assert report.traced == ("a",)
    assert [path.name for path in report.files] == [
        "s.geojson" if region and form == "geojson" else f"a.{'json' if form == 'labelme' else form}"
    ]
    assert maps(imported(folder, place() / "labels", classes, folder=slides)) == maps(index)


def test_labelme_shapes_lie_on_their_slide_where_that_is_known(
    place: Callable[[], Path], write_labelme: Write, square: dict[str, Any]
) -> None:
    """A crop of 6x4 px that shows 12x8 px of level 0."""
    nucleus = {"label": "nucleus", "shape_type": "point", "points": [[2.5, 1.5]], "description": "dark"}
    source, folder, slides = place(), place(), place()
    write_labelme(source, "a", [square, nucleus], cytoseg={"slide": "s", "region": [4, 2, 12, 8]})
    write_labelme(source, "b", [square], grey=3, cytoseg={"slide": "s", "region": [16, 10, 6, 4]})
    write_labelme(source, "c", [square], grey=5)
    index = imported(source, place() / "labels")
    report = exported(index, folder, "geojson")
    assert [path.name for path in report.files] == ["s.geojson", "c.geojson"]
    assert sorted(path.name for path in folder.iterdir()) == ["c.geojson", "c.png", "s.geojson"]
    cell, point, frame, other, _ = load(folder / "s.geojson")["features"]
    assert cell["geometry"]["coordinates"] == [[[6, 4], [10, 4], [10, 8], [6, 8], [6, 4]]]
    assert cell["properties"]["classification"] == {"name": "cell", "color": [0, 90, 200]}
    assert point["geometry"] == {"type": "Point", "coordinates": [9, 5]}
    assert point["properties"]["name"] == "dark"
    assert frame["properties"]["name"] == "crop=a"
    assert other["geometry"]["coordinates"][0][0] == [17, 11]
    assert load(folder / "c.geojson")["features"][0]["geometry"]["coordinates"][0][0] == [1, 1]

    Image.fromarray(SLIDE).save(slides / "s.png")
    again = imported(folder, place() / "labels", folder=slides, settings=SlidesSection(mpp=1.0, assume_mpp=0.5))
    assert again.crops[0].label_map().tolist() == index.crops[0].label_map().tolist()
    assert [crop.crop for crop in again.crops] == ["a", "b", "c"]


def test_the_slide_of_a_crop_is_not_forgotten(
    place: Callable[[], Path], write_labelme: Write, square: dict[str, Any]
) -> None:
    """Whether it was known by a sidecar, with or without a place, or by a pattern."""
    source = place()
    write_labelme(source, "07_a", [square])
    write_labelme(source, "08_b", [square], cytoseg={"slide": "s", "region": [1, 2, 6, 4]})
    write_labelme(source, "09_c", [square])
    (source / "09_c.crop.json").write_text('{"slide": "t", "region": null}')
    labels = place() / "labels"
    import_labels(source, labels, classes=CLASSES, rules=ImportRules(slide_regex=r"^\d+"))
    slides = {crop.crop: crop.slide for crop in load_index(labels).crops}
    assert slides == {"07_a": "07", "08_b": "s", "09_c": "t"}
    for form in ("labelme", "geojson"):
        folder = place()
        exported(load_index(labels), folder, form)
        found = {path.name: load(path) for path in folder.glob("*.crop.json")}
        assert found["07_a.crop.json"] == {"slide": "07", "region": None}
        assert found["09_c.crop.json"] == {"slide": "t", "region": None}
        assert ("08_b.crop.json" in found) == (form == "labelme")
        if form == "labelme":
            assert {crop.crop: crop.slide for crop in imported(folder, place() / "labels").crops} == slides


def test_a_picture_of_a_crop_marked_in_qupath_goes_to_its_slide(place: Callable[[], Path]) -> None:
    source, folder, slides = place(), place(), place()
    Image.fromarray(SLIDE).save(slides / "s.png")
    Image.fromarray(SLIDE[2:10, 4:16]).save(source / "s_4_2.png")
    (source / "s_4_2.crop.json").write_text('{"slide": "s", "region": [4, 2, 12, 8]}')
    (source / "s_4_2.geojson").write_text(json.dumps([box("cell", 1, 1, 3, 2)]))
    index = imported(source, place() / "labels")
    exported(index, folder, "geojson")
    cell, frame = load(folder / "s.geojson")["features"]
    assert cell == box("cell", 5, 3, 3, 2)
    assert frame["properties"]["name"] == "crop=s_4_2"
    assert maps(imported(folder, place() / "labels", folder=slides)) == maps(index)


def test_a_feature_in_parts_becomes_a_group_and_a_name_a_description(place: Callable[[], Path]) -> None:
    parts = [[[[1, 1], [9, 1], [9, 9], [1, 1]]], [[[12, 1], [20, 1], [20, 9], [12, 1]]]]
    properties = {"classification": {"name": "cell"}, "name": "twins"}
    twins = feature("cell", geometry={"type": "MultiPolygon", "coordinates": parts}, properties=properties)
    folder = place()
    exported(imported(write_slide(place(), box(None, 0, 0, 2, 2), twins), place() / "labels"), folder, "labelme")
    shapes = load(folder / "s 1.json")["shapes"]
    assert [(shape["group_id"], shape["description"]) for shape in shapes] == [(2, "twins"), (2, "twins")]


def test_nothing_is_replaced(place: Callable[[], Path]) -> None:
    index = imported(write_slide(place(), box("cell", 1, 1, 3, 3)), place() / "labels")
    folder = place()
    (folder / "notes.txt").write_text("mine")
    for there in (folder, folder / "notes.txt"):
        with pytest.raises(LabelError, match=r"already exists and is not empty\. Name a new folder\."):
            exported(index, there, "labelme")
    assert [path.read_text() for path in folder.iterdir()] == ["mine"]


def test_of_two_exports_into_one_folder_the_quicker_stays(
    place: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = imported(write_slide(place(), box("cell", 1, 1, 3, 3)), place() / "labels")
    folder, read = place(), export.read_original

    def read_meanwhile(labels: Path, crop: str) -> OriginalAnnotation:
        (folder / "other.geojson").write_text("theirs")  # by an export that started earlier
        return read(labels, crop)

    monkeypatch.setattr(export, "read_original", read_meanwhile)
    with pytest.raises(LabelError, match=r"already exists and is not empty\. Name a new folder\."):
        exported(index, folder, "labelme")
    assert [path.read_text() for path in folder.iterdir()] == ["theirs"]


def test_an_export_that_fails_leaves_nothing(place: Callable[[], Path]) -> None:
    index = imported(write_slide(place(), box("Region*", 1, 1, 3, 3), box("Region*", 9, 1, 3, 3)), place() / "labels")
    (index.folder / "crops" / f"{index.crops[1].crop}.png").unlink()
    folder = place() / "out"
    with pytest.raises(LabelError, match=r"s 1_x9_y1\.png: is missing"):
        exported(index, folder, "labelme")
    assert list(folder.parent.iterdir()) == []


def test_a_slide_whose_name_leads_out_of_the_folder_is_refused(
    place: Callable[[], Path], write_labelme: Write, square: dict[str, Any]
) -> None:
    source = place()
    write_labelme(source, "a", [square], cytoseg={"slide": "../s", "region": [4, 2, 6, 4]})
    index = imported(source, place() / "labels")
    with pytest.raises(LabelError, match=r"^a: its slide is called '\.\./s', which is not a valid file name\."):
        exported(index, place(), "geojson")


def test_a_slide_and_a_crop_of_one_name_are_refused(
    place: Callable[[], Path], write_labelme: Write, square: dict[str, Any]
) -> None:
    source = place()
    write_labelme(source, "a", [square], cytoseg={"slide": "s", "region": [4, 2, 6, 4]})
    write_labelme(source, "s", [square], grey=4)
    index = imported(source, place() / "labels")
    with pytest.raises(LabelError, match=r"^'s' is both a slide and a crop whose position is unknown\."):
        exported(index, place(), "geojson")
    assert exported(index, place(), "labelme").crops == 2


def test_other_classes_than_the_recipes_are_refused(place: Callable[[], Path]) -> None:
    index = imported(write_slide(place()), place() / "labels")
    others = ClassList(("cell", "background"), CLASSES.colours[:2])
    with pytest.raises(LabelError, match=r"created with the classes \(background, cell, nucleus\), but the recipe has"):
        exported(index, place(), "labelme", others)


@pytest.mark.parametrize(
    ("key", "value", "form"),
    [("labelme", {"shapes": [5]}, "geojson"), ("features", [5], "labelme"), ("features", [{}], "labelme")],
)
def test_damage_to_what_was_kept_is_reported(place: Callable[[], Path], key: str, value: Any, form: Format) -> None:
    index = imported(write_slide(place(), box("cell", 1, 1, 3, 3)), place() / "labels")
    path = index.folder / "shapes" / "s 1.json"
    path.write_text(json.dumps(load(path) | {"features": None} | {key: value}))
    with pytest.raises(LabelError, match=r"Run `cytoseg label-import` again\.$"):
        exported(index, place(), form)


def test_an_export_tells_how_far_it_is(place: Callable[[], Path]) -> None:
    index = imported(write_slide(place(), box("Region*", 1, 1, 3, 3), box("Region*", 9, 1, 3, 3)), place() / "labels")
    for form, expected in (("labelme", [(1, 2), (2, 2)]), ("geojson", [(2, 2)])):
        told: list[tuple[int, int]] = []
        export_labels(index, place(), form=form, classes=CLASSES, progress=lambda *of: told.append(of))  # noqa: B023 # called at once
        assert told == expected
