import base64
import errno
import gzip
import json
import os
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.errors import LabelError
from cytoseg.json_text import parse_json
from cytoseg.labels.export import export_labels
from cytoseg.labels.import_labels import import_labels
from cytoseg.labels.import_settings import ImportRules
from cytoseg.labels.index import load_index
from cytoseg.labels.slide_crops import SlideRules
from cytoseg.labels.split import split_by_slide
from cytoseg.slides.generated_mark import edited_mark, png_text, read_mark
from cytoseg.slides.settings import SlidesSection
from tests.labels.features import box

Write = Callable[..., Path]
RULES = ImportRules()


@pytest.fixture
def source(tmp_path: Path, write_labelme: Write, square: dict[str, Any]) -> Path:
    """Two annotated crops, a and b."""
    write_labelme(tmp_path / "src", "a", [square])
    write_labelme(tmp_path / "src", "b", [square | {"label": "nucleus"}], grey=50)
    return tmp_path / "src"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run" / "labels"


def state(folder: Path) -> dict[str, bytes]:
    """All files of the run folder, and so also whatever was left behind beside the labels."""
    files = (path for path in folder.parent.rglob("*") if path.is_file())
    return {path.relative_to(folder.parent).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names of the annotation files as they are read and as they are parsed."""
    told: dict[str, list[str]] = {"read": [], "parsed": []}

    def read_bytes(path: Path) -> bytes:
        if path.suffix != ".png":
            told["read"].append(path.name)
        return _read_bytes(path)

    def parse(content: bytes | str, *, name: str, **keywords: Any) -> Any:
        told["parsed"].append(Path(name).name)
        return parse_json(content, name=name, **keywords)

    _read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    monkeypatch.setattr("cytoseg.formats.json_files.parse_json", parse)
    return told


@pytest.mark.parametrize("named", ["", "a.json"])
def test_each_labelme_file_is_read_and_parsed_once(
    named: str, source: Path, folder: Path, classes: ClassList, read: dict[str, list[str]]
) -> None:
    """Each was parsed twice, and read three times."""
    assert import_labels(source / named, folder, classes=classes, rules=RULES).total == (1 if named else 2)
    wanted = ["a.json"] if named else ["a.json", "b.json"]
    assert read == {"read": wanted, "parsed": wanted}


@pytest.mark.parametrize("suffix", [".json", ".geojson", ".json.gz", ".zip"])
@pytest.mark.parametrize("is_named", [True, False])
def test_each_geojson_file_is_parsed_once(
    is_named: bool, suffix: str, tmp_path: Path, folder: Path, classes: ClassList, read: dict[str, list[str]]
) -> None:
    content = json.dumps({"type": "FeatureCollection", "features": [box("cell", 1, 1, 2, 2)]}).encode()
    path = tmp_path / "src" / f"slide{suffix}"
    path.parent.mkdir()
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("slide.json", content)
    else:
        path.write_bytes(gzip.compress(content) if suffix == ".json.gz" else content)
    Image.new("RGB", (8, 8)).save(path.parent / "slide.png")
    source = path if is_named else path.parent
    assert import_labels(source, folder, classes=classes, rules=RULES).total == 1
    assert read["parsed"] == [path.name]


def test_an_import_writes_maps_crops_index_and_sheet(source: Path, folder: Path, classes: ClassList) -> None:
    told: list[tuple[int, int]] = []
    report = import_labels(source, folder, classes=classes, rules=RULES, progress=lambda *of: told.append(of))
    assert sorted(state(folder)) == [
        "labels/contact_sheet.png",
        "labels/crops/a.png",
        "labels/crops/b.png",
        "labels/index.json",
        "labels/maps/a.png",
        "labels/maps/b.png",
        "labels/shapes/a.json",
        "labels/shapes/b.json",
    ]
    assert told == [(1, 2), (2, 2)]
    assert (report.replaced, report.total, report.notes) == (0, 2, ())
    assert report.contact_sheet == folder / "contact_sheet.png"
    index = load_index(folder)
    assert index.crops == report.crops
    first, second = index.crops
    assert (first.crop, first.slide, first.source) == ("a", "a", "a.json")
    assert dict(first.pixels) == {"background": 20, "cell": 4, "nucleus": 0}
    assert first.label_map()[1].tolist() == [0, 1, 1, 0, 0, 0]
    assert np.all(second.picture() == 50)
    assert second.label_map()[2].tolist() == [0, 2, 2, 0, 0, 0]


def test_one_file_is_imported(source: Path, folder: Path, classes: ClassList) -> None:
    report = import_labels(source / "a.json", folder, classes=classes, rules=RULES)
    assert [crop.crop for crop in report.crops] == ["a"]
    assert report.notes == ("Classes without a pixel in this import: nucleus.",)


def test_pairs_that_were_renamed_together_are_counted(
    tmp_path: Path, folder: Path, write_labelme: Write, classes: ClassList, square: dict[str, Any]
) -> None:
    for name in ("a", "b"):
        write_labelme(tmp_path / "src", name, [square], imagePath="Hello.png")
    report = import_labels(tmp_path / "src", folder, classes=classes, rules=RULES)
    assert [(crop.crop, crop.slide) for crop in report.crops] == [("a", "a"), ("b", "b")]
    assert report.notes[0] == (
        "Files with an imagePath that does not exist: 2, first a.json; the image of the same name beside each was used."
    )


def test_masks_are_imported(tmp_path: Path, folder: Path, write_masks: Write, classes: ClassList) -> None:
    write_masks(tmp_path / "src", "a", [[0, 1, 2, 255]])
    report = import_labels(tmp_path / "src", folder, classes=classes, rules=RULES)
    assert report.crops[0].label_map().tolist() == [[0, 1, 2, 255]]
    assert report.crops[0].source == "masks/a.png"


def test_binary_masks_of_two_classes_mark_the_second(
    tmp_path: Path, folder: Path, write_masks: Write, classes: ClassList
) -> None:
    two = ClassList(classes.names[:2], classes.colours[:2], "background")
    write_masks(tmp_path / "src", "a", [[0, 255, 255]])
    write_masks(tmp_path / "src", "b", [[0, 1, 0]])
    say = "Override with --map 255=NAME or --ignore 255."
    report = import_labels(tmp_path / "src", folder, classes=two, rules=RULES)
    assert [crop.label_map().tolist() for crop in report.crops] == [[[0, 1, 1]], [[0, 1, 0]]]
    assert report.notes == (f"Pixels of value 255 in masks: 2; they became 'cell'. {say}",)
    report = import_labels(tmp_path / "src", folder, classes=two, rules=ImportRules(ignore=("255",)))
    assert [crop.label_map().tolist() for crop in report.crops] == [[[0, 255, 255]], [[0, 1, 0]]]
    assert report.notes == (f"Pixels of value 255 in masks: 2; they became ignore. {say}",)


def test_binary_masks_of_three_classes_need_a_word(
    tmp_path: Path, folder: Path, write_masks: Write, classes: ClassList
) -> None:
    write_masks(tmp_path / "src", "a", [[0, 255, 255]])
    with pytest.raises(LabelError, match=r"masks/a\.png: holds only 0 and 255 \(2 px\)"):
        import_labels(tmp_path / "src", folder, classes=classes, rules=RULES)
    rules = ImportRules(class_map={"255": "nucleus"})
    report = import_labels(tmp_path / "src", folder, classes=classes, rules=rules)
    assert report.crops[0].label_map().tolist() == [[0, 2, 2]]


def test_a_second_import_adds_and_replaces(
    tmp_path: Path, source: Path, folder: Path, write_labelme: Write, classes: ClassList, square: dict[str, Any]
) -> None:
    import_labels(source, folder, classes=classes, rules=RULES)
    write_labelme(tmp_path / "more", "a", [square | {"label": "nucleus"}])
    write_labelme(tmp_path / "more", "c", [square], grey=7)
    report = import_labels(tmp_path / "more", folder, classes=classes, rules=RULES)
    assert ([crop.crop for crop in report.crops], report.replaced, report.total) == (["a", "c"], 1, 3)
    crops = load_index(folder).crops
    assert [crop.crop for crop in crops] == ["a", "b", "c"]
    assert [int(crop.label_map()[1, 1]) for crop in crops] == [2, 2, 1]


def test_of_two_imports_at_once_both_are_kept(
    tmp_path: Path, source: Path, folder: Path, write_labelme: Write, classes: ClassList, square: dict[str, Any]
) -> None:
    write_labelme(tmp_path / "more", "c", [square], grey=7)
    totals: list[int] = []

    def work(what: Path) -> None:
        def slow(_done: int, _total: int) -> None:
            begun.wait()

        totals.append(import_labels(what, folder, classes=classes, rules=RULES, progress=slow).total)

    begun = threading.Event()
    threads = [threading.Thread(target=work, args=(what,)) for what in (source, tmp_path / "more")]
    for thread in threads:
        thread.start()
    begun.wait(0.3)
    begun.set()
    for thread in threads:
        thread.join()
    assert [crop.crop for crop in load_index(folder).crops] == ["a", "b", "c"]
    assert max(totals) == 3
    assert [path.name for path in folder.parent.iterdir()] == ["labels"]


def test_labels_survive_a_kill_between_the_two_renames(
    tmp_path: Path, source: Path, folder: Path, write_labelme: Write, classes: ClassList, square: dict[str, Any]
) -> None:
    import_labels(source, folder, classes=classes, rules=RULES)
    write_labelme(tmp_path / "more", "c", [square], grey=7)

    def cut(target: Path) -> None:
        swap = target.with_name(".labels-abcd1234")
        (swap / "new").mkdir(parents=True)
        target.rename(swap / "old")

    cut(folder)
    report = import_labels(tmp_path / "more", folder, classes=classes, rules=RULES)
    assert ([crop.crop for crop in report.crops], report.total) == (["c"], 3)
    cut(folder)
    assert [crop.crop for crop in load_index(folder).crops] == ["a", "b", "c"]


def test_an_import_is_repeatable(
    source: Path, folder: Path, classes: ClassList, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cytoseg.locks._now", lambda: "2026-01-01 12:00:00")  # the index names its writer
    import_labels(source, folder, classes=classes, rules=RULES)
    before = state(folder)
    import_labels(source, folder, classes=classes, rules=RULES)
    assert state(folder) == before


def test_the_slide_comes_from_the_sidecar_then_the_pattern_then_the_stem(
    tmp_path: Path, folder: Path, write_labelme: Write, classes: ClassList, square: dict[str, Any]
) -> None:
    region = {"slide": "from the file", "region": [0, 0, 6, 4]}
    write_labelme(tmp_path / "src", "07_0", [square], cytoseg=region)
    write_labelme(tmp_path / "src", "08_0", [square], grey=1)

    def slides(pattern: str | None) -> list[str]:
        rules = ImportRules(slide_regex=pattern)
        return [c.slide for c in import_labels(tmp_path / "src", folder, classes=classes, rules=rules).crops]

    assert slides(None) == ["from the file", "08_0"]
    assert slides(r"^(\d+)_") == ["from the file", "08"]
    assert slides(r"\d+_") == ["from the file", "08_"]


def test_a_pattern_that_finds_no_slide_is_refused(source: Path, folder: Path, classes: ClassList) -> None:
    with pytest.raises(LabelError) as caught:
        import_labels(source, folder, classes=classes, rules=ImportRules(slide_regex=r"^(\d*)"))
    assert "2 problems" in str(caught.value)
    assert "a.json: --slide-regex '^(\\d*)' finds no slide in 'a'. Fix the expression." in str(caught.value)


def test_all_problems_are_reported_together_and_nothing_changes(
    source: Path, folder: Path, write_labelme: Write, classes: ClassList, square: dict[str, Any]
) -> None:
    import_labels(source, folder, classes=classes, rules=RULES)
    before = state(folder)
    write_labelme(source, "c", [square | {"label": "nuclei"}, square | {"points": [[99, 99]] * 3}])
    write_labelme(source, "d", [square], imagePath="missing.png").with_suffix(".png").unlink()
    write_labelme(source, "e", [square], imageWidth=7)
    write_labelme(source, "f", [square], imagePath="../../x.png")
    (source / "g.json").write_text('{"shapes": [')
    with pytest.raises(LabelError) as caught:
        import_labels(source, folder, classes=classes, rules=RULES)
    lines = str(caught.value).splitlines()
    assert lines[0] == "label-import: 6 problems, nothing was written."
    for start in (
        "g.json: is cut off",
        "c.json, shape 2: the polygon 'cell' lies outside",
        "d.json: the image 'missing.png' does not exist",
        "e.json: the file says 7x4",
        "f.json: imagePath '../../x.png' points outside",
        "labels not in the class list (background, cell, nucleus): 'nuclei' (1 shape, first c.json, shape 1)",
    ):
        assert sum(line.strip().startswith(start) for line in lines) == 1
    assert state(folder) == before


def test_two_crops_of_one_id_are_refused(
    source: Path, folder: Path, write_labelme: Write, classes: ClassList, square: dict[str, Any]
) -> None:
    write_labelme(source / "deep", "a", [square])
    with pytest.raises(LabelError, match=r"^deep/a\.json: has the same crop id 'a' and the same image as a\.json\."):
        import_labels(source, folder, classes=classes, rules=RULES)


def test_equal_names_in_several_folders_are_kept_by_folder(
    tmp_path: Path, folder: Path, write_labelme: Write, classes: ClassList, square: dict[str, Any]
) -> None:
    for number, place in enumerate(["slideA", "slideB"]):
        for name in ("001", "002"):
            write_labelme(tmp_path / "src" / place, name, [square], grey=10 * number + int(name))
    write_labelme(tmp_path / "src" / "slideB", "003", [square], grey=90)
    write_labelme(tmp_path / "src", "004", [square], grey=91)
    for _ in range(2):  # again it is the same
        report = import_labels(tmp_path / "src", folder, classes=classes, rules=RULES)
        found = [(crop.crop, crop.slide) for crop in load_index(folder).crops]
        assert found == [
            ("004", "004"),
            ("slideA_001", "slideA"),
            ("slideA_002", "slideA"),
            ("slideB_001", "slideB"),
            ("slideB_002", "slideB"),
            ("slideB_003", "slideB"),
        ]
        assert [int(crop.picture()[0, 0, 0]) for crop in load_index(folder).crops] == [91, 1, 2, 11, 12, 90]
    assert report.notes[0] == (
        "Equal file names in several folders (slideA, slideB): crops are named by folder, and each folder is treated "
        "as one slide. Use sidecars or --slide-regex to change this."
    )


@pytest.mark.parametrize("within", [False, True])
def test_masks_of_equal_names_are_kept_by_folder(
    tmp_path: Path, folder: Path, write_masks: Write, classes: ClassList, within: bool
) -> None:
    """Folders of ``images/`` and ``masks/``, or folders within these."""
    for name, ids in (("A", [[0, 1]]), ("B", [[0, 1, 2]])):
        write_masks(tmp_path / "src" if within else tmp_path / "src" / name, f"{name}/1" if within else "1", ids)
    import_labels(tmp_path / "src", folder, classes=classes, rules=RULES)
    found = load_index(folder).crops
    assert [(crop.crop, crop.slide, crop.label_map().tolist()) for crop in found] == [
        ("A_1", "A", [[0, 1]]),
        ("B_1", "B", [[0, 1, 2]]),
    ]


def test_a_crop_whose_name_is_shared_later_is_not_kept_twice(
    tmp_path: Path, folder: Path, write_labelme: Write, classes: ClassList, square: dict[str, Any]
) -> None:
    write_labelme(tmp_path / "src" / "A", "1", [square])
    import_labels(tmp_path / "src" / "A", folder, classes=classes, rules=RULES)
    write_labelme(tmp_path / "src" / "B", "1", [square], grey=7)
    import_labels(tmp_path / "src", folder, classes=classes, rules=RULES)
    assert [crop.crop for crop in load_index(folder).crops] == ["A_1", "B_1"]
    assert sorted(path.name for path in folder.glob("*/*")) == sorted(
        ["A_1.png", "B_1.png"] * 2 + ["A_1.json", "B_1.json"]
    )


def test_a_folder_that_is_imported_again_alone_adds_no_crop(
    tmp_path: Path, folder: Path, write_labelme: Write, classes: ClassList, square: dict[str, Any]
) -> None:
    for number, place in enumerate("AB"):
        write_labelme(tmp_path / "src" / place, "1", [square], grey=number)
    import_labels(tmp_path / "src", folder, classes=classes, rules=RULES)
    write_labelme(tmp_path / "src" / "B", "1", [square | {"label": "nucleus"}], grey=1)
    report = import_labels(tmp_path / "src" / "B", folder, classes=classes, rules=RULES)
    assert (report.replaced, report.total) == (1, 2)
    found = load_index(folder).crops
    assert [(crop.crop, crop.slide, crop.pixels["nucleus"]) for crop in found] == [("A_1", "A", 0), ("B_1", "B", 4)]


def test_another_image_under_a_name_by_folder_is_a_new_crop(
    tmp_path: Path, folder: Path, write_labelme: Write, classes: ClassList, square: dict[str, Any]
) -> None:
    for number, place in enumerate("AB"):
        write_labelme(tmp_path / "src" / place, "1", [square], grey=number)
    import_labels(tmp_path / "src", folder, classes=classes, rules=RULES)
    write_labelme(tmp_path / "new", "1", [square], grey=9)
    import_labels(tmp_path / "new", folder, classes=classes, rules=RULES)
    assert [crop.crop for crop in load_index(folder).crops] == ["1", "A_1", "B_1"]


@pytest.mark.parametrize(
    ("files", "crops"),
    [
        (["a/b/1", "a_b/1"], ["a__b__1", "a_b__1"]),
        (["1", "a/1", "a_1"], ["1", "a_1", "a__1"]),
        (["a/b/1", "c/1", "a_b_1"], ["a__b__1", "a_b_1", "c__1"]),
        (["A/1", "a/1"], ["A_1", "a_1"]),
        (["P1 [HE]/1", "P2 [HE]/1", "-/1", "~/1"], ["-_1", "P1 [HE]_1", "P2 [HE]_1", "~_1"]),
    ],
)
def test_folders_whose_short_names_are_equal_are_kept_apart(
    tmp_path: Path,
    folder: Path,
    write_labelme: Write,
    classes: ClassList,
    square: dict[str, Any],
    files: list[str],
    crops: list[str],
) -> None:
    for number, file in enumerate(files):
        place = tmp_path / "src" / file
        write_labelme(place.parent, place.name, [square], grey=number)
    import_labels(tmp_path / "src", folder, classes=classes, rules=RULES)
    assert [crop.crop for crop in load_index(folder).crops] == sorted(crops)


def test_another_picture_of_an_imported_id_is_refused(
    tmp_path: Path, source: Path, folder: Path, write_labelme: Write, classes: ClassList, square: dict[str, Any]
) -> None:
    import_labels(source, folder, classes=classes, rules=RULES)
    path = write_labelme(tmp_path / "more", "a", [square], grey=1)
    with pytest.raises(LabelError, match=r"another image was imported as crop 'a' before \(a\.json\)\. Rename one, or"):
        import_labels(path, folder, classes=classes, rules=RULES)


def test_another_class_list_is_refused(source: Path, folder: Path, classes: ClassList) -> None:
    import_labels(source, folder, classes=classes, rules=RULES)
    swapped = ClassList(("cell", "background", "nucleus"), classes.colours)
    with pytest.raises(
        LabelError, match=r"created with the classes \(background, cell, nucleus\), but the recipe has \(c"
    ):
        import_labels(source, folder, classes=swapped, rules=RULES)


def test_what_looks_odd_is_noted(
    source: Path, folder: Path, write_labelme: Write, classes: ClassList, square: dict[str, Any]
) -> None:
    write_labelme(source, "a", [square | {"points": [[1, 1], [3, 1], [4, 2], [1, 3]]}])
    write_labelme(source, "b")
    report = import_labels(source, folder, classes=classes, rules=ImportRules(ignore=("artefact",)))
    assert report.notes == (
        "Files without a shape: 1, first b.json; all their pixels became 'background'.",
        "1 of 1 polygons have whole-number corners, as if traced from pixel indices. If a program wrote them, import "
        "with --area outline; with --area centre they are half a pixel too small.",
        "--map or --ignore names 'artefact', but no label has this name.",
        "Classes without a pixel in this import: nucleus.",
    )


@pytest.mark.parametrize("step", ["write_crop", "write_index", "draw_sheet"])
def test_an_interrupt_leaves_the_old_state(
    source: Path, folder: Path, classes: ClassList, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    import_labels(source / "a.json", folder, classes=classes, rules=RULES)
    before = state(folder)
    monkeypatch.setattr(f"cytoseg.labels.import_labels.{step}", interrupt)
    with pytest.raises(KeyboardInterrupt):
        import_labels(source, folder, classes=classes, rules=RULES)
    assert state(folder) == before


def test_a_full_disk_leaves_the_old_state(
    source: Path, folder: Path, classes: ClassList, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    import_labels(source / "a.json", folder, classes=classes, rules=RULES)
    before = state(folder)
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(LabelError, match=r"labels: cannot be written \(No space left on device\)"):
        import_labels(source, folder, classes=classes, rules=RULES)
    assert state(folder) == before


@pytest.mark.data
def test_the_real_train_crops_agree_with_their_masks(cytoseg_data: Path, folder: Path) -> None:
    classes = ClassList(
        ("background", "cytoplasm", "nucleus"), ((240, 240, 240), (0, 90, 200), (200, 0, 40)), "background"
    )
    source = cytoseg_data / "lbc" / "train"
    # These polygons were traced from the masks' pixel indices.
    rules = ImportRules(slide_regex=r"^(\d+)_", area="outline")
    report = import_labels(source, folder, classes=classes, rules=rules)
    painted = np.concatenate([crop.label_map().ravel() for crop in report.crops])
    masks = [np.asarray(Image.open(source / "masks" / f"{crop.crop}.png")).ravel() for crop in report.crops]
    assert len(report.crops) == 30
    assert np.mean(painted == np.concatenate(masks)) > 0.999
    fields = json.loads((cytoseg_data / "lbc" / "split.json").read_text())["train_fields"]
    assert {int(crop.slide) for crop in report.crops} == set(fields)


@pytest.mark.data
def test_the_real_test_crops_are_imported_and_split(cytoseg_data: Path, folder: Path) -> None:
    classes = ClassList(
        ("background", "cytoplasm", "nucleus"), ((240, 240, 240), (0, 90, 200), (200, 0, 40)), "background"
    )
    source = cytoseg_data / "lbc" / "test"
    report = import_labels(source, folder, classes=classes, rules=ImportRules(slide_regex=r"^(\d+)_"))
    assert (len(report.crops), report.notes) == (30, ())
    for crop in report.crops:
        np.testing.assert_array_equal(crop.label_map(), np.asarray(Image.open(source / "masks" / f"{crop.crop}.png")))
    split = split_by_slide(report.crops, test_slides=(), test_fraction=0.2, seed=0)
    assert (len(split.train), len(split.test)) == (24, 6)


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path, write_labelme: Write, classes: ClassList) -> None:
    name = os.fsdecode(b"gr\xf6sse.json")
    write_labelme(tmp_path / "in", "a").rename(tmp_path / "in" / name)
    with pytest.raises(LabelError, match=r"gr\\udcf6sse\.json: the name is not UTF-8\. Rename the file"):
        import_labels(tmp_path / "in", tmp_path / "labels", classes=classes, rules=ImportRules())
    assert not (tmp_path / "labels").exists()


@pytest.mark.parametrize("layout", ["labelme", "embedded", "masks", "instances", "arrays", "voc", "geojson", "region"])
def test_a_made_image_stays_marked(
    tmp_path: Path,
    folder: Path,
    square: dict[str, Any],
    write_labelme: Write,
    write_geojson: Write,
    classes: ClassList,
    layout: str,
) -> None:
    source, rules, ids = tmp_path / "src", RULES, np.zeros((4, 6), np.uint8)
    mark, pixels = edited_mark("crop.png, seed 0", slide="P1", of="0" * 64), np.full((4, 6, 3), 90, np.uint8)
    place = {"masks": "images/a.png", "instances": "images/a.png", "voc": "JPEGImages/a.jpg"}.get(layout, "a.png")
    (source / place).parent.mkdir(parents=True)
    if layout == "labelme":
        write_labelme(source, "a", [square])
    elif layout == "embedded":  # labelme embeds the pixels without the text of the file
        Image.fromarray(pixels).save(tmp_path / "plain.png", format="PNG", pnginfo=png_text(None))
        data = base64.b64encode((tmp_path / "plain.png").read_bytes()).decode()
        write_labelme(source, "a", [square], imageData=data)
    elif layout == "arrays":
        np.save(source / "a.npy", ids)
    elif layout in ("geojson", "region"):
        write_geojson(
            source / "a.geojson", *[box("Region*", 0, 0, 4, 4)][: layout == "region"], box("cell", 1, 1, 2, 2)
        )
        rules = ImportRules(slides=SlideRules(settings=SlidesSection(assume_mpp=1.0)))
    else:
        masks = source / {"voc": "SegmentationClass"}.get(layout, "masks")
        masks.mkdir()
        Image.fromarray(ids).save(masks / "a.png")
        rules = ImportRules(instances="cell" if layout == "instances" else None)
    Image.fromarray(pixels).save(source / place, format="PNG", pnginfo=png_text(mark))
    for _ in range(2):  # the second time it is replaced
        report = import_labels(source, folder, classes=classes, rules=rules)
    assert (
        f"Images that a diffusion model drew or edited: 1 (first {report.crops[0].source}). They are used for training "
        "only, never as test crops; edits of test crops are not used at all."
    ) in report.notes
    index = load_index(folder)
    assert [crop.made for crop in index.crops] == [mark]
    assert read_mark(folder / "crops" / f"{index.crops[0].crop}.png") == mark
    out = tmp_path / "out"
    export_labels(index, out, form="labelme", classes=classes)
    assert read_mark(out / f"{index.crops[0].crop}.png") == mark


def test_a_made_image_stays_marked_when_its_pixels_come_again_without(
    tmp_path: Path, folder: Path, square: dict[str, Any], write_labelme: Write, classes: ClassList
) -> None:
    path = write_labelme(tmp_path / "src", "a", [square])
    plain = path.with_suffix(".png").read_bytes()
    mark = edited_mark("crop.png, seed 0", slide="", of="0" * 64)
    grey = Image.fromarray(np.full((4, 6, 3), 100, np.uint8))
    grey.save(path.with_suffix(".png"), format="PNG", pnginfo=png_text(mark))
    import_labels(path, folder, classes=classes, rules=RULES)
    path.with_suffix(".png").write_bytes(plain)
    import_labels(path, folder, classes=classes, rules=RULES)
    assert [(crop.slide, crop.made) for crop in load_index(folder).crops] == [("a", mark)]
