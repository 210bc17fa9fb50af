"""``cytoseg score-samples``: scores of samples against real crops."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import matplotlib
import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor

from cytoseg.errors import CytosegError
from cytoseg.evaluation.generative import check_counts, count_copies, score
from cytoseg.evaluation.generative_features import FeatureNetwork, feature_network, standardised
from cytoseg.recipe import Recipe
from cytoseg.slides.crops import RandSlideCropd, SlideCrops, augmentation
from cytoseg.slides.tissue_sources import SlideSource
from cytoseg.workflows.recipe_slides import tissue_sources
from cytoseg.workflows.recorded_command import Overrides, RecipeArgument, say, start_run
from cytoseg.writing import atomic_path, write_atomically

matplotlib.use("Agg")
import matplotlib.pyplot as plt

METRICS = ("fid", "sfid", "kid", "precision", "recall", "copies")
_TITLES = ("FID", "sFID", "KID", "precision", "recall", "copies")


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    samples: Annotated[
        Path | None, typer.Option("--samples", help="Folder of samples; default the run folder's samples/.")
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option("--held-out", help="Folder of slides not used for training; default the recipe's slides."),
    ] = None,
    features: Annotated[
        Literal["filters", "lite0"],
        typer.Option("--features", help="filters needs no weights; lite0 needs the extra pretrained."),
    ] = "filters",
    draws: Annotated[int, typer.Option("--draws", min=1, max=100, help="Number of sets of real crops.")] = 3,
) -> None:
    """Score samples against real crops: FID, sFID, KID, precision, recall, and copies of training crops.

    Each score comes with its floor, the score of equally many real crops of other slides. Scores of different feature
    networks are not comparable. Writes scores.json, scores.md and scores.png beside the samples.
    """
    with start_run(recipe, overrides, command="score-samples") as current:
        folder = samples or current.folder / "samples"
        made = read_samples(folder, size_px=current.recipe.crops.size_px)
        check_counts(len(made), len(made))
        found = _compare(made, current.recipe, held_out, feature_network(features), draws=draws)
        _write(folder, found)
        current.entry.update(folder=str(folder), fid=found["samples"]["fid"][0], kid=found["samples"]["kid"][0])
        say(f"{_sentence(found)} See {folder / 'scores.md'}.")


def read_samples(folder: Path, *, size_px: int) -> Tensor:
    """Read the samples of a folder.

    Args:
        folder: Folder with ``sample_*.png``.
        size_px: Required side.

    Returns:
        (N, 3, size, size) float32 in [-1, 1].

    Raises:
        CytosegError: If there are none, or one is damaged or of another size.
    """
    paths = sorted(folder.glob("sample_*.png"))
    if not paths:
        raise CytosegError(f"{folder}: holds no samples. Draw some first (cytoseg sample), or name their folder.")
    return torch.stack([_read(path, size_px) for path in paths])


def _read(path: Path, size_px: int) -> Tensor:
    try:
        with Image.open(path) as picture:
            pixels = np.array(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise CytosegError(f"{path}: damaged ({error}). Remove it and draw it again.") from error
    if pixels.shape[:2] != (size_px, size_px):
        raise CytosegError(
            f"{path}: is {pixels.shape[1]}x{pixels.shape[0]} px, but crops.size_px is {size_px}. "
            "Score samples of this recipe."
        )
    return torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1.0


def _compare(
    made: Tensor, recipe: Recipe, held_out: Path | None, network: FeatureNetwork, *, draws: int
) -> dict[str, Any]:
    """Score the samples, and real crops of other slides as the floor, against several sets of real crops."""
    trained_on = tissue_sources(recipe).sources
    real_slides = trained_on if held_out is None else tissue_sources(_with_slides(recipe, held_out)).sources
    if len(real_slides) < 2:
        raise CytosegError(
            f"score-samples: {len(real_slides)} slide of real crops; the floor compares crops of different slides. "
            "Name a folder of at least two with --held-out."
        )
    count = len(made)
    made_features, trained = network.features(made), network.features(_crops(recipe, trained_on, 0, count))
    rows: dict[str, list[dict[str, float]]] = {"samples": [], "floor": []}
    for draw in range(draws):
        first = (draw + 1) * count
        real = network.features(_crops(recipe, real_slides[::2], first, count))
        other = network.features(_crops(recipe, real_slides[1::2], first, count))
        known = standardised(trained, real)[0]
        for name, features in (("samples", made_features), ("floor", other)):
            scaled = standardised(features, real)
            scores = asdict(score(scaled, standardised(real, real), seed=draw))
            rows[name].append({**scores, "copies": count_copies(scaled[0], known)})
    summaries = {name: _summary(several) for name, several in rows.items()}
    named = {"name": network.name, "hash": network.hash}
    seen = "held-out slides" if held_out else "slides that the model was trained on"
    return {"format": 1, "count": count, "draws": draws, "network": named, "real": seen, **summaries}


def _with_slides(recipe: Recipe, folder: Path) -> Recipe:
    slides = replace(recipe.slides, folders=(folder,), include=("**/*",), exclude=())
    return recipe.model_copy(update={"slides": slides})


def _crops(recipe: Recipe, sources: Sequence[SlideSource], first: int, count: int) -> Tensor:
    """Cut crops as in training: crop i is a function of (seed, i)."""
    steps = augmentation(recipe.crops)
    with _opened(recipe, sources) as crop:
        crops = SlideCrops([crop, *steps], seed=recipe.training.seed, first=first, last=first + count)
        return torch.stack([crops[i] for i in range(count)])


@contextlib.contextmanager
def _opened(recipe: Recipe, sources: Sequence[SlideSource]) -> Iterator[RandSlideCropd]:
    with contextlib.closing(RandSlideCropd(["image"], sources=sources, size_px=recipe.crops.size_px)) as crop:
        yield crop


def _summary(rows: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation of each metric over the draws."""
    columns = {name: np.array([row[name] for row in rows], float) for name in METRICS}
    return {name: (float(values.mean()), float(values.std())) for name, values in columns.items()}


