import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.errors import CytosegError, SlideError
from cytoseg.formats.sidecar import Origin
from cytoseg.geometry import Region, Size
from cytoseg.labels.index import CropName, LabelIndex, write_crop, write_index
from cytoseg.labels.original_annotation import OriginalAnnotation, write_original
from cytoseg.slides.pyramid import write_pyramid
from cytoseg.viewer.slide_catalogue import list_slides
from cytoseg.viewer.tile_service import Subject, TileService

CLASSES = ClassList(("glass", "cell"), ((240, 240, 240), (10, 20, 30)), "glass")
SIZE = Size(700, 500)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """(500, 700, 3), smooth, so that JPEG keeps it."""
    y, x = np.mgrid[:500, :700]
    return np.stack([x / 3, y / 2, 128 + 0 * x], axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (500, 700)).astype(np.uint8)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, picture: np.ndarray, ids: np.ndarray) -> Path:
    """A slide with its maps at full size, and one marked crop of 20x10 px at (100, 50). Not to be changed."""
    home = tmp_path_factory.mktemp("written")
    run, slide = home / "run", home / "slides" / "s1.ome.tif"
    write_pyramid(slide, [picture], size=SIZE, mpp=0.5)
    folder = run / "predictions" / "s1"
    write_pyramid(folder / "class_map.ome.tif", [ids], size=SIZE, mpp=0.5, categorical=True)
    write_pyramid(folder / "uncertainty.ome.tif", [ids.astype(np.float32)], size=SIZE, mpp=0.5)
    provenance = {"slide_bytes": slide.stat().st_size, "slide_changed": int(slide.stat().st_mtime)}
    summary = {"mpp": 0.5, "classes": {"glass": {}, "cell": {}}, "provenance": provenance}
    (folder / "summary.json").write_text(json.dumps(summary))
    marked = np.ones((10, 20), np.uint8)
    name, cut = CropName("c1", "s1", "c1.json"), picture[50:60, 100:120]
    crop = write_crop(run / "labels", name, picture=cut, label_map=marked, classes=CLASSES)
    write_original(run / "labels", "c1", OriginalAnnotation(Origin("s1", Region(100, 50, 20, 10))))
    write_index(LabelIndex(run / "labels", CLASSES.names, (crop,)))
    return home


