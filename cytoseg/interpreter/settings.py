"""How interpreters are trained: the recipe's sections interpreter, decoder and student."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from cytoseg.settings import RULES


@dataclass(frozen=True)
class InterpreterSection:
    """What turns features into classes."""

    __pydantic_config__ = RULES

    kind: Literal["mlps", "decoder", "student"] = "mlps"
    """mlps trains an ensemble of per-pixel MLPs on the features; decoder tunes the whole network instead; student
    distils one of these into a small, fast network. See the sections of those names."""
    mode: Literal["tuned", "reference"] = "tuned"
    """reference trains the MLPs by the published rules, for comparison: on all labelled pixels; of the keys below it
    heeds members and vote only."""
    members: Annotated[int, Ge(2), Le(100)] = 10
    """Number of MLPs that vote together."""
    steps: Annotated[int, Ge(1), Le(100_000)] = 1000
    """Optimiser updates of each, at most."""
    passes: Annotated[float, Gt(0)] = 5.0
    """Most passes over the drawn pixels, to avoid overfitting on few crops; up to 400 steps are made anyway."""
    batch_px: Annotated[int, Ge(2), Le(65_536)] = 64
    """Pixels per update and member."""
    rate: Annotated[float, Gt(0), Le(0.1)] = 1e-3
    """Learning rate of Adam, falling to zero along a cosine."""
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the features hidden at random, anew for each pixel and step. With two crops .3 helped a little, with
    twenty and more it did not."""
    weight_decay: Annotated[float, Ge(0), Le(10)] = 0.0
    """Weight decay of AdamW."""
    etf_weight: Annotated[float, Ge(0), Le(10)] = 0.0
    """Weight of a second loss that draws each class's activations to a corner of a regular simplex; 0 leaves it out."""
    early_stopping: bool = False
    """Let each MLP keep the weights that fit the slides it holds out best. On real cells it cost .01 of the IoU of the
    nuclei and made the probabilities no better."""
    calibrate: bool = False
    """Let each MLP hold out a fifth of the slides, and fit a temperature to them, so that the probabilities are
    calibrated; used with crops of five slides or more. On real cells they were calibrated to .004 on average without
    it."""
    pixels_per_crop: Annotated[int, Ge(16), Le(1_048_576)] = 2000
    """Pixels drawn from each labelled crop."""
    balance: Literal["classes", "none"] = "classes"
    """classes gives each class of a crop an equal share, rare ones all they have; none draws as they come."""
    vote: Literal["soft", "geometric", "entropy", "hard"] = "soft"
    """soft averages the probabilities, geometric their logarithms, entropy lets sure members count for more; hard takes
    the most frequent class, ties by mean probability."""


@dataclass(frozen=True, kw_only=True)
class EnsembleSettings(InterpreterSection):
    """How an ensemble of MLPs is trained: the section and a seed.

    Attributes:
        seed: Of weights, batches and folds.
    """

    seed: int


@dataclass(frozen=True)
class DecoderSection:
    """How the network is tuned on the labelled crops, with interpreter.kind decoder."""

    __pydantic_config__ = RULES

    steps: Annotated[int, Ge(1), Le(100_000)] = 3000
    """Optimiser updates, at most; with a network of dim 32 an hour on one core of a CPU. With thirty crops fewer leave
    much of the IoU behind."""
    passes: Annotated[float, Gt(0)] = 170.0
    """Most passes over the labelled pixels, to avoid overfitting on few crops; up to 400 steps are made
    anyway."""
    batch: Annotated[int, Ge(1), Le(256)] = 8
    """Parts of crops per update."""
    size_px: Annotated[int, Ge(32), Le(512)] = 96
    """Side of a part, cut at random and turned, flipped, changed in colour and blurred."""
    rate: Annotated[float, Gt(0), Le(0.1)] = 1e-3
    """Highest learning rate of the decoder's blocks; falls to zero along a cosine."""
    early: Annotated[float, Ge(0), Le(1)] = 0.5
    """The rate of all that comes before them, as a share of it; 0 leaves that as the diffusion model had it."""
    unlabelled: Annotated[float, Ge(0), Le(10)] = 0.0
    """Weight of the unlabelled slides, on which the network's average teaches it; 0 leaves them out. Worth it with the
    backbone pretrained. Test slides are never among them."""


@dataclass(frozen=True, kw_only=True)
class TuneSettings(DecoderSection):
    """How a decoder is tuned: the section with what it needs of others.

    Attributes:
        seed: Of the held-out slides and what is drawn.
        precision: ``no`` (fp32) or ``bf16``, of the network's arithmetic.
    """

    seed: int
    precision: str


@dataclass(frozen=True)
class StudentSection:
    """The small network of interpreter.kind student, at least ten times as fast as its teacher."""

    __pydantic_config__ = RULES

    teacher: Literal["mlps", "decoder"] = "decoder"
    """What it imitates; trained first, into interpreter/teacher, unless that is up to date."""
    crops: Annotated[int, Ge(0), Le(10_000)] = 64
    """Unlabelled crops, as large as a tile, that the teacher segments for it, beside the labelled ones."""
    steps: Annotated[int, Ge(1), Le(100_000)] = 2000
    """Optimiser updates."""


def hidden_sizes(classes: int) -> tuple[int, int]:
    """Return the widths of the two hidden layers: 128 and 32, or 256 and 128 from 30 classes on.

    Source: Baranchuk et al., Label-Efficient Semantic Segmentation with Diffusion Models, ICLR 2022.
    """
    return (256, 128) if classes >= 30 else (128, 32)
