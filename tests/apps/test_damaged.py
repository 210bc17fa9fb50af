"""A run folder that is half-written, of a different version or edited by hand: each page says so in a sentence, or
works.

On every page: no exception, no path, nothing said where nothing is wrong.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from cytoseg.classes import ClassList
from cytoseg.formats.sidecar import Origin
from cytoseg.geometry import Region
from cytoseg.labels.corrections import Correction, corrections_folder, save_correction
from cytoseg.labels.index import CropName, LabelIndex, write_crop, write_index
from cytoseg.labels.original_annotation import OriginalAnnotation, write_original
from cytoseg.labels.queue_file import SKIPPED, Queue, QueueItem, update_queue
from cytoseg.recipe import dump_recipe, load_recipe
from cytoseg.review.append_only import log_of
from cytoseg.review.review_log import Judgement, add_entry
from cytoseg.slides.fingerprint import slide_stamp
from tests.predict.made import four_classes, predicted
from tests.shut import shut

Review = Callable[..., AppTest]
Damage = Callable[[bytes], bytes]
SCORED = ("iou", "confusion", "history", "gallery", "crop", "correct")
PAGES = ("app", *SCORED, "slides", "queue")
CROP = "smear_A_0_512"
CLASSES = ClassList(
    ("background", "cytoplasm", "nucleus", "debris"),
    ((240, 240, 240), (86, 180, 233), (213, 94, 0), (0, 158, 115)),
    "background",
)


@pytest.fixture
def whole_run(made_run: Path, tmp_path: Path) -> Path:
    """The made run with everything else that the pages read."""
    (tmp_path / "short.yaml").write_text(four_classes("quickstart", "slides", size_px=32))
    (made_run / "recipe.yaml").write_text(dump_recipe(load_recipe(str(tmp_path / "short.yaml"))))
    _predict(made_run, tmp_path / "slides" / "smear_E.png")
    earlier = json.loads((made_run / "evaluation" / "evaluation.json").read_text())
    (made_run / "history").mkdir()
    (made_run / "history" / "2020.json").write_text(json.dumps(earlier | {"created": "2020-01-01T00:00:00+00:00"}))
    for author, value in (("Anna", 1), ("Ben", 2)):
        save_correction(
            corrections_folder(made_run),
            Correction(CROP, author, "2026-03-01T14:05:06.000007+00:00", "prediction"),
            origin=Origin("smear_A", None),
            picture=np.full((4, 4, 3), 100, np.uint8),
            label_map=np.full((4, 4), value, np.uint8),
            classes=CLASSES,
        )
    add_entry(log_of(made_run, None), Judgement("Anna", "quickstart", CROP, "smear_A", "accepted", "", "", ""))
    name, ones = CropName("crop", "smear_F", "crop.json"), np.ones((8, 8), np.uint8)
    picture = np.zeros((8, 8, 3), np.uint8)
    crop = write_crop(made_run / "labels", name, picture=picture, label_map=ones, classes=CLASSES)
    write_original(made_run / "labels", "crop", OriginalAnnotation(Origin("smear_F", Region(0, 0, 8, 8))))
    write_index(LabelIndex(made_run / "labels", CLASSES.names, (crop,)))
    item = QueueItem("smear_E", Region(0, 0, 32, 32), SKIPPED, "", "", 0.5, ())
    update_queue(made_run / "queue", lambda _: Queue((item,)))
    return made_run


def _predict(run: Path, slide: Path) -> None:
    generator = np.random.default_rng(0)
    nats = np.zeros((64, 128), np.float32)
    nats[:16, ::32] = 0.6
    picture, ids = generator.integers(0, 256, (64, 128, 3), np.uint8), generator.integers(0, 4, (64, 128), np.uint8)
    folder = predicted(run / "predictions", slide, picture=picture, ids=ids, nats=nats, classes=CLASSES.names)
    length, changed = slide_stamp(slide)
    summary = json.loads((folder / "summary.json").read_text())
    summary["provenance"] = {"slide_bytes": length, "slide_changed": changed}
    (folder / "summary.json").write_text(json.dumps(summary))


def _said(app: AppTest) -> str:
    parts = [*app.error, *app.warning, *app.info]
    return "\n".join(str(part.value) for part in parts).replace("\\", "")


def _shown(app: AppTest) -> str:
    """All that the page sends to the browser, tables too."""
    tables = [table.value.to_string() for table in [*app.dataframe, *app.table]]
    return "\n".join([*(str(getattr(part, "proto", "")) for part in app), *tables]).replace("\\", "")


def _look(review: Review, run: Path, base: Path) -> dict[str, str]:
    """Visit every page as one person; gives what each says in boxes."""
    app = review("app", "--run", str(run), "--base", str(base))
    said = {}
    for page in PAGES:
        if page != "app":
            app.switch_page(f"pages/{page}.py").run()
        assert not app.exception, (page, app.exception)
        assert str(base) not in _shown(app), page
        said[page] = _said(app)
    return said


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _of_version_99(content: bytes) -> bytes:
    return json.dumps(json.loads(content) | {"format": 99}).encode()


def _list(_: bytes) -> bytes:
    return b"[1, null]"


def _garbage(_: bytes) -> bytes:
    return bytes(range(256)) * 40


def _everywhere(said: str, *pages: str) -> dict[str, str]:
    return dict.fromkeys(pages, said)


SUMMARY, CORRECTION = "predictions/smear_E/summary.json", f"review/corrections/{CROP}/Ben_20260301T140506Z.json"
EVALUATION, PICTURE = "evaluation/evaluation.json", f"evaluation/crops/{CROP}/image.png"
BAD: list[tuple[str, Damage, dict[str, str]]] = [
    ("run.json", _cut, {"app": "quickstart/run.json: the file is not complete JSON."}),
    ("run.json", _of_version_99, {"app": "quickstart/run.json: format 99 was found, this version reads format 1."}),
    ("run.json", _list, {"app": "quickstart/run.json: the file contains no record."}),
    (
        "recipe.yaml",
        _cut,
        {"slides": "The recipe of this run cannot be read", "queue": "it is damaged or of a different version"},
    ),
    (EVALUATION, _cut, _everywhere("evaluation.json: the file is not complete JSON.", *SCORED, "queue")),
    (EVALUATION, _of_version_99, _everywhere("evaluation.json: the file has format 99", *SCORED, "queue")),
    ("history/2020.json", _cut, {"history": "There is no earlier evaluation to compare with."}),
    ("history/2020.json", _of_version_99, {"history": "There is no earlier evaluation to compare with."}),
    (SUMMARY, _cut, {"slides": "was moved or replaced", "queue": "smear_E: left out: summary.json is damaged"}),
    (SUMMARY, _list, {"slides": "was moved or replaced", "queue": "smear_E: left out: summary.json is damaged"}),
    (
        "predictions/smear_E/class_map.ome.tif",
        _garbage,
        {"slides": "class_map.ome.tif: cannot be read", "queue": "class_map.ome.tif: cannot be read"},
    ),
    ("queue/queue.json", _cut, {"queue": "queue/queue.json: is cut off or damaged"}),
    ("queue/queue.json", _of_version_99, {"queue": "format 99, this version reads 1"}),
    ("labels/index.json", _cut, _everywhere("index.json: is damaged", "slides", "queue")),
    ("labels/index.json", _of_version_99, _everywhere("index.json: has format 99", "slides", "queue")),
    (CORRECTION, _cut, {"correct": "cannot be read: Ben_20260301T140506Z.json: is cut off or damaged"}),
    (CORRECTION, _list, {"correct": "does not say that it corrects 'smear_A_0_512'"}),
    (
        "review/log.sqlite",
        _garbage,
        dict.fromkeys(("correct", "slides"), "The review log log.sqlite is damaged (file is not a database)."),
    ),
    ("interpreter/bundle/state.json", _cut, {"correct": "bundle/state.json: the file is not complete JSON."}),
    (
        PICTURE,
        _garbage,
        {
            "gallery": "The image of this crop is missing or damaged.",
            **_everywhere("smear_A_0_512/image.png cannot be read as an image.", "crop", "correct"),
        },
    ),
    ("ddpm/samples.png", _garbage, {"app": "ddpm/samples.png cannot be read as an image."}),
    (
        "../../slides/smear_E.png",
        _garbage,
        {"slides": "was moved or replaced", "queue": "its file smear_E.png is not the file that was predicted"},
    ),
]


def test_nothing_is_said_of_a_whole_run(review: Review, whole_run: Path, tmp_path: Path) -> None:
    assert _look(review, whole_run, tmp_path) == dict.fromkeys(PAGES, "")


SIMILAR = ("recipe.yaml", "history/2020.json", "ddpm/samples.png", "queue/queue.json", "labels/index.json")
"""Files whose readers, or readers of the same kind, meet other damaged files."""


def _listed(file: str, damage: Damage, expected: dict[str, str]) -> Any:
    """By default, try one file of a kind, cut or replaced by garbage; the others meet the same readers."""
    by_default = damage in (_cut, _garbage) and file not in SIMILAR
    marks = () if by_default else (pytest.mark.slow,)
    return pytest.param(file, damage, expected, id=f"{file}{damage.__name__}", marks=marks)


@pytest.mark.parametrize(("file", "damage", "expected"), [_listed(*bad) for bad in BAD])
def test_damage_is_a_sentence_on_the_pages_it_concerns(
    review: Review, whole_run: Path, tmp_path: Path, file: str, damage: Damage, expected: dict[str, str]
) -> None:
    (whole_run / file).write_bytes(damage((whole_run / file).read_bytes()))
    for page, said in _look(review, whole_run, tmp_path).items():
        assert expected.get(page, "") in said
        assert page in expected or said == "", page
    if file in ("run.json", EVALUATION):
        # The list of runs stands nevertheless.
        runs = review("app", "--run", str(whole_run), "--base", str(tmp_path)).dataframe[0].value
        assert runs["Outcome"].tolist() == ["a file of this run is damaged"]


def _deep(_: bytes) -> bytes:
    return b'{"format": 1, "crops": ' + 100_000 * b"["


@pytest.mark.posix
@pytest.mark.parametrize("pipes", [False, True], ids=["deep", "pipes"])
def test_a_run_of_which_nothing_can_be_read_ends_no_page_in_an_exception(
    review: Review, whole_run: Path, tmp_path: Path, pipes: bool
) -> None:
    """Each file alone is a sentence; nested without end, or a pipe without a writer, it is still one."""
    for file in {file for file, _, _ in BAD if file.endswith((".json", ".yaml"))}:
        if not pipes:
            (whole_run / file).write_bytes(_deep(b""))
        elif file not in ("run.json", "recipe.yaml"):  # a pipe there makes it no run
            (whole_run / file).unlink()
            os.mkfifo(whole_run / file)
    said = _look(review, whole_run, tmp_path)
    lines = [line for text in said.values() for line in text.split("\n")]
    assert max(map(len, lines)) < 1000
    assert pipes or len(lines) == len(PAGES)  # one sentence a page at most
    assert all(said[page] for page in SCORED)


SHUT: list[tuple[str, dict[str, str]]] = [
    ("run.json", {"app": "quickstart/run.json: cannot be read (Permission denied)."}),
    (EVALUATION, _everywhere("evaluation.json: cannot be read", *SCORED, "queue")),
    ("evaluation", _everywhere("evaluation.json: cannot be read", *SCORED, "queue")),
]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        pytest.param(place, expected, id=place, marks=() if place == "evaluation" else pytest.mark.slow)
        for place, expected in SHUT
    ],
)
def test_what_may_not_be_read_is_a_sentence_on_the_pages_it_concerns(
    review: Review,
    whole_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    expected: dict[str, str],
) -> None:
    shut(monkeypatch, whole_run / place)
    for page, said in _look(review, whole_run, tmp_path).items():
        assert expected.get(page, "") in said, page
        assert page in expected or said == "", page


@pytest.mark.parametrize(
    "folder",
    [
        "labels",
        "predictions",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("ddpm", "history", "review", "interpreter", "queue")),
    ],
)
def test_a_part_of_a_run_that_may_not_be_entered_breaks_no_page(
    review: Review, whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    shut(monkeypatch, whole_run / folder)
    _look(review, whole_run, tmp_path)


def test_a_run_that_may_not_be_entered_hides_no_other(
    review: Review, whole_run: Path, bare_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut(monkeypatch, whole_run)
    app = review("app")
    assert not app.exception
    assert app.dataframe[0].value["Run"].tolist() == ["only a recipe"]


def test_a_folder_of_runs_that_may_not_be_read_is_said(
    review: Review, made_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut(monkeypatch, made_run.parent)
    app = review("app")
    assert not app.exception
    assert _said(app) == "runs: cannot be read (Permission denied). Ask its owner for permission."


def test_an_earlier_evaluation_that_is_no_file_is_passed_over(review: Review, whole_run: Path) -> None:
    (whole_run / "history" / "2021.json").mkdir()
    app = review("history")
    assert not app.exception
    assert len(app.main.selectbox[0].options) == 1


def test_a_changed_correction_is_compared_again(review: Review, whole_run: Path) -> None:
    path = whole_run / CORRECTION
    whole = path.read_text()
    path.write_text(whole[:100])
    assert "A correction is left out: Ben_20260301T140506Z.json" in _said(review("correct"))
    path.write_text(whole)
    app = review("correct")
    assert _said(app) == ""
    assert "Agreement" in [part.value for part in app.subheader]
