import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from cytoseg.active_learning import candidates, cut_crops, queue
from cytoseg.errors import SlideError
from cytoseg.formats.sidecar import Cut, write_sidecar
from cytoseg.geometry import Region
from cytoseg.labels.queue_file import read_queue
from cytoseg.predict import summary
from cytoseg.predict.summary import SlideSummary, summary_of
from cytoseg.slides.slide import Slide
from tests.predict.made import predicted

CytosegCommand = Callable[..., Result]
CLASSES = ("background", "cell")
FOLDER = Path("runs/tiny/queue")


@pytest.fixture
def slides(cytoseg: CytosegCommand) -> None:
    """Two predicted slides of 3 x 2 regions: the scores fall in reading order, those of dark_a are higher."""
    for name, top in (("dark_a", 0.60), ("dark_b", 0.50)):
        _predict(name, top)


def _predict(name: str, top: float) -> Path:
    rng = np.random.default_rng(round(100 * top))
    picture = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    ids, nats = np.zeros((64, 96), np.uint8), np.zeros((64, 96), np.float32)
    for number in range(6):
        y, x = 32 * (number // 3), 32 * (number % 3)
        ids[y + 8 : y + 24, x + 8 : x + 8 + 3 * number + 6] = 1
        nats[y : y + 16, x : x + 16] = top - 0.01 * number
    folder = Path("runs/tiny/predictions")
    return predicted(folder, Path(f"slides/{name}.png"), picture=picture, ids=ids, nats=nats, classes=CLASSES)


def _crops() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.png"))


def _hashes() -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FOLDER.glob("dark*")}


@pytest.mark.usefixtures("slides")
def test_disputed_regions_of_all_slides_come_with_the_prediction(cytoseg: CytosegCommand) -> None:
    result = cytoseg("queue", "tiny.yaml", "--n", "4")
    assert result.exit_code == 0, result.output
    assert "4 regions queued; look at runs/tiny/queue.png. Correct them: labelme runs/tiny/queue" in result.stdout
    items = read_queue(FOLDER).items
    assert [item.slide for item in items] == ["dark_a", "dark_b", "dark_a", "dark_b"]
    assert items[0].score == pytest.approx(0.6)
    assert "on cell" in items[0].reason or "on background" in items[0].reason
    first = FOLDER / "dark_a_0_0"
    with Image.open("slides/dark_a.png") as slide, Image.open(f"{first}.png") as crop:
        np.testing.assert_array_equal(np.array(crop), np.array(slide)[:32, :32])
    assert json.loads(Path(f"{first}.crop.json").read_text())["region"] == [0, 0, 32, 32]
    (shape,) = json.loads(Path(f"{first}.json").read_text())["shapes"]
    assert (shape["label"], sorted(shape["points"])) == ("cell", [[8, 8], [8, 24], [14, 8], [14, 24]])
    assert (FOLDER / "labels.txt").read_text() == "__ignore__\nbackground\ncell\n"
    with Image.open("runs/tiny/queue.png") as picture:
        assert picture.size[1] > 4 * 256
    record = json.loads(Path("runs/tiny/run.json").read_text())["commands"][-1]
    assert (record["command"], record["regions"]) == ("queue", 4)


