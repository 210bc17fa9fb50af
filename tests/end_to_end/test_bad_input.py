"""What a user gets wrong: exit status 2, one line that says what to do, and every file as it was."""

import errno
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

Refused = Callable[..., str]
SLIDE = "made/slides/made_2_01.ome.tif"
CROP = "made/labelled/made_2_00"


@pytest.fixture
def refused(contents: Callable[[], dict[str, str]], cytoseg: Callable[..., Result]) -> Refused:
    """Run a command that must fail as a user's mistake does; gives its one line."""

    def run(*arguments: str) -> str:
        before = contents()
        result = cytoseg(*arguments)
        assert result.exit_code == 2, result.output
        assert contents() == before
        (line,) = result.stderr.splitlines()
        assert line.startswith("cytoseg: ")
        return line

    return run


def no_space(*_arguments: Any, **_keywords: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "command",
    [("train-ddpm", "tiny.yaml", "folder=runs/new"), ("predict", "tiny.yaml", SLIDE), ("slides", "info", SLIDE)],
    ids=lambda command: command[0],
)
class TestSlides:
    def test_a_truncated_slide(self, home: Path, refused: Refused, command: tuple[str, ...]) -> None:
        content = (home / SLIDE).read_bytes()
        (home / SLIDE).write_bytes(content[: len(content) // 2])
        line = refused(*command)
        assert "made_2_01.ome.tif" in line
        assert "damaged" in line or "truncated" in line or "cut off" in line

    def test_a_text_file_named_tif(self, home: Path, refused: Refused, command: tuple[str, ...]) -> None:
        (home / SLIDE).write_text("<html>404 Not Found</html>")
        assert "made_2_01.ome.tif: is not a TIFF, it starts like text: b'<html>404 No'" in refused(*command)


def test_a_slide_smaller_than_a_crop(home: Path, refused: Refused) -> None:
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(home / "made" / "slides" / "small.png")
    line = refused("train-ddpm", "tiny.yaml", "folder=runs/new", "slides.mpp=null")
    assert "small.png: 40x30 px, smaller than a crop of 32x32. Leave it out (slides.exclude)" in line


def test_slides_that_are_not_there(home: Path, refused: Refused) -> None:
    assert "elsewhere: there is no such folder" in refused(
        "train-ddpm", "tiny.yaml", "folder=runs/new", "slides.folders=[elsewhere]"
    )
    assert "nowhere.svs: there is no such file" in refused("predict", "tiny.yaml", "nowhere.svs")


class TestAnnotations:
    """Of made/labelled/made_2_00..., one of six files; none of the six may be imported."""

    @pytest.fixture
    def annotation(self, home: Path) -> Path:
        return sorted((home / "made" / "labelled").glob("made_2_00*.json"))[0]

    @pytest.fixture
    def spoil(self, annotation: Path, refused: Refused) -> Callable[..., str]:
        def change(**keys: Any) -> str:
            annotation.write_text(json.dumps(json.loads(annotation.read_text()) | keys))
            return refused("label-import", "made/labelled", "--recipe", "tiny.yaml")

        return change

    def test_cut_in_half(self, annotation: Path, refused: Refused) -> None:
        annotation.write_text(annotation.read_text()[:200])
        line = refused("label-import", "made/labelled", "--recipe", "tiny.yaml")
        assert f"{annotation.name}: is cut off or damaged" in line

    def test_unknown_class(self, annotation: Path, spoil: Callable[..., str]) -> None:
        shapes = json.loads(annotation.read_text())["shapes"]
        line = spoil(shapes=[{**shapes[0], "label": "nuclei"}, *shapes[1:]])
        assert f"'nuclei' (1 shape, first {annotation.name}, shape 1)" in line
        assert "--map nuclei=nucleus" in line

    def test_picture_missing(self, annotation: Path, spoil: Callable[..., str]) -> None:
        assert f"{annotation.name}: the picture 'lost.png' does not exist" in spoil(imagePath="lost.png")

    def test_path_that_leaves_the_folder(self, annotation: Path, spoil: Callable[..., str]) -> None:
        line = spoil(imagePath=r"..\..\tiny.yaml")
        assert rf"{annotation.name}: imagePath '..\..\tiny.yaml' leads out of made/labelled" in line

    def test_size_mismatch(self, annotation: Path, spoil: Callable[..., str]) -> None:
        assert f"{annotation.name}: the file says 63x64 pixels, but the picture has 64x64" in spoil(imageWidth=63)

    def test_all_problems_are_told_at_once(
        self, home: Path, cytoseg: Callable[..., Result], contents: Callable[[], dict[str, str]]
    ) -> None:
        for path in (home / "made" / "labelled").glob("*.json"):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"imagePath": "lost.png"}))
        before = contents()
        result = cytoseg("label-import", "made/labelled", "--recipe", "tiny.yaml")
        assert result.exit_code == 2
        head, *lines = result.stderr.splitlines()
        assert head == "cytoseg: label-import: 6 problems, nothing was written."
        assert all("'lost.png' does not exist" in line for line in lines)
        assert len(lines) == 6
        assert contents() == before

    @pytest.mark.parametrize("pair", ["nuclei", "=nucleus", "nuclei="])
    def test_malformed_map(self, pair: str, refused: Refused) -> None:
        line = refused("label-import", "made/labelled", "--recipe", "tiny.yaml", "--map", pair)
        assert line == f"cytoseg: --map {pair}: write found=wanted, such as --map nuclei=nucleus."


