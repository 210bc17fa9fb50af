"""Reconstruction quality of latent spaces on synthetic slides at 2 micrometres per pixel, and their speed in sampling.

    python -m tests.benchmarks.latent FOLDER KIND:FACTOR:CROPS [KIND:FACTOR:CROPS ...]

For example ``kl:2:160000 vq:4:160000``. Prints one row for each space. FOLDER stores the slides and the autoencoders;
existing ones are kept, so the command can be interrupted.
"""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from torch import Tensor

import cytoseg as cs
from cytoseg.diffusion.add_noise import alpha_bar
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.sample import ddim, starting_noise
from cytoseg.diffusion.space import LatentSpace, decoded, load_space, space_of
from cytoseg.diffusion.space_settings import SpaceShape
from cytoseg.diffusion.state import load_autoencoder
from cytoseg.diffusion.unet import build_unet
from cytoseg.features.extract import to_input
from cytoseg.geometry import Size
from cytoseg.runs import read_metrics
from cytoseg.workflows.autoencoder import peak_ratio_db, reconstructed

CLASSES = ("background", "cytoplasm", "nucleus")
NUCLEUS = CLASSES.index("nucleus")
RECIPE = """\
name: latent
folder: {run}
slides: {{folders: [{folder}/made/slides], mpp: 2.0}}
crops: {{size_px: 32}}
space: {{kind: {kind}, factor: {factor}, dim: 16, crops: {crops}, rate: 1e-3}}
diffusion: {{dim: 16, dim_mults: [1, 2, 4]}}
training: {{device: cpu, workers: 0, batch: 16, ema_decay: 0.995, rate_schedule: cosine, checkpoint_crops: 20000}}
classes:
  - {{name: background, colour: "#f0f0f0"}}
  - {{name: cytoplasm, colour: "#0072b2"}}
  - {{name: nucleus, colour: "#d55e00"}}
"""
DIM = 16
SAMPLE_PX, SAMPLES, STEPS = 64, 8, 20


def main() -> None:
    """Print the tables."""
    folder = Path(sys.argv[1])
    if not (folder / "made").exists():
        size = ("--width", "640", "--height", "640", "--mpp", "2", "--crops", "4", "--crop-px", "64")
        _cytoseg("slides", "generate", str(folder / "made"), "--n", "6", *size)
        (folder / "made" / "held").mkdir()
        for path in (folder / "made" / "slides").glob("made_0_0[45]*"):
            path.rename(folder / "made" / "held" / path.name)
    print(
        "| space | crops seen | training, CPU s | PSNR, 2 unseen slides, dB | nuclei of originals with the truth "
        "| of reconstructions | ratio | reconstructions with originals |\n" + "| --- " * 8 + "|"
    )
    shapes = []
    for text in sys.argv[2:]:
        kind, factor, crops = text.split(":")
        shapes.append(SpaceShape("vq" if kind == "vq" else "kl", int(factor), DIM))
        run = folder / f"run_{kind}{factor}_{crops}"
        recipe = folder / f"{run.name}.yaml"
        texts = {"folder": folder, "run": run, "kind": kind, "factor": factor, "crops": crops}
        recipe.write_text(RECIPE.format(**texts), encoding="utf-8")
        begin = _children_s()
        _cytoseg("train-autoencoder", str(recipe), "--resume")
        _print_pictures(folder, run, shapes[-1], _children_s() - begin)
    _print_seconds(shapes)


def _children_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _cytoseg(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "cytoseg", *arguments], check=True, stdout=sys.stderr)


def _print_pictures(folder: Path, run: Path, shape: SpaceShape, trained_s: float) -> None:
    """Print the reconstruction error on slides that neither the autoencoder nor the bundle has seen."""
    space = _space(run, shape)
    labels = cs.read_labels(folder / "made" / "labelled", list(CLASSES), fill="background")
    own = [i for i, group in enumerate(labels.groups) if str(group) < "made_0_04"]
    images, maps = [labels.images[i] for i in own], [labels.label_maps[i] for i in own]
    bundle = cs.PixelClassifier(labels.classes, extractors=("filters",)).fit(images, maps).bundle_
    ratios, counts = [], np.zeros((3, 2))
    for path in sorted((folder / "made" / "held").glob("made_0_0?.ome.tif")):
        with cs.open_slide(path) as slide:
            picture = slide.read((0, 0, *_sides(slide.size)))
        truth = tifffile.imread(path.with_name(path.name.replace(".ome", ".labels.ome")), level=0) == NUCLEUS
        x, seen = reconstructed(space, to_input(picture[None]))
        ratios.append(peak_ratio_db(x, seen))
        before, after = (bundle.predict(p).class_map == NUCLEUS for p in (picture, _pixels(seen)))
        counts += [_overlap(before, truth), _overlap(after, truth), _overlap(after, before)]
    of_original, of_seen, both = counts[:, 0] / counts[:, 1]
    crops = read_metrics(run / "autoencoder" / "metrics.jsonl")[-1]["crops_seen"]
    decibels = ", ".join(f"{ratio:.1f}" for ratio in ratios)
    ious = f"{of_original:.3f} | {of_seen:.3f} | {of_seen / of_original:.3f} | {both:.3f}"
    print(f"| {shape.kind}, factor {shape.factor} | {crops} | {trained_s:.0f} | {decibels} | {ious} |", flush=True)


def _print_seconds(shapes: list[SpaceShape]) -> None:
    """Print the time of sampling. It does not depend on the weights of the U-Net, which are random here."""
    print(
        f"\n| {SAMPLES} samples of {SAMPLE_PX} px, {STEPS} DDIM steps | seconds | of it decoding |\n| --- | --- | --- |"
    )
    pixels = Architecture(dim=DIM, dim_mults=(1, 2, 4))
    for architecture in (pixels, *(replace(pixels, space=shape) for shape in shapes)):
        unet = build_unet(architecture).eval()
        space = space_of(unet)
        noise = starting_noise(0, SAMPLES, size_px=SAMPLE_PX // space.factor, channels=space.channels)
        whole, decoding = [], []
        for _ in range(3):
            begin = time.process_time()
            bars = alpha_bar(architecture.schedule, architecture.timesteps)
            values = ddim(unet, noise, alpha_bars=bars, objective="pred_v", steps=STEPS, limit=space.limit)
            drawn = time.process_time()
            decoded(space, values)
            whole.append(time.process_time() - begin)
            decoding.append(time.process_time() - drawn)
        shape = architecture.space
        name = f"{shape.kind}, factor {shape.factor}" if shape.kind != "pixel" else "pixels"
        print(f"| {name} | {np.median(whole):.2f} | {np.median(decoding):.2f} |")


def _space(run: Path, shape: SpaceShape) -> LatentSpace:
    unet = build_unet(Architecture(dim=8, dim_mults=(1, 2), space=shape)).eval()
    load_space(unet, load_autoencoder(run / "autoencoder", Architecture(space=shape)))
    space = unet.space
    assert isinstance(space, LatentSpace)
    return space


def _sides(size: Size) -> tuple[int, int]:
    return size.width, size.height


def _pixels(seen: Tensor) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = ((seen[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    return pixels


def _overlap(found: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> tuple[int, int]:
    return int((found & wanted).sum()), int((found | wanted).sum())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