@pytest.mark.usefixtures("slides")
def test_a_summary_is_parsed_once_to_find_a_slide_and_once_for_each_look_at_its_maps(
    cytoseg: CytosegCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counted(folder: Path) -> SlideSummary:
        read.append(folder.name)
        return summary_of(folder)

    monkeypatch.setattr(summary, "summary_of", counted)
    assert cytoseg("queue", "tiny.yaml", "--n", "1").exit_code == 0
    assert sorted(read) == ["dark_a", "dark_a", "dark_a", "dark_b"]  # its maps are cut and drawn


@pytest.mark.usefixtures("slides")
def test_the_next_call_gives_other_regions_and_touches_none(cytoseg: CytosegCommand) -> None:
    cytoseg("queue", "tiny.yaml", "--n", "3")
    before = _hashes()
    (FOLDER / "dark_a_0_0.json").write_text("corrected")
    before["dark_a_0_0.json"] = hashlib.sha256(b"corrected").hexdigest()
    result = cytoseg("queue", "tiny.yaml", "--n", "5")
    assert "5 regions queued" in result.stdout
    assert len(_crops()) == 8
    assert {name: found for name, found in _hashes().items() if name in before} == before


@pytest.mark.usefixtures("slides")
def test_more_than_there_are_gives_all_and_says_so(cytoseg: CytosegCommand) -> None:
    result = cytoseg("queue", "tiny.yaml", "--n", "50")
    assert "note: there are only 12 such regions, not 50." in result.stdout
    assert len(_crops()) == 12
    again = cytoseg("queue", "tiny.yaml")
    assert again.exit_code == 0
    assert "No uncertain region is left to annotate." in again.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("slides")
def test_a_lost_queue_file_queues_nothing_twice(cytoseg: CytosegCommand) -> None:
    cytoseg("queue", "tiny.yaml", "--n", "5")
    before = set(_crops())
    (FOLDER / "queue.json").unlink()
    cytoseg("queue", "tiny.yaml", "--n", "50")
    assert len(_crops()) == 12
    queued = sorted(item.crop for item in read_queue(FOLDER).items)
    assert queued == sorted(set(_crops()) - before)
    assert len(queued) == 7


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.usefixtures("slides")
def test_a_region_that_was_written_in_part_is_offered_again(cytoseg: CytosegCommand, saved: bool) -> None:
    """The disk was full, or a kill came, before the image was there; what was saved since stays."""
    cytoseg("queue", "tiny.yaml", "--n", "1")
    (crop,) = FOLDER.glob("*.png")
    before, marks = crop.read_bytes(), crop.with_suffix(".json")
    crop.unlink()
    (FOLDER / "queue.json").unlink()
    if saved:
        marks.write_text(json.dumps(json.loads(marks.read_text()), indent=2))
    kept = marks.read_bytes()
    result = cytoseg("queue", "tiny.yaml", "--n", "1")
    assert result.exit_code == 0, result.output
    assert marks.read_bytes() == kept
    assert crop.exists() != saved
    assert len(_crops()) == 1  # another one, with saved marks
    if not saved:
        assert crop.read_bytes() == before


def _kill(cytoseg: CytosegCommand, where: str) -> None:
    """Let a queue end before it has written the image of its first region, or when all files are there."""
    cut = cut_crops.cut_region

    def end(slide: Slide, region: Region, *arguments: Any, **named: Any) -> None:
        if where == "after":
            cut(slide, region, *arguments, **named)
        else:
            write_sidecar(FOLDER / f"dark_a_{region.x}_{region.y}.png", Cut("dark_a", region, None))
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "cut_region", end)
        assert cytoseg("queue", "tiny.yaml", "--n", "2").exit_code == 130
    assert [item.state for item in read_queue(FOLDER).items] == ["begun"]


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.usefixtures("slides")
def test_the_next_queue_finishes_the_region_that_a_killed_one_had_begun(cytoseg: CytosegCommand, where: str) -> None:
    _kill(cytoseg, where)
    assert _crops() == ([] if where == "before" else ["dark_a_0_0"])
    result = cytoseg("queue", "tiny.yaml", "--n", "2")
    assert result.exit_code == 0, result.output
    assert "note: 1 region of an interrupted queue finished." in result.stdout
    found = read_queue(FOLDER)
    assert [item.state for item in found.items] == ["queued"] * 3
    assert sorted(item.crop for item in found.items) == _crops()
    assert found.items[0].reason != ""
    assert found.rounds[0].regions == 3
    with Image.open("slides/dark_a.png") as slide, Image.open(FOLDER / "dark_a_0_0.png") as crop:
        np.testing.assert_array_equal(np.array(crop), np.array(slide)[:32, :32])


