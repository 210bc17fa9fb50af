"""Effect of guidance by the run's interpreter on samples of synthetic slides, segmented by an independent classifier.

python -m tests.benchmarks.guidance RECIPE CLASS N SCALE... > tests/benchmarks/results/guidance_made.md

The run of RECIPE has a trained diffusion model, exact labels (tests.benchmarks.true_crops) and an interpreter. The
judge (tests.benchmarks.judge) is trained on other crops with exact labels and takes no part in sampling. Existing
samples are not drawn again, so the command can be interrupted.
"""

import contextlib
import json
import subprocess
import sys

import numpy as np
import torch
from torch import Tensor

from cytoseg.diffusion.sample_folder import ABOUT, sample_path
from cytoseg.evaluation.generative_features import feature_network, standardised
from cytoseg.evaluation.generative_scores import kernel_distance, precision_recall
from cytoseg.recipe import Recipe, load_recipe
from cytoseg.slides.crops import SlideCrops, augmentation
from cytoseg.workflows.drawn_samples import read_sample
from cytoseg.workflows.run_pictures import save_grid
from cytoseg.workflows.training_crops import tissue_crops
from tests.benchmarks.judge import train_judge

STEPS, MIN_PX = 20, 10
"""Samples with fewer pixels of the class do not count as containing it."""


def main() -> None:
    """Draw samples, segment them and print the table."""
    name, class_name, n, *scales = sys.argv[1:]
    recipe, count = load_recipe(name), int(n)
    sets = {"real crops": _real(recipe, 2**30 + 5000, count)}
    for scale in ("0", *scales):
        guided = ("--guide", class_name, "--scale", scale) if float(scale) else ()
        arguments = ("sample", name, "--n", n, "--steps", str(STEPS), *guided)
        subprocess.run([sys.executable, "-m", "cytoseg", *arguments], check=False, stdout=sys.stderr)
        sets[f"scale {scale}" if guided else "not guided"] = _drawn(recipe, float(scale), count)
    judge, class_id = train_judge(recipe, "forest", per_slide=4), recipe.class_list().names.index(class_name)
    real = _real(recipe, 2**30, count)
    print(f"# Samples guided to {class_name}\n")
    print(
        f"`python -m tests.benchmarks.guidance RECIPE {' '.join(sys.argv[2:])}`: DDIM of {STEPS} steps, the same noise"
    )
    print(
        f"for each scale. A sample holds the class if the judge (a random forest) sees {MIN_PX} px of it or more; the"
    )
    print("second number is the standard error. Scores against real crops: image filters.\n")
    print("| | samples | hold it | share of pixels | precision | recall | KID |\n|---|---|---|---|---|---|---|")
    for title, pictures in sets.items():
        print(
            f"| {title} | {len(pictures)} | {_judged(pictures, judge, class_id)} | {_scores(pictures, real)} |",
            flush=True,
        )
    folder = recipe.run_folder()
    for title, pictures in sets.items():
        save_grid(folder / f"guidance_{title.replace(' ', '_')}.png", pictures[:32], columns=8)


def _real(recipe: Recipe, first: int, count: int) -> Tensor:
    with contextlib.closing(tissue_crops(recipe)) as crop:
        crops = SlideCrops([crop, *augmentation(recipe.crops)], seed=0, first=first, last=first + count)
        return torch.stack([crops[i] for i in range(count)])


def _drawn(recipe: Recipe, scale: float, count: int) -> Tensor:
    """Read the valid samples of a scale."""
    for about in (recipe.run_folder() / "samples").glob(f"**/{ABOUT}"):
        origin = json.loads(about.read_text(encoding="utf-8"))
        if (origin.get("scale", 0.0), origin["steps"]) == (scale, STEPS):
            paths = [sample_path(about.parent, number) for number in range(count)]
            return torch.stack([read_sample(path) for path in paths if path.exists()])
    raise SystemExit(f"no samples of scale {scale}")


def _judged(pictures: Tensor, judge: object, class_id: int) -> str:
    pixels = ((pictures + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    seen = np.array([(judge(picture) == class_id).sum() for picture in pixels])  # type: ignore[operator] # a method's own
    holds, share = seen >= MIN_PX, seen / pixels[0, :, :, 0].size
    error = (holds.mean() * (1 - holds.mean()) / len(holds)) ** 0.5
    return f"{holds.mean():.2f} (+- {error:.2f}) | {share.mean():.3f} (+- {share.std() / len(share) ** 0.5:.3f})"


def _scores(made: Tensor, real: Tensor) -> str:
    network = feature_network("filters", channels=3)
    by = network.features(real)
    scaled, others = standardised(network.features(made), by)[0], standardised(by, by)[0]
    precision, recall = precision_recall(scaled, others)
    return f"{precision:.2f} | {recall:.2f} | {kernel_distance(scaled, others, seed=0):.2f}"


if __name__ == "__main__":
    main()