def _sentence(found: Mapping[str, Any]) -> str:
    made, floor = found["samples"], found["floor"]
    return (
        f"{found['count']} samples: FID {made['fid'][0]:.1f} (real crops {floor['fid'][0]:.1f}), "
        f"KID {made['kid'][0]:.2f} ({floor['kid'][0]:.2f}), {made['copies'][0]:.0f} copies of training crops."
    )


def _write(folder: Path, found: Mapping[str, Any]) -> None:
    write_atomically(folder / "scores.json", json.dumps(found, indent=1))
    write_atomically(folder / "scores.md", markdown(found))
    figure, panels = plt.subplots(1, len(METRICS), figsize=(12, 3), layout="constrained")
    for panel, metric, title in zip(panels, METRICS, _TITLES, strict=True):
        pairs = [found[name][metric] for name in ("samples", "floor")]
        panel.bar(("samples", "real"), [p[0] for p in pairs], yerr=[p[1] for p in pairs], color=("#d55e00", "#999999"))
        panel.set_title(title)
    with atomic_path(folder / "scores.png") as temporary:
        figure.savefig(temporary, dpi=100)
    plt.close(figure)


def markdown(found: Mapping[str, Any]) -> str:
    """Write the scores as a table.

    Args:
        found: Content of scores.json.
    """
    network = found["network"]
    rows = [
        f"| {title} | {_cell(found['samples'][metric])} | {_cell(found['floor'][metric])} |"
        for metric, title in zip(METRICS, _TITLES, strict=True)
    ]
    lines = [
        f"# Scores of {found['count']} samples\n",
        f"Against as many crops of {found['real']}, {found['draws']} draws (mean +- standard deviation). Features: "
        f"{network['name']} ({network['hash']}), standardised by the real crops. The floor is what as many real crops "
        "of other slides score.\n",
        "| | samples | floor |\n|---|---|---|",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def _cell(pair: Sequence[float]) -> str:
    return f"{pair[0]:.3f} +- {pair[1]:.3f}"
