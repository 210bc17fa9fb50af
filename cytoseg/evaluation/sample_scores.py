"""Scores of samples as they are stored, and as rows of a table."""

from dataclasses import dataclass
from pathlib import Path

from cytoseg.errors import CytosegError
from cytoseg.evaluation.run_folder import readable
from cytoseg.records import RecordFile

SCORES_FILE = "scores.json"
TITLES = {
    "fid": "FID",
    "sfid": "sFID",
    "kid": "KID",
    "inception": "IS",
    "precision": "precision",
    "recall": "recall",
    "copies": "copies",
}
"""Scores by their names in the file; inception only for a network that classifies."""
HEAD = ("", "samples", "floor")

MeanSd = tuple[float, float]


@dataclass(frozen=True)
class NamedNetwork:
    """The feature network: its name, and the hash of everything that determines its features."""

    name: str
    hash: str


@dataclass(frozen=True)
class SampleScores:
    """What scores.json holds.

    Attributes:
        count: Number of samples.
        draws: Number of sets of real crops.
        network: The feature network.
        real: Origin of the real crops.
        samples: Mean and standard deviation over the draws, by score.
        floor: The same for real crops of other slides.
        searched: Training crops among which copies were searched; 0 in files of earlier versions.
        seen: Training crops that the model has seen.
    """

    count: int
    draws: int
    network: NamedNetwork
    real: str
    samples: dict[str, MeanSd]
    floor: dict[str, MeanSd]
    searched: int = 0
    seen: int = 0

    def __post_init__(self) -> None:
        if missing := [name for name in self.samples if name not in self.floor or name not in TITLES]:
            raise ValueError(f"score {missing[0]!r} without a floor")

    def rows(self) -> list[tuple[str, str, str]]:
        """Return title, score of the samples and floor of each score."""
        return [
            (title, _cell(self.samples[name]), _cell(self.floor[name]))
            for name, title in TITLES.items()
            if name in self.samples
        ]

    def sentence(self) -> str:
        """Describe the comparison."""
        scaled = "" if self.network.name.startswith("inception") else ", standardised by the real crops"
        copies = (
            f" Copies were searched among {self.searched:,} of {self.seen:,} training crops, flipped and turned ones "
            "included."
        )
        return (
            f"Against as many crops of {self.real}, {self.draws} draws (mean +- standard deviation). Features: "
            f"{self.network.name} ({self.network.hash}){scaled}. The floor is what as many real crops of other slides "
            f"score.{copies if self.searched else ''}"
        )


SCORES = RecordFile(SampleScores, CytosegError, "Run `cytoseg score-samples RECIPE` to write it again.")


def read_sample_scores(run: Path) -> SampleScores | None:
    """Read the scores of a run's samples.

    Args:
        run: The run folder.

    Returns:
        The scores, or None if there are none, or a link leads out of the run.

    Raises:
        CytosegError: If the file is damaged, of another format or may not be read.
    """
    path = run / "samples" / SCORES_FILE
    with readable(SCORES_FILE):
        if not path.is_file() or not path.resolve().is_relative_to(run.resolve()):
            return None
        return SCORES.read(path)


def _cell(pair: MeanSd) -> str:
    return f"{pair[0]:.3f} +- {pair[1]:.3f}"
