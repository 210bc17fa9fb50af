"""User errors: exit status 2, one line that says what to do, and unchanged files."""

import errno
import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from typer.testing import Result

from cytoseg.checkpoints import load_checkpoint, save_checkpoint
from cytoseg.interpreter.bundle import bundle_hashes

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
        assert "made_2_01.ome.tif: is not a TIFF, it starts with text: b'<html>404 No'" in refused(*command)


def test_a_slide_smaller_than_a_crop(home: Path, refused: Refused) -> None:
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(home / "made" / "slides" / "small.png")
    line = refused("train-ddpm", "tiny.yaml", "folder=runs/new", "slides.mpp=null")
    assert "small.png: 40x30 px, smaller than a crop of 32x32. Exclude it (slides.exclude)" in line


def test_slides_that_are_not_there(home: Path, refused: Refused) -> None:
    assert "elsewhere: no such folder" in refused(
        "train-ddpm", "tiny.yaml", "folder=runs/new", "slides.folders=[elsewhere]"
    )
    assert "nowhere.svs: no such file" in refused("predict", "tiny.yaml", "nowhere.svs")


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
        annotation.with_suffix(".png").unlink()
        assert f"{annotation.name}: the image 'lost.png' does not exist" in spoil(imagePath="lost.png")

    def test_path_that_leaves_the_folder(self, annotation: Path, spoil: Callable[..., str]) -> None:
        line = spoil(imagePath=r"..\..\tiny.yaml")
        assert rf"{annotation.name}: imagePath '..\..\tiny.yaml' points outside made/labelled" in line

    def test_size_mismatch(self, annotation: Path, spoil: Callable[..., str]) -> None:
        assert f"{annotation.name}: the file says 63x64 pixels, but the image has 64x64" in spoil(imageWidth=63)

    def test_all_problems_are_reported_at_once(
        self, home: Path, cytoseg: Callable[..., Result], contents: Callable[[], dict[str, str]]
    ) -> None:
        for path in (home / "made" / "labelled").glob("*.json"):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"imagePath": "lost.png"}))
            path.with_suffix(".png").unlink()  # it would be taken for the lost one, renamed
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


