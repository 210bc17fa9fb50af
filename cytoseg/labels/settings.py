"""Which annotated crops there are, and labels from elsewhere: the recipe's section labels."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from cytoseg.settings import RULES
from cytoseg.slides.settings import Mpp


@dataclass(frozen=True)
class SourceSection:
    """Labels from elsewhere that teach the backbone; they are never in a test or held-out set."""

    __pydantic_config__ = RULES

    folder: Path
    """Labels folder that label-import has written, of another run."""
    classes: dict[str, str] = field(default_factory=dict)
    """What the source's classes are here: a class of this recipe; other, for none of those that the source tells apart;
    or ignore. Classes of the same name need no entry."""
    mpp: Mpp | None = None
    """Micrometres per pixel of its pictures; they are resized to slides.mpp."""
    object_px: Annotated[float, Gt(0), Le(1000)] | None = None
    """Instead of mpp: median diameter in pixels to which the objects of its rarest class are resized."""
    spread: Annotated[float, Ge(1), Le(4)] = 1.35
    """The size varies at random by up to this factor, up and down."""
    stain: Literal["random", "as_is"] = "random"
    """random paints each part in a made-up stain, so that grey pictures teach coloured ones; as_is keeps its own."""
    share: Annotated[float, Gt(0), Le(1000)] = 1.0
    """How often it is drawn, relative to the other sources."""


@dataclass(frozen=True)
class LabelsSection:
    """The annotated crops."""

    __pydantic_config__ = RULES

    folder: Path | None = None
    """Where imported labels are kept; null is labels/ in the run folder. Several recipes may share one."""
    crop_px: Annotated[int, Ge(16), Le(4096)] = 256
    """Side of the crops that label-crops, queue and the app cut to annotate, in pixels at slides.mpp. A person needs to
    see what lies around a cell, so they are larger than the training crops."""
    test_slides: tuple[str, ...] = ()
    """Patterns of slide ids whose crops are the test set; empty draws a share of the slides at random."""
    test_fraction: Annotated[float, Gt(0), Lt(1)] = 0.3
    """Share of the slides in the test set when test_slides is empty."""
    score_corrected: bool = True
    """Also score test crops whose truth was corrected from a prediction, and report their number: the parts left
    untouched agree with the model. false excludes them from every score."""
    stains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Patterns of slide ids by stain, such as {Giemsa: ["g_*"]}; scores are then also reported by stain."""
    sources: tuple[SourceSection, ...] = ()
    """Labels from elsewhere that teach the backbone pretrained beside denoising; see training.mask_weight."""