@pytest.mark.parametrize("change", ["size", "slide"])
@pytest.mark.usefixtures("slides")
def test_a_begun_region_that_can_no_longer_be_cut_is_given_up(cytoseg: CytosegCommand, change: str) -> None:
    _kill(cytoseg, "before")
    assert [path.name for path in FOLDER.glob("dark_a*")] == ["dark_a_0_0.crop.json"]
    if change == "slide":
        shutil.rmtree("runs/tiny/predictions/dark_a")
    result = cytoseg("queue", "tiny.yaml", "--n", "1", *(["--size", "16"] if change == "size" else []))
    assert result.exit_code == 0, result.output
    assert "interrupted" not in result.stdout
    (item,) = read_queue(FOLDER).items
    assert (item.state, item.region.width) == ("queued", 16 if change == "size" else 32)
    assert {path.name.partition(".")[0] for path in FOLDER.glob("dark*")} == {item.crop}


@pytest.mark.parametrize("line", ["queue tiny.yaml --n 1 --out marks", "label-crops tiny.yaml --n 1 --out marks"])
@pytest.mark.usefixtures("slides")
def test_what_a_kill_left_in_a_folder_of_ones_own_and_beside_the_recipe_goes(
    cytoseg: CytosegCommand, line: str
) -> None:
    left = [Path(name) for name in ("marks/.a.crop.json.abcd1234", f"marks/.{2**22 + 1}.a.png", ".tiny.yaml.abcd1234")]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (0, 0))
    result = cytoseg(*line.split())
    assert result.exit_code == 0, result.output
    assert [path for path in left if path.exists()] == []


@pytest.mark.usefixtures("slides")
def test_a_region_whose_slide_cannot_be_read_is_not_left_begun(
    cytoseg: CytosegCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_named: object) -> None:
        raise SlideError("dark_a.png: is damaged.")

    monkeypatch.setattr(queue, "cut_region", refuse)
    assert cytoseg("queue", "tiny.yaml", "--n", "1").exit_code == 2
    assert read_queue(FOLDER).items == ()


@pytest.mark.usefixtures("slides")
def test_a_damaged_queue_file_is_one_line(cytoseg: CytosegCommand) -> None:
    FOLDER.mkdir()
    (FOLDER / "queue.json").write_text('{"format": 1, "items": [7]}')
    result = cytoseg("queue", "tiny.yaml")
    assert result.exit_code == 2
    assert result.stderr.startswith("cytoseg: queue/queue.json: is damaged ('items' is not a list of records")
    assert _crops() == []


@pytest.mark.usefixtures("slides")
def test_proposals_that_no_queue_file_knows_are_left_out_all_the_same(cytoseg: CytosegCommand) -> None:
    cytoseg("queue", "tiny.yaml", "--n", "3", "--out", "marks")
    Path("marks/queue.json").unlink()
    for named in ("marks", "marks/dark_a_0_0.json"):
        result = cytoseg("label-import", named, "--recipe", "tiny.yaml")
        assert result.exit_code == 2
        assert f"{named}: Unsaved proposals skipped: " in result.stderr
    _save(Path("marks/dark_a_0_0.json"))
    assert cytoseg("label-import", "marks/dark_a_0_0.json", "--recipe", "tiny.yaml").exit_code == 0


def _save(path: Path) -> None:
    """Save a labelme file as it is; labelme writes it with two spaces, and keeps the keys that it does not know."""
    path.write_text(json.dumps(json.loads(path.read_text()), indent=2))


@pytest.mark.usefixtures("slides")
def test_corrected_files_come_back_and_are_not_proposed_again(cytoseg: CytosegCommand) -> None:
    cytoseg("queue", "tiny.yaml", "--n", "3", "--out", "marks")
    nobody = cytoseg("label-import", "marks", "--recipe", "tiny.yaml")
    assert nobody.exit_code == 2
    assert "marks: Unsaved proposals skipped: 3 (first dark_a_0_0.json)" in nobody.stderr
    path = Path("marks/dark_a_0_0.json")
    content = json.loads(path.read_text())
    content["shapes"][0]["points"] = [[0, 0], [16, 0], [16, 16], [8, 17], [0, 16]]  # slanted
    path.write_text(json.dumps(content))
    result = cytoseg("label-import", "marks", "--recipe", "tiny.yaml")
    assert result.exit_code == 0, result.output
    assert "note: Unsaved proposals skipped: 2" in result.stdout
    assert "queue.json" not in result.stdout
    assert "traced from pixel indices" not in result.stdout
    assert "1 crops imported (0 replaced), 1 in all. Pixels: background 760, cell 264." in result.stdout
    shutil.rmtree("marks")
    cytoseg("queue", "tiny.yaml", "--n", "50")
    assert len(_crops()) == 11
    assert "dark_a_0_0" not in _crops()


