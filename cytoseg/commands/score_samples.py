"""``cytoseg score-samples``: scores of samples against real crops."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal

import matplotlib
import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cytoseg.diffusion.channels import as_channels
from cytoseg.errors import CytosegError
from cytoseg.evaluation.generative_features import Both, FeatureNetwork, feature_network
from cytoseg.evaluation.generative_scores import check_counts, inception_score, score
from cytoseg.evaluation.sample_scores import HEAD, SCORES, SCORES_FILE, TITLES, NamedNetwork, SampleScores
from cytoseg.locks import locked
from cytoseg.recipe import Recipe
from cytoseg.slides.tissue_sources import SlideSource
from cytoseg.workflows.recipe_slides import tissue_sources
from cytoseg.workflows.recorded_command import Overrides, RecipeArgument, progress, say, start_run
from cytoseg.workflows.seen_crops import cut, opened, seen_crops
from cytoseg.writing import atomic_path, write_atomically

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_WAIT_S = 30.0
"""Seconds to wait for another command that is writing the scores of the same samples."""


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
        Literal["filters", "lite0", "inception"],
        typer.Option(
            "--features",
            help="filters: no weights; lite0: needs the extra pretrained; inception, as in papers: needs --weights.",
        ),
    ] = "filters",
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="Weights of inception: pt_inception-2015-12-05-6726825d.pth. Never downloaded."),
    ] = None,
    draws: Annotated[int, typer.Option("--draws", min=1, max=100, help="Number of sets of real crops.")] = 3,
) -> None:
    """Score samples against real crops: FID, sFID, KID, precision, recall, and copies of training crops.

    Each score comes with its floor, the score of equally many real crops of other slides. Scores of different feature
    networks are not comparable; the Inception score (IS) is given with inception alone. Copies are searched among the
    first 20,000 training crops. Writes scores.json, scores.md and scores.png beside the samples.
    """
    with start_run(recipe, overrides, command="score-samples") as current:
        folder = samples or current.folder / "samples"
        channels = current.recipe.diffusion.channels
        made = as_channels(read_samples(folder, size_px=current.recipe.crops.size_px), channels)
        check_counts(len(made), len(made))
        if (features == "inception") != (weights is not None):
            raise CytosegError(
                "score-samples: --features inception and --weights FILE.pth belong together. Give both or neither."
            )
        network = feature_network(features, channels=channels, weights=weights)
        found = _compare(made, current.recipe, held_out, network, draws=draws, folder=current.folder)
        _write(folder, found)
        current.entry.update(folder=str(folder), fid=found.samples["fid"][0], kid=found.samples["kid"][0])
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


def _compare(
    made: Tensor, recipe: Recipe, held_out: Path | None, network: FeatureNetwork, *, draws: int, folder: Path
) -> SampleScores:
    """Score the samples, and real crops of other slides as the floor, against several sets of real crops."""
    trained_on = tissue_sources(recipe).sources
    real_slides = trained_on if held_out is None else tissue_sources(_with_slides(recipe, held_out)).sources
    if len(real_slides) < 2:
        raise CytosegError(
            f"score-samples: {len(real_slides)} slide of real crops; the floor compares crops of different slides. "
            "Name a folder of at least two with --held-out."
        )
    count = len(made)
    known = seen_crops(recipe, trained_on, folder)
    rows: dict[str, list[dict[str, float]]] = {"samples": [], "floor": []}
    with progress(f"sets of {count} crops", 1 + 2 * draws) as bar:
        described, copies = network.describe(made), known.copies(made)
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
    with opened(recipe, sources) as crop:
        return cut(recipe, crop, first, count)


def _summary(rows: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation of each score over the draws."""
    columns = {name: np.array([row[name] for row in rows], float) for name in TITLES if name in rows[0]}
    return {name: (float(values.mean()), float(values.std())) for name, values in columns.items()}


def _sentence(found: SampleScores) -> str:
    made, floor = found.samples, found.floor
    return (
        f"{found.count} samples: FID {made['fid'][0]:.1f} (real crops {floor['fid'][0]:.1f}), "
        f"KID {made['kid'][0]:.2f} ({floor['kid'][0]:.2f}), {made['copies'][0]:.0f} copies of training crops "
        f"({found.searched:,} searched)."
    )


def _write(folder: Path, found: SampleScores) -> None:
    figure, panels = plt.subplots(1, len(found.samples), figsize=(12, 3), layout="constrained")
    for panel, metric in zip(panels, found.samples, strict=True):
        pairs = [scores[metric] for scores in (found.samples, found.floor)]
        panel.bar(("samples", "real"), [p[0] for p in pairs], yerr=[p[1] for p in pairs], color=("#d55e00", "#999999"))
        panel.set_title(TITLES[metric])
    # Of two concurrent commands, all three files come from one.
    with locked(folder / SCORES_FILE, wait_s=_WAIT_S, error=CytosegError):
        write_atomically(folder / SCORES_FILE, json.dumps(SCORES.content_of(found), indent=1))
        write_atomically(folder / "scores.md", markdown(found))
        with atomic_path(folder / "scores.png") as temporary:
            figure.savefig(temporary, dpi=100)
    plt.close(figure)


def markdown(found: SampleScores) -> str:
    """Write the scores as a table."""
    rows = [f"| {' | '.join(row)} |" for row in found.rows()]
    head = [f"| {' | '.join(HEAD)} |".replace("|  |", "| |"), "|---" * len(HEAD) + "|"]
    title = f"# Scores of {found.count} samples"
    return "\n".join([title, "", found.sentence(), "", *head, *rows, ""])
