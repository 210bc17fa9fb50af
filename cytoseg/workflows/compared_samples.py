"""Comparing samples with real crops, and writing their scores."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cytoseg.errors import CytosegError
from cytoseg.evaluation.generative_features import Both, FeatureNetwork
from cytoseg.evaluation.generative_scores import inception_score, score
from cytoseg.evaluation.sample_scores import HEAD, SCORES, SCORES_FILE, TITLES, NamedNetwork, SampleScores
from cytoseg.locks import locked
from cytoseg.recipe import Recipe
from cytoseg.slides.tissue_sources import SlideSource
from cytoseg.terminal import progress
from cytoseg.workflows.copy_search import search_copies_of
from cytoseg.workflows.recipe_slides import tissue_sources
from cytoseg.workflows.training_crops import crops_of, cut_crops
from cytoseg.writing import atomic_path, write_atomically

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_WAIT_S = 30.0
"""Seconds to wait for another command that is writing the scores of the same samples."""


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
        if not path.is_file():  # opening a pipe would block
            raise OSError("no file")
        with Image.open(path) as picture:
            width, height = picture.size
            # Another size is refused before it is decoded.
            pixels = np.array(picture.convert("RGB")) if width == height == size_px else None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CytosegError(f"{path}: damaged ({error}). Remove it and draw it again.") from error
    if pixels is None:
        raise CytosegError(
            f"{path}: is {width}x{height} px, but crops.size_px is {size_px}. Score samples of this recipe."
        )
    return torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1.0


def compare_samples(
    samples: Tensor, recipe: Recipe, held_out: Path | None, network: FeatureNetwork, *, draws: int, folder: Path
) -> SampleScores:
    """Score samples, and real crops of other slides as the floor, against several sets of real crops.

    Args:
        samples: (N, C, size, size) in [-1, 1].
        recipe: The recipe of their model.
        held_out: Folder of slides to cut the real crops from; None for the slides of the training.
        network: The feature network.
        draws: Number of sets of real crops.
        folder: The run folder, whose checkpoint tells which crops the model has seen.

    Raises:
        SlideError: If slides are missing or damaged.
        CytosegError: If there is only one slide of real crops.
    """
    trained_on = tissue_sources(recipe).sources
    real_slides = trained_on if held_out is None else tissue_sources(_with_slides(recipe, held_out)).sources
    if len(real_slides) < 2:
        raise CytosegError(
            f"score-samples: {len(real_slides)} slide of real crops; the floor compares crops of different slides. "
            "Name a folder of at least two with --held-out."
        )
    count = len(samples)
    known = search_copies_of(recipe, trained_on, folder)
    rows: dict[str, list[dict[str, float]]] = {"samples": [], "floor": []}
    with progress(f"sets of {count} crops", 1 + 2 * draws) as bar:
        described, copies = network.describe(samples), known.copies(samples)
        for draw in range(draws):
            bar.update(1 + 2 * draw)
            first = known.seen + draw * count
            real = network.features(_crops(recipe, real_slides[::2], first, count))
            rows["samples"].append({**_scores(network, described, real, seed=draw), "copies": copies})
            bar.update(2 + 2 * draw)
            other = _crops(recipe, real_slides[1::2], first, count)
            scores = _scores(network, network.describe(other), real, seed=draw)
            rows["floor"].append({**scores, "copies": known.copies(other)})
        bar.update(1 + 2 * draws)
    return SampleScores(
        count,
        draws,
        NamedNetwork(network.name, network.hash),
        "held-out slides" if held_out else "slides that the model was trained on",
        _summary(rows["samples"]),
        _summary(rows["floor"]),
        searched=known.searched,
        seen=known.seen,
    )


def _scores(
    network: FeatureNetwork, described: tuple[Both, NDArray[np.float64] | None], real: Both, *, seed: int
) -> dict[str, float]:
    features, classes = described
    scores = asdict(score(network.scaled(features, real), network.scaled(real, real), seed=seed))
    return scores if classes is None else {**scores, "inception": inception_score(classes)}


def _with_slides(recipe: Recipe, folder: Path) -> Recipe:
    slides = replace(recipe.slides, folders=(folder,), include=("**/*",), exclude=())
    return recipe.model_copy(update={"slides": slides})


def _crops(recipe: Recipe, sources: Sequence[SlideSource], first: int, count: int) -> Tensor:
    with crops_of(recipe, sources) as crop:
        return cut_crops(recipe, crop, first=first, count=count)


def _summary(rows: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation of each score over the draws."""
    columns = {name: np.array([row[name] for row in rows], float) for name in TITLES if name in rows[0]}
    return {name: (float(values.mean()), float(values.std())) for name, values in columns.items()}


def write_sample_scores(folder: Path, found: SampleScores) -> None:
    """Write scores.json, scores.md and scores.png into the folder of the samples.

    Raises:
        CytosegError: If another command is writing them.
    """
    figure, panels = plt.subplots(1, len(found.samples), figsize=(12, 3), layout="constrained")
    for panel, metric in zip(panels, found.samples, strict=True):
        pairs = [scores[metric] for scores in (found.samples, found.floor)]
        panel.bar(("samples", "real"), [p[0] for p in pairs], yerr=[p[1] for p in pairs], color=("#d55e00", "#999999"))
        panel.set_title(TITLES[metric])
    # Of two concurrent commands, all three files come from one.
    with locked(folder / SCORES_FILE, wait_s=_WAIT_S, error=CytosegError):
        write_atomically(folder / SCORES_FILE, json.dumps(SCORES.content_of(found), indent=1))
        write_atomically(folder / "scores.md", _markdown(found))
        with atomic_path(folder / "scores.png") as temporary:
            figure.savefig(temporary, dpi=100)
    plt.close(figure)


def _markdown(found: SampleScores) -> str:
    """Write the scores as a table."""
    rows = [f"| {' | '.join(row)} |" for row in found.rows()]
    head = [f"| {' | '.join(HEAD)} |".replace("|  |", "| |"), "|---" * len(HEAD) + "|"]
    title = f"# Scores of {found.count} samples"
    return "\n".join([title, "", found.sentence(), "", *head, *rows, ""])