@pytest.mark.usefixtures("slides")
def test_a_slide_on_which_all_agree_is_no_error_beside_one_left_out(cytoseg: CytosegCommand) -> None:
    shutil.rmtree("runs/tiny/predictions/dark_b")
    nothing = np.zeros((64, 96), np.float32)
    picture, ids = np.zeros((64, 96, 3), np.uint8), np.zeros((64, 96), np.uint8)
    folder = Path("runs/tiny/predictions")
    predicted(folder, Path("slides/dark_b.png"), picture=picture, ids=ids, nats=nothing, classes=CLASSES)
    result = cytoseg("queue", "tiny.yaml", 'labels.test_slides=["dark_a"]')
    assert result.exit_code == 0, result.output
    assert "note: dark_a: left out: it is a test slide" in result.stdout
    assert "No uncertain region is left" in result.stdout


def test_without_a_predicted_slide_the_command_is_named(cytoseg: CytosegCommand) -> None:
    result = cytoseg("queue", "tiny.yaml")
    assert result.exit_code == 2
    assert result.stderr == (
        "cytoseg: queue: no slide of this run was predicted. Run `cytoseg predict RECIPE SLIDE` first.\n"
    )


def _spoil(name: str) -> str:
    """Spoil the prediction of dark_a in a way; gives what shall be said of it."""
    folder = Path("runs/tiny/predictions/dark_a")
    summary = folder / "summary.json"
    match name:
        case "half-written":
            summary.unlink()
            return "its prediction is not finished (summary.json is missing)"
        case "summary":
            summary.write_text("{")
            return "summary.json is damaged or of an older version"
        case "classes":
            content = json.loads(summary.read_text()) | {"classes": {"background": {}, "debris": {}}}
            summary.write_text(json.dumps(content))
            return "it was predicted with other classes (background, debris)"
        case "slide":
            Path("slides/dark_a.png").unlink()
            return "its file dark_a.png is missing"
        case "other slide":
            Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save("slides/dark_a.png")
            return "its file dark_a.png is not the file that was predicted"
        case "uncertainty":
            path = folder / "uncertainty.ome.tif"
            path.write_bytes(path.read_bytes()[:200])
            return "dark_a/uncertainty.ome.tif: cannot be read"
        case _:
            (folder / "class_map.ome.tif").unlink()
            return "dark_a/class_map.ome.tif: cannot be read"


@pytest.mark.usefixtures("slides")
@pytest.mark.parametrize(
    "what",
    [
        "half-written",
        "other slide",
        "class map",
        *(pytest.param(what, marks=pytest.mark.slow) for what in ("summary", "classes", "slide", "uncertainty")),
    ],
)
def test_a_spoiled_prediction_is_left_out_and_named(cytoseg: CytosegCommand, what: str) -> None:
    said = _spoil(what)
    result = cytoseg("queue", "tiny.yaml", "--n", "3")
    assert result.exit_code == 0, result.output
    assert f"note: dark_a: left out: {said}" in result.stdout
    assert {item.slide for item in read_queue(FOLDER).items} == {"dark_b"}
    shutil.rmtree("runs/tiny/predictions/dark_b")
    alone = cytoseg("queue", "tiny.yaml", "--n", "3")
    assert alone.exit_code == 2
    assert f"cytoseg: dark_a: left out: {said}" in alone.stderr


