"""Slides as sources of training crops, with their tissue masks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cytoseg.errors import SlideError, report, together
from cytoseg.geometry import Size
from cytoseg.slides.open import check_whole, open_slide
from cytoseg.slides.packed_mask import PackedMask
from cytoseg.slides.resolution import downsample_to
from cytoseg.slides.settings import SlidesSection
from cytoseg.slides.tissue_mask import tissue_mask


@dataclass(frozen=True)
class SlideSource:
    """One slide that crops may come from.

    Attributes:
        path: The file.
        size: Size of level 0.
        side_px: Side of one crop in level-0 pixels.
        tissue: Positions of tissue.
    """

    path: Path
    size: Size
    side_px: int
    tissue: PackedMask

    @property
    def weight(self) -> float:
        """Sampling weight of the slide: its tissue area in crops."""
        return self.tissue.share() * self.size.width * self.size.height / self.side_px**2


def find_tissue(
    paths: Iterable[Path],
    *,
    size_px: int,
    settings: SlidesSection,
    on_unreadable: Callable[[str], None] | None = None,
) -> list[SlideSource]:
    """Open each slide once and compute its tissue mask.

    Args:
        paths: Slides.
        size_px: Side of a crop.
        settings: Resolution and background rule.
        on_unreadable: Called for each unusable slide, which is then skipped; None raises instead.

    Raises:
        SlideError: Lists all slides that cannot be opened or are smaller than a crop; or no slide has any cells.
    """
    sources, problems = [], []
    for path in paths:
        try:
            with open_slide(path) as slide:
                check_whole(slide)
                assumed = settings.assumed_mpp(path)
                side = max(1, round(size_px * downsample_to(settings.mpp, slide, assume_mpp=assumed)))
                size = slide.levels[0].size
                if min(size.width, size.height) < side:
                    raise SlideError(
                        f"{path.name}: {size.width}x{size.height} px, smaller than a crop of {side}x{side}. "
                        "Exclude it (slides.exclude) or lower crops.size_px."
                    )
                tissue = tissue_mask(slide, settings.background)
                sources.append(SlideSource(path, size, side, PackedMask.of(tissue.mask)))
        except SlideError as error:
            problems.append(str(error))
    if on_unreadable is not None and sources:
        for problem in together(problems):
            on_unreadable(f"Left out: {problem}")
        problems = []
    if not problems and not any(s.weight > 0 for s in sources):
        problems.append("the background rule finds no cells on any slide. Set slides.background.rule=none.")
    if problems:
        raise SlideError(report(together(problems), what="slides"))
    return [s for s in sources if s.weight > 0]
