import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

from cytoseg.objects.settings import ClassTotals
from cytoseg.predict.slide_task import Outcome, SlideTask

CytosegCommand = Callable[..., Result]


@pytest.fixture
def bundle(cytoseg: CytosegCommand) -> Path:
    """What the command reads of a bundle, of the classes background and cell; nothing can be predicted with it."""
    folder = Path("runs/tiny/interpreter/bundle")
    folder.mkdir(parents=True)
    state = {
        "classes": {"names": ["background", "cell"], "colours": [[1, 2, 3], [4, 5, 6]], "fill": None},
        "mpp": 0.5,
        "sha256": {"ensemble": "abc"},
    }
    features = {"taps": [], "timesteps": [], "scale": 1, "noise_seed": 0}
    others = {"architecture": {}, "features": features, "vote": "soft", "precision": "no", "origin": {}}
    (folder / "state.json").write_text(json.dumps({"format": 1, "kind": "bundle", **state, **others}))
    return folder


@pytest.fixture
def attempted(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> list[SlideTask]:
    """Predict nothing; slides named dark_a fail. Gives the tasks as they come."""
    tasks: list[SlideTask] = []

    def attempt(task: SlideTask, _on_progress: Any) -> Outcome:
        tasks.append(task)
        return Outcome(task, f"{task.path.name}: is damaged." if task.path.stem == "dark_a" else None)

    monkeypatch.setattr("cytoseg.commands.predict.attempt", attempt)
    return tasks


def test_a_slide_may_have_an_equals_sign_in_its_name(cytoseg: CytosegCommand) -> None:
    Path("slides/dark_a.png").rename("slides/stain=pap.png")
    result = cytoseg("predict", "tiny.yaml", "slides/stain=pap.png", "predict.tile_px=32", "predict.overlap_px=8")
    assert result.exit_code == 2
    assert "runs/tiny/interpreter/bundle" in result.stderr  # the slide was accepted; only the bundle is missing


def test_all_wrong_slides_are_reported_before_any_is_predicted(cytoseg: CytosegCommand) -> None:
    result = cytoseg("predict", "tiny.yaml", "slides/dark_a.png", "lost.tif", "slides/*.svs")
    assert result.exit_code == 2
    head, *lines = result.stderr.splitlines()
    assert head == "cytoseg: predict: 2 problems, nothing was written."
    assert [line.strip().split(":")[0] for line in lines] == ["lost.tif", "slides/*.svs"]


def test_at_least_a_slide_must_be_named(cytoseg: CytosegCommand) -> None:
    result = cytoseg("predict", "tiny.yaml")
    assert result.exit_code == 2
    assert "Missing argument" in result.stderr


def test_a_slide_that_fails_ends_in_status_1(cytoseg: CytosegCommand, attempted: list[SlideTask]) -> None:
    result = cytoseg("predict", "tiny.yaml", "slides")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "cytoseg: predict: 1 of 2 slides failed, the others are done.",
        "  dark_a.png: is damaged.",
    ]


@pytest.mark.parametrize("named", ["slides", "slides/*", "today.txt"])
def test_the_only_slide_of_a_folder_glob_or_list_ends_in_the_same_status(
    cytoseg: CytosegCommand, attempted: list[SlideTask], named: str
) -> None:
    Path("slides/dark_b.png").unlink()
    Path("today.txt").write_text("slides/dark_a.png")
    result = cytoseg("predict", "tiny.yaml", named)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["cytoseg: predict: 1 of 1 slides failed.", "  dark_a.png: is damaged."]


def test_a_slide_named_alone_is_a_wrong_input_like_any_other(
    cytoseg: CytosegCommand, attempted: list[SlideTask]
) -> None:
    result = cytoseg("predict", "tiny.yaml", "slides/dark_a.png")
    assert result.exit_code == 2
    assert result.stderr == "cytoseg: dark_a.png: is damaged.\n"


def test_a_bundle_of_other_classes_is_refused(cytoseg: CytosegCommand, attempted: list[SlideTask]) -> None:
    recipe = Path("tiny.yaml").read_text(encoding="utf-8")
    Path("tiny.yaml").write_text(recipe.replace("name: cell", "name: nucleus"), encoding="utf-8")
    result = cytoseg("predict", "tiny.yaml", "slides")
    assert result.exit_code == 2
    assert result.stderr == (
        "cytoseg: predict: the bundle was trained on the classes (background, cell), the recipe has "
        "(background, nucleus). Run `cytoseg train-interpreter` again.\n"
    )
    assert attempted == []


def test_an_unfinished_prediction_with_other_settings_is_named(
    cytoseg: CytosegCommand, attempted: list[SlideTask]
) -> None:
    assert "starts over" not in cytoseg("predict", "tiny.yaml", "slides/dark_b.png").stdout
    (task,) = attempted
    part = task.folder.with_name(".dark_b.part")
    part.mkdir(parents=True)
    (part / "key.json").write_text(json.dumps(task.provenance))
    assert "starts over" not in cytoseg("predict", "tiny.yaml", "slides/dark_b.png").stdout
    line = ("predict", "tiny.yaml", "slides/dark_b.png", "predict.tile_px=128")
    told = "dark_b.png: starts over because its unfinished prediction used a different predict.tile_px.\n"
    assert told in cytoseg(*line).stdout
    task.folder.mkdir()
    summary = {"provenance": attempted[-1].provenance, "files": ["summary.json"]}
    (task.folder / "summary.json").write_text(json.dumps(summary))
    assert "starts over" not in cytoseg(*line).stdout  # it is finished with these settings


def test_areas_that_are_not_objects_are_reported(cytoseg: CytosegCommand, attempted: list[SlideTask]) -> None:
    folder = Path("runs/tiny/predictions/dark_b")
    folder.mkdir(parents=True)
    for totals, told in (
        (ClassTotals(sheets=2), ["  counted but not outlined: 2 areas in rectangles of more than 4194304 px"]),
        (ClassTotals(dropped=3), ["  counted but not outlined: 3 areas of fewer than 9 px"]),
        (ClassTotals(objects=3), []),
    ):
        (folder / "summary.json").write_text(json.dumps({"objects": {"cell": asdict(totals)}}))
        lines = cytoseg("predict", "tiny.yaml", "slides/dark_b.png", "objects.least_px=9").stdout.splitlines()
        assert lines[lines.index("dark_b.png: see runs/tiny/predictions/dark_b/preview.png") + 1 : -1] == told


def test_a_gpu_that_this_machine_lacks_may_be_in_the_cluster(
    cytoseg: CytosegCommand, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_ray(tasks: Sequence[SlideTask], *, address: str | None) -> Iterator[Outcome]:
        assert (address, [task.device for task in tasks]) == ("auto", ["cuda"])
        return map(Outcome, tasks)

    monkeypatch.setattr("cytoseg.commands.predict.on_ray", on_ray)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    line = ("predict", "tiny.yaml", "slides/dark_b.png", "training.device=cuda")
    assert cytoseg(*line, "--engine", "ray", "--address", "auto").exit_code == 0
    here = cytoseg(*line)
    assert here.exit_code == 2
    assert "device 'cuda' is not available on this machine" in here.stderr