@pytest.fixture
def subject(tmp_path: Path, written: Path) -> Subject:
    """A copy of what was written, to change."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    run = tmp_path / "run"
    found = list_slides(run, folders=[tmp_path / "slides"], include=["*"], exclude=[]).slides["s1"]
    return Subject(found, CLASSES, run / "labels")


@pytest.fixture
def service() -> Iterator[TileService]:
    opened = TileService()
    yield opened
    opened.close()


def _rgba(packed: bytes) -> np.ndarray:
    with Image.open(BytesIO(packed)) as image:
        return np.asarray(image.convert("RGBA"))


def test_another_slide_of_the_same_name_and_length_is_shown_without_the_maps(
    service: TileService, subject: Subject
) -> None:
    path = subject.found.path
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, (1, 1))
    view = service.describe(subject)
    assert view.layers == ("truth",)
    assert view.notes == ("The slide file has changed since it was predicted. Predict it again.",)
    with pytest.raises(SlideError, match="has changed since"):
        service.tile(subject, "classes", (0, 0, 0), shown={1})


def test_a_copy_of_the_slide_keeps_its_maps(service: TileService, subject: Subject) -> None:
    path = subject.found.path
    assert subject.found.prediction is not None
    summary = subject.found.prediction / "summary.json"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"slide_sha256": digest}))
    os.utime(path, (1, 1))
    assert service.describe(subject).layers == ("classes", "uncertainty", "truth")


def test_what_a_cut_slide_lacks_is_said(
    service: TileService, subject: Subject, tmp_path: Path, picture: np.ndarray
) -> None:
    path = tmp_path / "slides" / "cut.tif"
    tifffile.imwrite(path, picture, tile=(128, 128), photometric="rgb", compression="zlib")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = replace(subject.found, slide="cut", path=path, prediction=None)
    (note,) = service.describe(replace(subject, found=found)).notes
    assert note.startswith("cut.tif: truncated at level 0: 13 of 24 tiles lie beyond the end of the file")
    assert note.endswith(". The missing part cannot be shown.")


def test_a_sight_names_size_resolution_and_layers(service: TileService, subject: Subject) -> None:
    view = service.describe(subject)
    assert (view.size, view.mpp) == (SIZE, pytest.approx(0.5))
    assert view.layers == ("classes", "uncertainty", "truth")
    assert view.brightest == pytest.approx(1, abs=0.1)
    assert view.notes == ()


def test_tiles_show_slide_and_layers_at_the_same_place(
    service: TileService, subject: Subject, picture: np.ndarray, ids: np.ndarray
) -> None:
    finest = (2, 1, 0)  # x 256 to 512, y 0 to 256
    seen = _rgba(service.tile(subject, "slide", finest, shown=()))[..., :3].astype(int)
    assert np.abs(seen - picture[:256, 256:512]).mean() < 2
    painted = _rgba(service.tile(subject, "classes", finest, shown={1}))
    np.testing.assert_array_equal(painted[..., 3] == 255, ids[:256, 256:512] == 1)
    truth = _rgba(service.tile(subject, "truth", (2, 0, 0), shown={1}))
    rows, columns = np.nonzero(truth[..., 3])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (50, 59, 100, 119)
    assert len(rows) == 200
    nats = _rgba(service.tile(subject, "uncertainty", finest, shown=()))
    assert (nats[..., 3] == 255).all()
    assert (nats[ids[:256, 256:512] == 1].astype(int).sum(axis=1) > 600).all()


def test_the_coarsest_tile_shows_the_mean(service: TileService, subject: Subject, picture: np.ndarray) -> None:
    seen = _rgba(service.tile(subject, "slide", (0, 0, 0), shown=()))[..., :3].astype(int)
    assert seen.shape == (125, 175, 3)
    mean = picture.reshape(125, 4, 175, 4, 3).mean(axis=(1, 3))
    assert np.abs(seen - mean).mean() < 2.5


def test_a_new_map_has_a_new_version(service: TileService, subject: Subject) -> None:
    before = service.describe(subject).version
    assert service.describe(subject).version == before
    assert subject.found.prediction is not None
    path = subject.found.prediction / "class_map.ome.tif"
    path.write_bytes(path.read_bytes())
    assert service.describe(subject).version != before
    red = replace(CLASSES, colours=((0, 0, 0), (255, 0, 0)))
    assert service.describe(replace(subject, classes=red)).version != service.describe(subject).version


def test_a_slide_without_prediction_and_labels_has_no_layers(
    service: TileService, subject: Subject, tmp_path: Path
) -> None:
    bare = replace(subject, found=replace(subject.found, prediction=None), labels=tmp_path / "none")
    assert service.describe(bare).layers == ()
    with pytest.raises(SlideError, match="has no layer 'classes'"):
        service.tile(bare, "classes", (0, 0, 0), shown={1})
    assert (_rgba(service.tile(bare, "truth", (0, 0, 0), shown={1}))[..., 3] == 0).all()


def test_maps_of_other_classes_are_left_out_and_said(service: TileService, subject: Subject) -> None:
    other = replace(subject, classes=ClassList(("glass", "debris"), CLASSES.colours))
    view = service.describe(other)
    assert view.layers == ()
    assert view.notes == ("It was predicted with different classes (glass, cell) from the recipe's. Predict it again.",)
    with pytest.raises(SlideError, match="different classes"):
        service.tile(other, "classes", (0, 0, 0), shown={1})


def test_an_unknown_layer_is_refused(service: TileService, subject: Subject) -> None:
    with pytest.raises(SlideError, match="has no layer 'secret'"):
        service.tile(subject, "secret", (0, 0, 0), shown=())


@pytest.mark.posix
def test_a_map_that_is_missing_damaged_or_a_link_is_said_without_a_path(
    service: TileService, subject: Subject, tmp_path: Path
) -> None:
    assert subject.found.prediction is not None
    path = subject.found.prediction / "uncertainty.ome.tif"
    whole = path.read_bytes()
    path.unlink()
    assert service.describe(subject).notes == ("uncertainty.ome.tif: is missing. Predict the slide again.",)
    (tmp_path / "other.tif").write_bytes(whole)
    path.symlink_to(tmp_path / "other.tif")
    assert service.describe(subject).layers == ("truth",)
    path.unlink()
    path.write_bytes(whole[:500])
    (note,) = service.describe(subject).notes
    assert note.startswith("uncertainty.ome.tif: ")
    assert str(tmp_path) not in note


@pytest.mark.posix
@pytest.mark.parametrize("linked", ["predictions/s1", "predictions"])
def test_maps_outside_the_run_folder_are_not_shown(
    service: TileService, subject: Subject, tmp_path: Path, linked: str
) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    (run / linked).rename(elsewhere)
    (run / linked).symlink_to(elsewhere)
    view = service.describe(subject)
    assert view.layers == ("truth",)
    assert view.notes == (
        "class_map.ome.tif: points outside the run folder and is not shown. Predict the slide again.",
    )
    with pytest.raises(SlideError, match="points outside the run folder"):
        service.tile(subject, "classes", (0, 0, 0), shown={1})


@pytest.mark.posix
def test_a_run_folder_that_is_a_link_itself_is_shown(service: TileService, subject: Subject, tmp_path: Path) -> None:
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    assert service.describe(subject).layers == ("classes", "uncertainty", "truth")


def test_a_map_of_another_size_is_refused(service: TileService, subject: Subject) -> None:
    assert subject.found.prediction is not None
    small = np.zeros((300, 300), np.uint8)
    write_pyramid(subject.found.prediction / "class_map.ome.tif", [small], size=Size(300, 300), mpp=0.5)
    assert service.describe(subject).notes == ("class_map.ome.tif: is 300x300 px, which does not match the slide.",)


def test_a_map_of_half_the_resolution_fits(service: TileService, subject: Subject, ids: np.ndarray) -> None:
    assert subject.found.prediction is not None
    for name, dtype in (("class_map", np.uint8), ("uncertainty", np.float32)):
        half = ids[:250, :350].astype(dtype)
        path = subject.found.prediction / f"{name}.ome.tif"
        write_pyramid(path, [half], size=Size(350, 250), mpp=1.0, categorical=dtype == np.uint8)
    path = subject.found.prediction / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"mpp": 1.0}))
    painted = _rgba(service.tile(subject, "classes", (2, 1, 0), shown={1}))
    enlarged = ids[:250, :350].repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(painted[..., 3] == 255, enlarged[:256, 256:512] == 1)


def test_damaged_labels_leave_the_rest_to_be_seen(service: TileService, subject: Subject, tmp_path: Path) -> None:
    (subject.labels / "index.json").write_text("{")
    view = service.describe(subject)
    assert view.layers == ("classes", "uncertainty")
    assert view.notes[0].startswith("index.json: is damaged")


def test_labels_of_other_classes_are_no_truth(service: TileService, subject: Subject) -> None:
    text = (subject.labels / "index.json").read_text()
    (subject.labels / "index.json").write_text(text.replace('"glass"', '"stain"'))
    assert "truth" not in service.describe(subject).layers


def test_a_slide_that_is_gone_or_damaged_is_said_without_a_path(service: TileService, subject: Subject) -> None:
    path = subject.found.path
    path.write_bytes(b"II*\0nonsense")
    for attempt in (lambda: service.describe(subject), lambda: service.tile(subject, "slide", (0, 0, 0), shown=())):
        with pytest.raises(CytosegError, match=r"^s1\.ome\.tif: "):
            attempt()
    path.unlink()
    with pytest.raises(SlideError, match=r"^s1\.ome\.tif: no longer exists"):
        service.describe(subject)
