"""Recipe section labels, with the labelled sources."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from cytoseg.settings import RULES
from cytoseg.slides.settings import Mpp


@dataclass(frozen=True)
class SourceSection:
    """Labels of another data set for training the backbone; never in a test or held-out set."""

    __pydantic_config__ = RULES

    folder: Path
    """Labels folder of another run, written by label-import."""
    classes: dict[str, str] = field(default_factory=dict)
    """Class in this recipe for each class of the source: a class name; other, for a pixel of none of the source's
    mapped classes; or ignore. Classes of the same name need no entry."""
    mpp: Mpp | None = None
    """Micrometres per pixel of its images, 0.01 to 20; they are resized to slides.mpp."""
    object_px: Annotated[float, Ge(1), Le(1000)] | None = None
    """Instead of mpp: target median diameter in pixels of the objects of its rarest class."""
    spread: Annotated[float, Ge(1), Le(4)] = 1.35
    """Random resize by up to this factor, up and down."""
    stain: Literal["random", "as_is"] = "random"
    """random recolours each part with a synthetic stain, so that grey images help on coloured ones; as_is keeps its
    own colours."""
    share: Annotated[float, Gt(0), Le(1000)] = 1.0
    """Sampling weight relative to the other sources."""


@dataclass(frozen=True)
class LabelsSection:
    """The annotated crops."""

    __pydantic_config__ = RULES

    folder: Path | None = None
    """Folder of imported labels; null is labels/ in the run folder. Several recipes may share one."""
    crop_px: Annotated[int, Ge(16), Le(4096)] = 256
    """Side of the crops that label-crops, queue and the app cut to annotate, in pixels at slides.mpp. They are
    larger than the training crops, because annotators need context around a cell."""
    test_slides: tuple[str, ...] = ()
    """Patterns of the slide ids of the test set; empty draws slides at random."""
    test_fraction: Annotated[float, Gt(0), Lt(1)] = 0.3
    """Fraction of slides in the test set if test_slides is empty."""
    score_corrected: bool = True
    """Also score test crops whose truth was corrected from a prediction, and report their number: the parts left
    untouched agree with the model. false excludes them from every score."""
    stains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Patterns of slide ids by stain, such as {Giemsa: ["g_*"]}; scores are then also reported by stain."""
    sources: tuple[SourceSection, ...] = ()
    """Labels of other data sets for training the backbone pretrained in addition to denoising; see
    training.mask_weight."""
