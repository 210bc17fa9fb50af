"""``cytoseg score-samples``: scores of samples against real crops."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cytoseg.diffusion.channels import as_channels
from cytoseg.errors import CytosegError
from cytoseg.evaluation.generative_features import feature_network
from cytoseg.evaluation.generative_scores import check_counts
from cytoseg.evaluation.sample_scores import SampleScores
from cytoseg.terminal import say
from cytoseg.workflows.compared_samples import compare_samples, read_samples, write_sample_scores
from cytoseg.workflows.recorded_command import Overrides, RecipeArgument, start_run


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
        found = compare_samples(made, current.recipe, held_out, network, draws=draws, folder=current.folder)
        write_sample_scores(folder, found)
        current.entry.update(folder=str(folder), fid=found.samples["fid"][0], kid=found.samples["kid"][0])
        say(f"{_sentence(found)} See {folder / 'scores.md'}.")


def _sentence(found: SampleScores) -> str:
    made, floor = found.samples, found.floor
    return (
        f"{found.count} samples: FID {made['fid'][0]:.1f} (real crops {floor['fid'][0]:.1f}), "
        f"KID {made['kid'][0]:.2f} ({floor['kid'][0]:.2f}), {made['copies'][0]:.0f} copies of training crops "
        f"({found.searched:,} searched)."
    )