@pytest.mark.usefixtures("slides")
def test_test_slides_are_left_out_by_pattern_and_by_chance(cytoseg: CytosegCommand) -> None:
    named = cytoseg("queue", "tiny.yaml", 'labels.test_slides=["*_a"]', "--n", "2")
    assert "note: dark_a: left out: it is a test slide" in named.stdout
    assert {item.slide for item in read_queue(FOLDER).items} == {"dark_b"}
    for name in ("dark_a", "dark_b"):
        cytoseg("label-crops", "tiny.yaml", "--slide", f"slides/{name}.png", "--at", "16,48", "--out", "marks")
        _save(Path(f"marks/{name}_0_32.json"))
    cytoseg("label-import", "marks", "--recipe", "tiny.yaml")
    # Of two slides one is for testing; which, the seed decides.
    drawn = [cytoseg("queue", "tiny.yaml", f"training.seed={seed}", "--n", "1").stdout for seed in range(4)]
    left_out = {name for name in ("dark_a", "dark_b") for text in drawn if f"note: {name}: left out" in text}
    assert all(text.count("it is a test slide") == 1 for text in drawn)
    assert left_out == {"dark_a", "dark_b"}


@pytest.mark.usefixtures("slides")
def test_annotated_regions_are_left_out(cytoseg: CytosegCommand) -> None:
    cytoseg("label-crops", "tiny.yaml", "--slide", "slides/dark_a.png", "--at", "33,32", "--out", "marks")
    _save(Path("marks/dark_a_17_16.json"))
    cytoseg("label-import", "marks", "--recipe", "tiny.yaml")
    cytoseg("queue", "tiny.yaml", 'labels.test_slides=["none*"]', "--n", "50")
    # The crop from 17, 16 on lies on four of the six regions.
    assert [crop for crop in _crops() if crop.startswith("dark_a")] == ["dark_a_64_0", "dark_a_64_32"]


@pytest.mark.usefixtures("slides")
def test_a_second_look_reads_no_map(cytoseg: CytosegCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    cytoseg("queue", "tiny.yaml", "--n", "1")
    monkeypatch.setattr(candidates, "MapFile", None)
    again = cytoseg("queue", "tiny.yaml", "--n", "1").stdout
    assert "1 regions queued" in again
    assert "200/200" in again


@pytest.mark.usefixtures("slides")
def test_what_the_last_regions_gave_is_said_after_the_next_evaluation(cytoseg: CytosegCommand) -> None:
    _evaluate("monday", train_crops=10, cell=0.5)
    cytoseg("queue", "tiny.yaml", "--n", "2")
    waiting = cytoseg("queue", "tiny.yaml", "--n", "1").stdout
    assert ": 2 regions. Not evaluated since" in waiting
    rows = [f"mlps,{n},0,0.9,{iou}" for n, iou in ((5, 0.4), (10, 0.5), (20, 0.6))]
    Path("runs/tiny/label_efficiency").mkdir()
    Path("runs/tiny/label_efficiency/label_efficiency.csv").write_text(
        "\n".join(["method,crops,draw,background,cell", *rows, ""])
    )
    _evaluate("friday", train_crops=20, cell=0.56)
    said = cytoseg("queue", "tiny.yaml", "--n", "1").stdout
    assert ": 3 regions. Trained on 10 crops then and 20 after:" in said
    assert "IoU cell: 0.500 before, 0.560 after (+0.060); the study's estimate was +0.100" in said
    assert [found.regions for found in read_queue(FOLDER).rounds] == [3, 1]


def _evaluate(created: str, *, train_crops: int, cell: float) -> None:
    """Write an evaluation with nothing in it but what the queue looks at."""
    made = Path(__file__).parents[1] / "apps" / "made_run" / "evaluation" / "evaluation.json"
    record = json.loads(made.read_text())
    record["classes"] = record["classes"][:2]
    for entry, name in zip(record["classes"], CLASSES, strict=True):
        entry["name"] = name
    record |= {"created": created, "train_crops": train_crops, "crops": []}
    for method in record["methods"]:
        method["classes"] = method["classes"][:2]
        method["classes"][1] |= {"name": "cell", "iou": cell}
        method["classes"][0] |= {"name": "background"}
        method["confusion"], method["slides"] = [row[:2] for row in method["confusion"][:2]], []
    path = Path("runs/tiny/evaluation/evaluation.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
