"""Recipe sections interpreter, decoder and student."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from cytoseg.settings import RULES


@dataclass(frozen=True)
class InterpreterSection:
    """How features become classes."""

    __pydantic_config__ = RULES

    kind: Literal["mlps", "decoder", "student", "segdiff"] = "mlps"
    """mlps trains an ensemble of per-pixel MLPs on the features; decoder tunes the whole network instead; student
    distils one of these into a small, fast network; segdiff trains a diffusion model of class maps, for comparison. See
    the sections of those names."""
    mode: Literal["tuned", "reference"] = "tuned"
    """reference trains the MLPs by the published rules, for comparison: on all labelled pixels; of the keys below only
    members and vote apply."""
    members: Annotated[int, Ge(2), Le(100)] = 10
    """Number of MLPs that vote together."""
    steps: Annotated[int, Ge(1), Le(100_000)] = 1000
    """Most optimiser updates of each MLP. 1500 if the features come from a network trained on labelled sources, such as
    cytology-base."""
    passes: Annotated[float, Gt(0)] = 5.0
    """Most passes over the drawn pixels, to avoid overfitting on few crops; at least 400 steps are made if steps
    allows."""
    batch_px: Annotated[int, Ge(2), Le(65_536)] = 64
    """Pixels per update and member; 128 with such a network."""
    rate: Annotated[float, Gt(0), Le(0.1)] = 1e-3
    """Learning rate of Adam, falling to zero along a cosine."""
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Fraction of the features dropped at random for each pixel and step. With two crops .3 helped a little, with
    twenty or more it did not."""
    weight_decay: Annotated[float, Ge(0), Le(10)] = 0.0
    """Weight decay of AdamW."""
    etf_weight: Annotated[float, Ge(0), Le(10)] = 0.0
    """Weight of a second loss that pulls each class's activations to a vertex of a regular simplex; 0 disables it."""
    early_stopping: bool = False
    """Keep the weights of each MLP that fit its held-out slides best. On real cells this cost .01 IoU of the nuclei and
    did not improve the probabilities."""
    calibrate: bool = False
    """Hold out a fifth of the slides for each MLP and fit a temperature to them, so that the probabilities are
    calibrated; needs crops of at least five slides. On real cells the calibration error was .004 on average without
    it."""
    pixels_per_crop: Annotated[int, Ge(16), Le(1_048_576)] = 2000
    """Pixels drawn from each labelled crop; 8000 with such a network."""
    balance: Literal["classes", "none"] = "classes"
    """classes draws equally many pixels of each class of a crop, all of rare ones; none draws at natural
    frequencies."""
    vote: Literal["soft", "geometric", "entropy", "hard"] = "soft"
    """soft averages the probabilities, geometric their logarithms, entropy weights confident members more; hard takes
    the most frequent class, ties by mean probability."""


@dataclass(frozen=True, kw_only=True)
class EnsembleSettings(InterpreterSection):
    """Settings of ensemble training: the recipe section and a seed.

    Attributes:
        seed: Seed of weights, batches and folds.
    """

    seed: int


@dataclass(frozen=True)
class DecoderSection:
    """How the network is fine-tuned on the labelled crops, with interpreter.kind decoder."""

    __pydantic_config__ = RULES

    steps: Annotated[int, Ge(1), Le(100_000)] = 3000
    """Most optimiser updates; an hour on one CPU core with a network of dim 32. With thirty crops, fewer cost much of
    the IoU. A network trained on labelled sources, such as cytology-base, needs 1000, with 90 passes and early 0.3;
    these are its defaults."""
    passes: Annotated[float, Gt(0)] = 170.0
    """Most passes over the labelled pixels, to avoid overfitting on few crops; at least 400 steps are made if steps
    allows."""
    batch: Annotated[int, Ge(1), Le(256)] = 8
    """Parts of crops per update."""
    size_px: Annotated[int, Ge(32), Le(512)] = 96
    """Side of a part, cut at random with rotation, flips, colour jitter and blur; less if more than a tenth of the
    crops are smaller."""
    rate: Annotated[float, Gt(0), Le(0.1)] = 1e-3
    """Highest learning rate of the decoder's blocks; falls to zero along a cosine."""
    early: Annotated[float, Ge(0), Le(1)] = 0.5
    """Learning rate of the layers before them, as a fraction of rate; 0 freezes them."""
    early_stopping: bool = False
    """Hold out a fifth of the labelled slides, with ten or more, and keep the weights that fit them best. With twenty
    crops of real cells this cost .03 IoU of the nuclei: every crop is needed for training."""
    unlabelled: Annotated[float, Ge(0), Le(10)] = 0.0
    """Weight of the unlabelled slides, on which the averaged network is the teacher; 0 disables them. Useful with the
    backbone pretrained. Test slides are never used."""


@dataclass(frozen=True, kw_only=True)
class TuneSettings(DecoderSection):
    """Settings of decoder tuning: the recipe section with values of other sections.

    Attributes:
        seed: Seed of the held-out slides and random parts.
        precision: ``no`` (fp32) or ``bf16`` for the network.
    """

    seed: int
    precision: str


@dataclass(frozen=True)
class StudentSection:
    """The small network of interpreter.kind student, at least ten times as fast as its teacher."""

    __pydantic_config__ = RULES

    teacher: Literal["mlps", "decoder"] = "decoder"
    """The teacher; trained first, in interpreter/teacher, unless it is up to date."""
    crops: Annotated[int, Ge(0), Le(10_000)] = 64
    """Unlabelled tile-sized crops that the teacher segments, in addition to the labelled ones."""
    made: Annotated[int, Ge(0), Le(1_000_000)] = 0
    """Number of generated pairs to train on as well, see make-pairs; 0 for none."""
    steps: Annotated[int, Ge(1), Le(100_000)] = 2000
    """Optimiser updates."""


@dataclass(frozen=True)
class SegdiffSection:
    """The diffusion model of class maps of interpreter.kind segdiff: several draws vote. Slow, and 30 crops are few."""

    __pydantic_config__ = RULES

    steps: Annotated[int, Ge(1), Le(100_000)] = 3000
    """Optimiser updates."""
    batch: Annotated[int, Ge(1), Le(256)] = 8
    """Parts of crops per update."""
    size_px: Annotated[int, Ge(16), Le(512)] = 64
    """Side of a part; of smaller crops as decoder.size_px."""
    rate: Annotated[float, Gt(0), Le(0.1)] = 1e-3
    """Highest learning rate; falls to zero along a cosine."""
    votes: Annotated[int, Ge(2), Le(100)] = 9
    """Draws per image, which vote; their disagreement is the uncertainty."""
    draw_steps: Annotated[int, Ge(1), Le(100)] = 25
    """Network evaluations per draw."""


@dataclass(frozen=True, kw_only=True)
class SegdiffSettings(SegdiffSection):
    """Settings of SegDiff's training: the recipe section with values of other sections.

    Attributes:
        seed: Seed of weights, parts and noise.
        precision: ``no`` (fp32) or ``bf16`` for the network.
    """

    seed: int
    precision: str


def hidden_sizes(classes: int) -> tuple[int, int]:
    """Return the widths of the two hidden layers: 128 and 32, or 256 and 128 from 30 classes on.

    Source: Baranchuk et al., Label-Efficient Semantic Segmentation with Diffusion Models, ICLR 2022.
    """
    return (256, 128) if classes >= 30 else (128, 32)