class TestRecipe:
    def test_misspelt_key(self, home: Path, refused: Refused) -> None:
        (home / "tiny.yaml").write_text((home / "tiny.yaml").read_text().replace("crops: 24", "crop: 24"))
        assert "tiny.yaml: training.crop: unknown key. Remove it or mend its spelling" in refused(
            "train-ddpm", "tiny.yaml", "folder=runs/new"
        )
        assert not (home / "runs" / "new").exists()

    @pytest.mark.parametrize(
        "command", ["train-ddpm", "label-crops", "train-interpreter", "evaluate", "report", "review"]
    )
    def test_override_of_an_unknown_key(self, command: str, refused: Refused) -> None:
        assert "training.crop: unknown key" in refused(command, "tiny.yaml", "training.crop=24")

    def test_override_without_a_value(self, refused: Refused) -> None:
        assert "override 'training.crops': write section.key=value" in refused(
            "evaluate", "tiny.yaml", "training.crops"
        )

    def test_no_such_recipe(self, refused: Refused) -> None:
        line = refused("train-ddpm", "tinny.yaml")
        assert "tinny.yaml: no such recipe. Give a YAML file, or one of cervical, lbc, lbc-base, " in line


class TestOrder:
    """Commands before their time, or after something else has changed."""

    def test_a_checkpoint_is_there_and_resume_was_not_asked_for(self, refused: Refused) -> None:
        line = refused("train-ddpm", "tiny.yaml")
        assert "runs/tiny/ddpm: holds checkpoint-000000024 already. Add --resume to go on from it" in line

    @pytest.mark.parametrize("command", [("train-ddpm", "--resume"), ("train-interpreter",)])
    def test_a_checkpoint_of_another_architecture(self, refused: Refused, command: tuple[str, ...]) -> None:
        line = refused(command[0], "tiny.yaml", "diffusion.dim=16", *command[1:])
        assert "checkpoint-000000024" in line
        assert "dim" in line

    def test_no_checkpoint_yet(self, home: Path, refused: Refused) -> None:
        shutil.rmtree(home / "runs" / "tiny" / "ddpm")
        assert "runs/tiny/ddpm: no checkpoint here. Train one with `cytoseg train-ddpm`" in refused(
            "train-interpreter", "tiny.yaml"
        )

    def test_no_labels_yet(self, home: Path, refused: Refused) -> None:
        shutil.rmtree(home / "runs" / "tiny" / "labels")
        for command in ("train-interpreter", "evaluate"):
            assert "there are no imported labels. Run `cytoseg label-import` first." in refused(command, "tiny.yaml")

    @pytest.mark.parametrize("command", [("evaluate",), ("predict", SLIDE)], ids=lambda c: c[0])
    def test_no_bundle_yet(self, home: Path, refused: Refused, command: tuple[str, ...]) -> None:
        shutil.rmtree(home / "runs" / "tiny" / "interpreter")
        line = refused(command[0], "tiny.yaml", *command[1:])
        assert "runs/tiny/interpreter/bundle" in line
        assert "Run `cytoseg train-interpreter`" in line

    def test_nothing_to_report(self, refused: Refused) -> None:
        assert "runs/new: no run was found here" in refused("report", "tiny.yaml", "folder=runs/new")

    def test_labels_of_other_classes(self, home: Path, refused: Refused) -> None:
        (home / "tiny.yaml").write_text((home / "tiny.yaml").read_text().replace("name: cytoplasm", "name: debris"))
        for command in ("train-interpreter", "evaluate"):
            line = refused(command, "tiny.yaml")
            assert (
                "imported with the classes (background, cytoplasm, nucleus), the recipe has (background, debris" in line
            )

    def test_a_bundle_of_other_classes(self, home: Path, refused: Refused, cytoseg: Callable[..., Result]) -> None:
        (home / "tiny.yaml").write_text((home / "tiny.yaml").read_text().replace("name: cytoplasm", "name: cell"))
        shutil.rmtree(home / "runs" / "tiny" / "labels")
        renamed = cytoseg("label-import", "made/labelled", "--recipe", "tiny.yaml", "--map", "cytoplasm=cell")
        assert renamed.exit_code == 0, renamed.output
        line = refused("evaluate", "tiny.yaml")
        assert (
            "the bundle was trained on the classes (background, cytoplasm, nucleus), the recipe has (background, cell"
            in line
        )

    def test_scoring_what_was_trained_on(self, refused: Refused) -> None:
        line = refused("evaluate", "tiny.yaml", "labels.test_slides=[made_2_02]")
        assert "the bundle was trained on 2 of the test crops" in line

    def test_no_slide_to_predict(self, refused: Refused) -> None:
        assert refused("predict", "tiny.yaml", "predict.batch=1") == "cytoseg: predict: no slide was named."

    def test_two_slides_of_one_name(self, home: Path, refused: Refused) -> None:
        shutil.copy(home / SLIDE, home / "made" / "made_2_01.ome.tif")
        assert "two slides of this name" in refused("predict", "tiny.yaml", SLIDE, "made/made_2_01.ome.tif")