class TestLabels:
    """What people marked, in every odd amount and size."""

    @pytest.fixture
    def mark(self, home: Path, cytoseg: Callable[..., Result]) -> Callable[..., None]:
        """Import other label maps than those of the made run, as ``mark(made_2_00_a=label_map)``."""

        def write(**label_maps: NDArray[np.uint8]) -> None:
            shutil.rmtree(home / "runs" / "tiny" / "labels")
            for number, (name, ids) in enumerate(label_maps.items()):
                picture = np.random.default_rng(number).integers(0, 256, (*ids.shape, 3), np.uint8)
                for folder, array in (("images", picture), ("masks", ids)):
                    (home / "marked" / folder).mkdir(parents=True, exist_ok=True)
                    Image.fromarray(array).save(home / "marked" / folder / f"{name}.png")
            line = ("label-import", "marked", "--recipe", "tiny.yaml", "--slide-regex", r"^(made_2_\d\d)")
            result = cytoseg(*line)
            assert result.exit_code == 0, result.output

        return write

    @staticmethod
    def halves(height: int = 16, width: int = 16) -> NDArray[np.uint8]:
        ids = np.zeros((height, width), np.uint8)
        ids[:, width // 2 :] = 1
        return ids

    def test_all_pixels_ignored(self, mark: Callable[..., None], refused: Refused) -> None:
        unknown = np.full((16, 16), 255, np.uint8)
        known = self.halves()
        mark(made_2_00_a=known, made_2_01_a=known, made_2_02_a=unknown, made_2_02_b=unknown)
        assert "the train crops show no labelled pixel; at least two classes are needed. Annotate more." in refused(
            "train-interpreter", "tiny.yaml"
        )

    @pytest.mark.parametrize(
        "tuning",
        [
            pytest.param((), id="mlps"),
            pytest.param(
                ("interpreter.kind=decoder", "decoder.steps=2", "decoder.size_px=32", "decoder.batch=2"),
                id="decoder",
                marks=pytest.mark.slow,
            ),
        ],
    )
    def test_a_class_without_marked_pixels(
        self, mark: Callable[..., None], cytoseg: Callable[..., Result], home: Path, tuning: tuple[str, ...]
    ) -> None:
        mark(made_2_00_a=self.halves(), made_2_01_a=2 * self.halves(), made_2_02_a=self.halves())
        trained = cytoseg("train-interpreter", "tiny.yaml", *tuning)
        assert trained.exit_code == 0, trained.output
        assert "No train pixel has the class 'nucleus': it will not be predicted." in trained.stdout
        assert "'cytoplasm'" not in trained.stdout
        assert cytoseg("evaluate", "tiny.yaml", *tuning).exit_code == 0
        evaluation = json.loads((home / "runs" / "tiny" / "evaluation" / "evaluation.json").read_text())
        confusion = np.array(evaluation["methods"][0]["confusion"])
        assert confusion[:, 2].tolist() == [0, 0, 0]
        assert confusion[2].sum() == 128
        nucleus = [crop["iou"][2] for crop in evaluation["crops"]]
        assert nucleus == [None, 0.0]  # no nucleus there, so n/a; and one that was missed

    def test_one_pixel_of_a_class(self, mark: Callable[..., None], cytoseg: Callable[..., Result], home: Path) -> None:
        single = self.halves()
        single[3, 4] = 2
        mark(made_2_00_a=self.halves(), made_2_01_a=self.halves(), made_2_02_a=single)
        result = cytoseg("train-interpreter", "tiny.yaml")
        assert result.exit_code == 0, result.output
        assert "No train pixel" not in result.stdout
        weights = load_file(home / "runs" / "tiny" / "interpreter" / "bundle" / "ensemble.safetensors")
        assert all(bool(tensor.isfinite().all()) for tensor in weights.values())

    @pytest.mark.slow
    def test_crops_of_every_size(self, mark: Callable[..., None], cytoseg: Callable[..., Result], home: Path) -> None:
        train = {"made_2_02_a": (1, 4), "made_2_02_b": (5, 3), "made_2_02_c": (33, 70)}
        sizes = {**train, "made_2_00_a": (7, 2), "made_2_01_a": (3, 1)}
        mark(**{name: self.halves(*size) for name, size in sizes.items()})
        for command in ("train-interpreter", "evaluate"):
            result = cytoseg(command, "tiny.yaml")
            assert result.exit_code == 0, result.output
        evaluation = json.loads((home / "runs" / "tiny" / "evaluation" / "evaluation.json").read_text())
        assert np.sum(evaluation["methods"][0]["confusion"]) == 14 + 3
        with Image.open(home / "runs" / "tiny" / "evaluation" / "crops" / "made_2_00_a" / "prediction.png") as picture:
            assert picture.size == (2, 7)

    def test_a_label_map_painted_over_after_the_import(self, home: Path, refused: Refused) -> None:
        path = sorted((home / "runs" / "tiny" / "labels" / "maps").glob("made_2_02*.png"))[0]
        ids = np.array(Image.open(path))
        ids[0, 0] = 7
        Image.fromarray(ids).save(path)
        line = refused("train-interpreter", "tiny.yaml", "interpreter.steps=30")
        assert f"{path.name}: holds id 7, but there are 3 classes" in line


class TestWeights:
    @pytest.fixture
    def no_numbers(self, home: Path) -> None:
        """Make the first weights of the newest diffusion model so large that its features are NaN."""
        path = home / "runs" / "tiny" / "ddpm" / "checkpoint-000000024"
        found = load_checkpoint(path)
        found.tensors["ema"]["init_conv.weight"].fill_(1e38)
        save_checkpoint(path, found.tensors, {k: v for k, v in found.state.items() if k not in ("format", "sha256")})

    @pytest.mark.usefixtures("no_numbers")
    def test_a_diffusion_model_whose_features_are_not_finite(self, refused: Refused) -> None:
        line = refused("train-interpreter", "tiny.yaml")
        assert re.search(r"cytoseg: made_2_02_\S+: the diffusion model produces NaN or infinite features", line)

    @pytest.mark.slow
    @pytest.mark.usefixtures("no_numbers")
    def test_a_decoder_of_such_weights(self, home: Path, cytoseg: Callable[..., Result]) -> None:
        before = bundle_hashes(home / "runs" / "tiny" / "interpreter" / "bundle")
        tuning = ("interpreter.kind=decoder", "decoder.steps=2", "decoder.size_px=32", "decoder.batch=2")
        study = ("study", "label-efficiency", "tiny.yaml", "--quick", "--draws", "1", "--counts", "2")
        for command in (("train-interpreter", "tiny.yaml"), study):
            result = cytoseg(*command, *tuning)
            assert result.exit_code == 2, result.output
            assert "decoder: the loss of step 1 is not finite." in result.stderr
        assert bundle_hashes(home / "runs" / "tiny" / "interpreter" / "bundle") == before

    @pytest.mark.slow
    @pytest.mark.usefixtures("no_numbers")
    def test_a_choice_of_features_that_are_not_finite(self, home: Path, cytoseg: Callable[..., Result]) -> None:
        recipe = (home / "tiny.yaml").read_text()
        result = cytoseg("select-features", "tiny.yaml", 'labels.test_slides=["*_00"]', "--timesteps", "1,5")
        assert result.exit_code == 2, result.output
        assert "the diffusion model produces NaN or infinite features" in result.stderr
        assert (home / "tiny.yaml").read_text() == recipe

    @pytest.mark.slow
    def test_a_bundle_whose_state_was_changed(
        self, home: Path, refused: Refused, cytoseg: Callable[..., Result]
    ) -> None:
        path = home / "runs" / "tiny" / "interpreter" / "bundle" / "state.json"
        state = json.loads(path.read_text())
        path.write_text(json.dumps(state | {"members": state["members"] + 1}))
        line = refused("evaluate", "tiny.yaml")
        assert "bundle/state.json: damaged, or of a different version (ValueError: 3 members, weights of 2)" in line
        assert line.endswith("Run `cytoseg train-interpreter` again.")
        again = cytoseg("train-interpreter", "tiny.yaml")
        assert again.exit_code == 0, again.output
        assert json.loads(path.read_text())["members"] == state["members"]

    @pytest.mark.parametrize("command", [("evaluate",), ("predict", SLIDE)], ids=lambda c: c[0])
    def test_a_bundle_with_the_backbone_of_another_network(
        self, home: Path, refused: Refused, command: tuple[str, ...]
    ) -> None:
        run = home / "runs" / "tiny"
        (run / "interpreter" / "bundle" / "backbone.safetensors").write_bytes(
            (run / "ddpm" / "checkpoint-000000016" / "ema.safetensors").read_bytes()
        )
        line = refused(command[0], "tiny.yaml", *command[1:])
        assert "bundle/backbone.safetensors: damaged (its content does not match its hash)" in line

    def test_a_damaged_bundle_is_retrained(self, home: Path, refused: Refused, cytoseg: Callable[..., Result]) -> None:
        path = home / "runs" / "tiny" / "interpreter" / "bundle" / "ensemble.safetensors"
        whole = path.read_bytes()
        path.write_bytes(whole[:-4])
        assert "ensemble.safetensors: damaged" in refused("evaluate", "tiny.yaml")
        again = cytoseg("train-interpreter", "tiny.yaml")
        assert again.exit_code == 0, again.output
        assert path.read_bytes() == whole

    @pytest.mark.slow
    def test_a_crop_that_is_of_another_slide_than_was_thought(self, home: Path, cytoseg: Callable[..., Result]) -> None:
        assert "up to date" in cytoseg("train-interpreter", "tiny.yaml").stdout
        index = home / "runs" / "tiny" / "labels" / "index.json"
        known = json.loads(index.read_text())
        next(crop for crop in known["crops"] if crop["slide"] == "made_2_02")["slide"] = "made_2_07"
        index.write_text(json.dumps(known))
        again = cytoseg("train-interpreter", "tiny.yaml")
        assert "Trained on" in again.stdout, again.output

    def test_a_diffusion_model_named_as_a_bundle(self, home: Path, refused: Refused) -> None:
        folder = "runs/tiny/ddpm/checkpoint-000000024"
        line = refused("predict", folder, SLIDE)
        assert f"{folder}: this is a training checkpoint, but segmentation needs a bundle. Run" in line


class TestRecipe:
    def test_a_single_class(self, home: Path, refused: Refused) -> None:
        text = (home / "tiny.yaml").read_text()
        lines = [line for line in text.splitlines() if "cytoplasm" not in line and "nucleus" not in line]
        (home / "tiny.yaml").write_text("\n".join(lines))
        line = refused("train-interpreter", "tiny.yaml")
        assert "tiny.yaml: classes: " in line
        assert "at least 2" in line

    def test_misspelt_key(self, home: Path, refused: Refused) -> None:
        (home / "tiny.yaml").write_text((home / "tiny.yaml").read_text().replace("crops: 24", "crop: 24"))
        told = refused("train-ddpm", "tiny.yaml", "folder=runs/new")
        assert "tiny.yaml: training.crop: unknown key (did you mean 'training.crops'?). Remove it or correct" in told
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
        assert "tinny.yaml: no such recipe. Give a YAML file, or one of ade_bedroom_30, " in line
        assert ", cervical, cytology-base, digits, dsb16, ffhq_34, " in line


class TestOrder:
    """Commands before their time, or after something else has changed."""

    def test_a_checkpoint_is_there_and_resume_was_not_asked_for(self, refused: Refused) -> None:
        line = refused("train-ddpm", "tiny.yaml")
        assert "runs/tiny/ddpm: already contains checkpoint-000000024. Add --resume to continue from it" in line

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
        assert "runs/new: no run here" in refused("report", "tiny.yaml", "folder=runs/new")

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
        for command in (("evaluate",), ("predict", SLIDE)):
            line = refused(command[0], "tiny.yaml", *command[1:])
            assert (
                "bundle was trained on the classes (background, cytoplasm, nucleus), the recipe has (background, cell"
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


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
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


@pytest.mark.parametrize("place", ["cytoseg.predict.outputs.write_pyramid", "cytoseg.predict.slide.MapSpool.write"])
def test_disk_full_in_predict(
    home: Path,
    part: str,
    cytoseg: Callable[..., Result],
    contents: Callable[[], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    line = ("predict", "tiny.yaml", part)
    before = contents()
    with monkeypatch.context() as full:
        full.setattr(place, no_space)
        result = cytoseg(*line)
    assert result.exit_code == 2, result.output
    (message,) = result.stderr.splitlines()
    assert "runs/tiny/predictions/part: cannot be written (No space left on device)" in message
    assert {path: text for path, text in contents().items() if ".part.part" not in path} == before
    again = cytoseg(*line)  # with room again
    assert again.exit_code == 0, again.output
    assert list((home / "runs" / "tiny" / "predictions").glob(".*")) == []


def test_a_folder_that_cannot_be_written(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path, _content: str) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("cytoseg.workflows.recorded_command.write_atomically", denied)
    line = refused("evaluate", "tiny.yaml")
    assert line == ("cytoseg: runs/tiny/recipe.yaml: Permission denied. Check the permissions of it and of its folder.")


@pytest.mark.parametrize(
    "arguments",
    [
        ("make-pairs", "--n", "1"),
        ("edit", "crop.png", "--map", "crop.png"),
        ("sample", "--maps", "."),
        ("sample", "--guide", "nucleus"),
        ("study robustness", "--quick"),
        ("evaluate",),
        ("anomaly", SLIDE),
    ],
)
def test_an_interpreter_of_another_pixel_size(refused: Refused, arguments: tuple[str, ...]) -> None:
    command, *options = arguments
    said = {"sample": " ".join(options)}.get(command, command)
    line = refused(*command.split(), "tiny.yaml", *options, "slides.mpp=1.0")
    assert line == (
        f"cytoseg: {said}: the interpreter was trained at slides.mpp 0.5, the recipe has 1.0. Train it again."
    )


def test_review_without_streamlit(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    line = refused("review", "tiny.yaml")
    assert line.endswith("the app needs Streamlit. Install it with `pip install 'cytoseg[app]'`.")


@pytest.mark.parametrize(
    ("line", "folder"),
    [
        ("train-interpreter tiny.yaml interpreter.steps=3 folder=mine", "interpreter/bundle"),
        ("evaluate tiny.yaml --no-baseline folder=mine", "evaluation"),
        ("predict tiny.yaml part.tif --out mine", "part"),
    ],
)
def test_a_folder_of_other_files_is_refused_and_kept(
    line: str, folder: str, home: Path, part: str, cytoseg: Callable[..., Result]
) -> None:
    """They were deleted without a word."""
    shutil.copytree(Path("runs", "tiny"), "mine")
    shutil.rmtree(Path("mine", folder), ignore_errors=True)
    Path("mine", folder).mkdir()
    Path("mine", folder, "thesis.txt").write_text("mine")
    result = cytoseg(*line.split())
    assert result.exit_code == 2, result.output
    assert f"mine/{folder}: holds other files, such as 'thesis.txt', which would be deleted" in result.stderr
    assert [(path.name, path.read_text()) for path in Path("mine", folder).iterdir()] == [("thesis.txt", "mine")]
