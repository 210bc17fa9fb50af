"""The published sets of diffusion features, in their own layout, with a small network in guided-diffusion's."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

from cytoseg.diffusion.adm import AdmShape, AdmUnet
from cytoseg.diffusion.adm_settings import AdmSettings
from cytoseg.labels.index import load_index

SMALL = (
    "diffusion.dim=8",
    "diffusion.dim_mults=[1, 2]",
    "diffusion.adm.blocks=6",
    "diffusion.adm.attention=[]",
    "interpreter.members=2",
    "crops.size_px=32",
)
TRAINED = (
    "training.crops=4",
    "training.batch=2",
    "training.samples=0",
    "training.workers=0",
    "diffusion.dim=8",
    "diffusion.dim_mults=[1, 2]",
    "diffusion.timesteps=30",
    "diffusion.adm.attention=[]",
    "crops.size_px=16",
    "features.timesteps=[1, 5]",
)


def _write_set(folder: Path, ids: tuple[int, ...]) -> None:
    """Write two images to train on and one to test on, 20 px wide, with as many pixels of each id."""
    rng = np.random.default_rng(0)
    for place, suffix, dtype in (("train/a", "jpg", "i8"), ("train/b", "png", "u1"), ("test/a", "png", "<u2")):
        path = folder / f"{place}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(path)
        np.save(path.with_suffix(".npy"), np.resize(np.array(ids), (20, 20)).astype(dtype))


@pytest.mark.slow
def test_a_set_is_imported_trained_on_and_scored(
    cytoseg: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shape = AdmShape(8, (1, 2), 6, AdmSettings(blocks=6, attention=()))
    torch.save(AdmUnet(shape).state_dict(), "lsun_bedroom.pt")
    _write_set(Path("datasets/bedroom_28/real"), (0, 1, 17, 28))
    for line in (
        ("import-model", "lsun_bedroom.pt", "data/lsun_bedroom"),
        ("label-import", "datasets/bedroom_28", "-r", "bedroom_28", "--resize", "16", "--ignore", "background", *SMALL),
        ("train-interpreter", "bedroom_28", *SMALL),
        ("evaluate", "bedroom_28", *SMALL),
    ):
        result = cytoseg(*line)
        assert result.exit_code == 0, result.output
    index = load_index(Path("runs/bedroom_28/labels"))
    assert [crop.crop for crop in index.crops] == ["test_a", "train_a", "train_b"]
    assert all(crop.slide == crop.crop for crop in index.crops)
    for crop in index.crops:
        assert crop.label_map().shape == (16, 16)
        assert np.unique(crop.label_map()).tolist() == [1, 17, 28, 255]


@pytest.mark.slow
def test_voc_is_trained_on_in_its_own_layout(
    cytoseg: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root, rng = Path("data/VOCdevkit/VOC2012"), np.random.default_rng(0)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for stem, size in (("a", (40, 30)), ("b", (30, 40)), ("unmarked", (36, 36))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(root / "JPEGImages" / f"{stem}.jpg")
        if stem != "unmarked":
            Image.fromarray(np.resize(np.array([0, 1, 20, 255], np.uint8), size)).save(
                root / "SegmentationClass" / f"{stem}.png"
            )
    (root / "ImageSets/Segmentation/train.txt").write_text("a\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("b\n")
    small = (*TRAINED, "interpreter.members=2")
    for line in (
        ("train-ddpm", "voc", *small),
        ("label-import", str(root), "-r", "voc", *small),
        ("train-interpreter", "voc", *small),
        ("evaluate", "voc", "--no-baseline", *small),
    ):
        result = cytoseg(*line)
        assert result.exit_code == 0, result.output
    index = load_index(Path("runs/voc/labels"))
    assert [(crop.crop, crop.label_map().shape) for crop in index.crops] == [("train_a", (40, 30)), ("val_b", (30, 40))]
    assert json.loads(Path("runs/voc/evaluation/evaluation.json").read_text())["crops"][0]["crop"] == "val_b"


@pytest.mark.slow
def test_tiny_imagenet_is_trained_on_in_its_own_layout(
    cytoseg: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, shape in (("n01443537", (64, 64, 3)), ("n01629819", (64, 64))):  # some are grey
        folder = Path("data/tiny-imagenet-200/train") / name / "images"
        folder.mkdir(parents=True)
        for i in range(2):
            Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / f"{name}_{i}.JPEG")
    assert "Slides: 4 found" in cytoseg("recipe", "check", "tiny_imagenet", *TRAINED).stdout
    result = cytoseg("train-ddpm", "tiny_imagenet", *TRAINED)
    assert result.exit_code == 0, result.output
    assert "Trained on 4 crops" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--resize", "16"), "train/wide.npy: the image is 20x16, not square. Crop it, or omit --resize."),
        ((), "train/wide.npy: ids 99 (320 px) are not in the class list"),
    ],
)
def test_what_does_not_fit_is_refused(
    cytoseg: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    _write_set(Path("real"), (0, 1, 14))
    Image.new("RGB", (20, 16)).save("real/train/wide.png")
    np.save("real/train/wide.npy", np.full((16, 20), 99))
    result = cytoseg("label-import", "real", "--recipe", "cat_15", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not Path("runs/cat_15/labels/index.json").exists()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--resize", "32"), "--resize: only resizes images with masks or .npy files beside them. Omit it."),
        (("--ignore-below", "2"), "--ignore-below: only applies to masks and .npy files beside images. Omit it."),
    ],
)
def test_options_for_masks_are_refused_for_shapes(
    cytoseg: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: tuple[str, str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    result = cytoseg("label-import", "one.geojson", "--recipe", "cat_15", *option)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert said in result.stderr


def test_a_class_of_few_pixels_is_ignored_in_that_image(
    cytoseg: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _write_set(Path("real"), (0, 1, 14))
    ids = np.zeros((40, 40), np.uint8)
    ids[:2, :10], ids[10:12, :10], ids[11, 11] = 3, 4, 4  # after resizing by half 5 px and 6 px
    Image.new("RGB", (40, 40)).save("real/train/few.png")
    np.save("real/train/few.npy", ids)
    result = cytoseg("label-import", "real", "-r", "cat_15", "--resize", "20", "--ignore-below", "6")
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "Classes ignored in masks with fewer than 6 of their pixels (--ignore-below): chest in 1." in said
    label_map = next(c for c in load_index(Path("runs/cat_15/labels")).crops if c.crop == "train_few").label_map()
    assert [int((label_map == i).sum()) for i in (0, 3, 4, 255)] == [389, 0, 6, 5]
