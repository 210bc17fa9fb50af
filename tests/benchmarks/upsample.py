"""A model that enlarges images of synthetic slides by a factor of two, compared with bicubic interpolation.

python -m tests.benchmarks.upsample FOLDER CROPS SEED... > tests/benchmarks/results/upsample_made.md

FOLDER stores slides, runs and images; existing ones are kept, so the command can be interrupted. CROPS is the length of
each training; there is one training per SEED.
"""

import contextlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cytoseg.diffusion.sample_folder import sample_path
from cytoseg.evaluation.generative_features import feature_network, standardised
from cytoseg.evaluation.generative_scores import frechet_distance, kernel_distance
from cytoseg.recipe import load_recipe
from cytoseg.slides.crops import SlideCrops, augmentation
from cytoseg.workflows.drawn_samples import read_sample
from cytoseg.workflows.run_pictures import save_grid
from cytoseg.workflows.training_crops import tissue_crops

RECIPE = """\
name: large
slides: {{folders: [{folder}/made/slides], mpp: 1.0}}
crops: {{size_px: 64}}
diffusion:
  {{backbone: adm, adm: {{blocks: 1, attention: []}}, dim: 16, dim_mults: [1, 2, 2], objective: pred_v,
    schedule: cosine, upsample: 2}}
training:
  {{crops: {crops}, batch: 8, rate: 2e-3, rate_schedule: cosine, warmup_crops: 200, ema_decay: 0.99, precision: bf16,
    workers: 0, samples: 0, checkpoint_crops: 400, keep_every: 0, device: cpu}}
classes:
  - {{name: background, colour: "#f0f0f0"}}
  - {{name: cytoplasm, colour: "#0072b2"}}
  - {{name: nucleus, colour: "#d55e00"}}
features: {{taps: all}}
"""
SLIDES = {"made": ("16", "41"), "held": ("6", "43")}
COUNT, STEPS, REFERENCES = 64, 20, 3
CUT = 2**30
"""Number of the first crop that `sample --small crops` downsamples."""


def main() -> None:
    """Train, enlarge and print the table."""
    folder, crops, seeds = Path(sys.argv[1]), int(sys.argv[2]), list(map(int, sys.argv[3:]))
    size = ("--width", "3072", "--height", "3072")
    for name, (n, seed) in SLIDES.items():
        if not (folder / name).exists():
            _cytoseg("slides", "generate", str(folder / name), "--n", n, *size, "--seed", seed)
    recipe = folder / "large.yaml"
    recipe.write_text(RECIPE.format(folder=folder, crops=crops), encoding="utf-8")
    held = f"slides.folders=[{folder}/held/slides]"
    for seed in seeds:
        run = f"folder={folder}/run{seed}"
        _cytoseg("train-ddpm", str(recipe), run, f"training.seed={seed}", "--resume")
        steps = ("--n", str(COUNT), "--steps", str(STEPS))
        _cytoseg("sample", str(recipe), run, held, f"training.seed={seed}", "--small", "crops", *steps)
    sets = {seed: _pictures(folder / f"run{seed}" / "samples") for seed in seeds}
    small = _pictures(folder / f"run{seeds[0]}" / "samples" / "small")
    references = [_real(recipe, held, (i + 1) * 1000) for i in range(REFERENCES)]
    print(
        f"# Enlarging synthetic slides by a factor of two\n\n`python -m tests.benchmarks.upsample "
        f"FOLDER {' '.join(sys.argv[2:])}`:"
    )
    rows = _rows(small, sets, _real(recipe, held, 0))
    _report(rows, references, crops)
    shown = [pictures[0] for name, pictures in rows if name != "bilinear"]
    save_grid(folder / "upsample.png", torch.stack(shown, dim=1)[:16].flatten(0, 1), columns=4 * len(shown))


def _cytoseg(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "cytoseg", *arguments], check=True, stdout=sys.stderr)


def _real(recipe: Path, held: str, first: int) -> Tensor:
    """Cut crops from the held-out slides; those from number 0 on are downsampled and enlarged."""
    loaded = load_recipe(str(recipe), [held])
    with contextlib.closing(tissue_crops(loaded)) as crop:
        crops = SlideCrops([crop, *augmentation(loaded.crops)], seed=0, first=CUT + first, last=CUT + first + COUNT)
        return torch.stack([crops[i] for i in range(COUNT)])


def _rows(small: Tensor, drawn: Mapping[int, Tensor], originals: Tensor) -> list[tuple[str, list[Tensor]]]:
    rows = [
        (mode, [functional.interpolate(small, scale_factor=2, mode=mode).clamp(-1, 1)])
        for mode in ("bilinear", "bicubic")
    ]
    rows += [(f"model, seed {seed}", [pictures]) for seed, pictures in drawn.items()]
    if len(drawn) > 1:
        rows.append(("model, all seeds", list(drawn.values())))
    return [*rows, ("the real crops themselves", [originals])]


def _report(rows: Sequence[tuple[str, list[Tensor]]], references: Sequence[Tensor], crops: int) -> None:
    originals = rows[-1][1][0]
    print(f"{COUNT} crops of six held-out slides, downsampled to 32 px at 2 micrometres a pixel and enlarged to 64 px;")
    print(f"the model by DDIM of {STEPS} steps after {crops:,} crops. KID and FID (features `filters`) against")
    print(f"{REFERENCES} x {COUNT} other crops of these slides, mean (+- standard deviation).\n")
    print("| | KID | FID | mean squared error | PSNR, dB |\n|---|---|---|---|---|")
    for name, sets in rows:
        scores = np.array([_scores(pictures, real) for pictures in sets for real in references])
        error = float(np.mean([float((pictures - originals).square().mean()) for pictures in sets]))
        ratio = f"{10 * np.log10(4 / error):.1f}" if error else "-"
        cells = (f"{mean:.3f} (+- {spread:.3f})" for mean, spread in zip(scores.mean(0), scores.std(0), strict=True))
        print(f"| {name} | {' | '.join(cells)} | {error:.4f} | {ratio} |", flush=True)


def _pictures(folder: Path) -> Tensor:
    return torch.stack([read_sample(sample_path(folder, number)) for number in range(COUNT)])


def _scores(made: Tensor, real: Tensor) -> tuple[float, float]:
    network = feature_network("filters", channels=3)
    by = network.features(real)
    scaled, others = standardised(network.features(made), by), standardised(by, by)
    return kernel_distance(scaled[0], others[0], seed=0), frechet_distance(scaled[0], others[0])


if __name__ == "__main__":
    main()