@pytest.mark.parametrize(
    ("place", "kept"),
    [("pathlib.Path.write_bytes", (16, 24)), ("cytoseg.runs.MetricsLog.write", (24, 32))],  # no log: the weights are
)
def test_disk_full_in_train_ddpm(
    place: str, kept: tuple[int, ...], home: Path, cytoseg: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ("train-ddpm", "tiny.yaml", "training.crops=32", "--resume")
    with monkeypatch.context() as full:
        full.setattr(place, no_space)
        result = cytoseg(*line)
    assert result.exit_code == 2, result.output
    (message,) = result.stderr.splitlines()
    assert "No space left on device" in message
    folder = home / "runs" / "tiny" / "ddpm"
    assert sorted(p.name for p in folder.glob("checkpoint*")) == [f"checkpoint-0000000{n}" for n in kept]
    assert list(home.rglob(".*")) == []
    again = cytoseg(*line)  # with room again
    assert again.exit_code == 0, again.output
    assert "Trained on 32 crops" in again.stdout


@pytest.mark.parametrize("place", ["cytoseg.predict.outputs.write_pyramid", "cytoseg.predict.slide.spool_maps"])
def test_disk_full_in_predict(refused: Refused, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setattr(place, no_space)
    line = refused("predict", "tiny.yaml", "made/slides/made_2_00.ome.tif", "predict.batch=1")
    assert "runs/tiny/predictions/made_2_00: " in line
    assert "cannot be written (No space left on device); what was there is unchanged" in line


def test_a_folder_that_cannot_be_written(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path, _content: str) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("cytoseg.commands.common.write_atomically", denied)
    line = refused("evaluate", "tiny.yaml")
    assert line == "cytoseg: runs/tiny/recipe.yaml: Permission denied."


def test_review_without_streamlit(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    line = refused("review", "tiny.yaml")
    assert line.endswith("the app needs Streamlit. Install it with `pip install 'cytoseg[app]'`.")
