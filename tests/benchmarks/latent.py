"""Reconstruction quality of a latent space on synthetic slides at 2 micrometres per pixel, and its speed in sampling.

python -m tests.benchmarks.latent FOLDER > tests/benchmarks/results/latent_made.md

FOLDER stores the slides and the autoencoder; existing ones are kept, so the command can be interrupted.
"""

import subprocess
import sys
import time
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
folder: {folder}/run
slides: {{folders: [{folder}/made/slides], mpp: 2.0}}
crops: {{size_px: 32}}
space: {{kind: kl, factor: 2, dim: 16, crops: 160000, rate: 1e-3}}
diffusion: {{dim: 16, dim_mults: [1, 2, 4]}}
training: {{device: cpu, workers: 0, batch: 16, ema_decay: 0.995, rate_schedule: cosine, checkpoint_crops: 20000}}
classes:
  - {{name: background, colour: "#f0f0f0"}}
  - {{name: cytoplasm, colour: "#0072b2"}}
  - {{name: nucleus, colour: "#d55e00"}}
"""
SHAPE = SpaceShape("kl", 2, 16)
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
    recipe = folder / "latent.yaml"
    recipe.write_text(RECIPE.format(folder=folder), encoding="utf-8")
    _cytoseg("train-autoencoder", str(recipe), "--resume")
    print("# A latent space on synthetic slides\n")
    print("`python -m tests.benchmarks.latent FOLDER`; 2 micrometres per pixel, kl, factor 2, dim 16.\n")
    _print_pictures(folder)
    _print_seconds(folder)


def _cytoseg(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "cytoseg", *arguments], check=True, stdout=sys.stderr)


def _print_pictures(folder: Path) -> None:
    """Print the reconstruction error on slides that neither the autoencoder nor the bundle has seen."""
    space = _space(folder)
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
    rows = read_metrics(folder / "run" / "autoencoder" / "metrics.jsonl")
    print(f"| crops seen | last loss | PSNR, 2 unseen slides of {picture.shape[0]} px |\n| --- | --- | --- |")
    print(f"| {rows[-1]['crops_seen']} | {rows[-1]['loss']:.3f} | {' and '.join(f'{r:.1f}' for r in ratios)} dB |\n")
    print("| IoU of nuclei, MLPs on filters trained on originals | |\n| --- | --- |")
    print(f"| originals with the truth | {of_original:.3f} |\n| reconstructions with the truth | {of_seen:.3f} |")
    print(f"| ratio of the two | {of_seen / of_original:.3f} |\n| reconstructions with originals | {both:.3f} |\n")


def _print_seconds(folder: Path) -> None:
    """Print the time of sampling. It does not depend on the weights of the U-Net, which are random here."""
    print(
        f"| {SAMPLES} samples of {SAMPLE_PX} px, {STEPS} DDIM steps | seconds | of it decoding |\n| --- | --- | --- |"
    )
    for name, architecture in (
        ("pixels", Architecture(dim=16, dim_mults=(1, 2, 4))),
        ("latents", Architecture(dim=16, dim_mults=(1, 2, 4), space=SHAPE)),
    ):
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
        print(f"| {name} | {np.median(whole):.2f} | {np.median(decoding):.2f} |")


def _space(folder: Path) -> LatentSpace:
    unet = build_unet(Architecture(dim=8, dim_mults=(1, 2), space=SHAPE)).eval()
    load_space(unet, load_autoencoder(folder / "run" / "autoencoder", Architecture(space=SHAPE)))
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
