"""Cutting labelled crops from slides annotated in GeoJSON.

An annotation of the class ``Region*`` is exhaustively annotated. Its bounding box becomes one crop, with ignore outside
the annotation. A file without one belongs to a small image, which becomes a single crop.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import floor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoseg.errors import LabelError, SlideError
from cytoseg.formats.annotation import Annotation, AreaRule, Shape, covered, ring_of
from cytoseg.formats.json_files import Points
from cytoseg.formats.qupath import CROP_NAME, REGION, Feature, GeoFile
from cytoseg.formats.sidecar import Origin, read_sidecar
from cytoseg.geometry import Region, Size, overlap
from cytoseg.labels.index import is_file_name
from cytoseg.patterns import plain_name
from cytoseg.slides.open import find_slides, open_slide, read_at, slide_id
from cytoseg.slides.resolution import downsample_to
from cytoseg.slides.settings import SlidesSection
from cytoseg.slides.slide import Slide

MAX_SIDE_PX = 4096
"""Larger crops are refused: each is held in memory."""


@dataclass(frozen=True)
class SlideRules:
    """How crops are cut from slides.

    Attributes:
        folder: Folder tree with the slides; None looks only beside the annotations.
        regions: Classes of annotations that delimit a crop.
        settings: Determines the resolution of the crops.
    """

    folder: Path | None = None
    regions: Sequence[str] = (REGION,)
    settings: SlidesSection = field(default_factory=SlidesSection)


@dataclass(frozen=True, eq=False)
class SlideCrop:
    """A crop to be cut from a slide.

    Attributes:
        source: Its name in messages.
        crop: Its id.
        slide: The slide's file.
        region: Its region on the slide.
        size: Size of the crop in pixels.
        features: Features inside it, in file order; a file's first crop also gets those outside all crops.
        frame: The feature that delimits it, unless it is a whole image.
        marks: The features to paint.
        origin: Slide and region, unless it is a whole image of unknown origin.
    """

    source: str
    crop: str
    slide: Path
    region: Region
    size: Size
    features: tuple[Feature, ...]
    frame: Feature | None
    marks: tuple[Feature, ...]
    origin: Origin | None


def plan_crops(
    file: GeoFile, stems: Sequence[str], rules: SlideRules, *, beside: Path, problems: list[str], notes: list[str]
) -> list[SlideCrop]:
    """Find a file's slide and the crops marked on it.

    Args:
        file: The features.
        stems: Possible names of the slide, with or without its extension.
        rules: How crops are cut.
        beside: Folder of the GeoJSON file, in which slides are sought too.
        problems: One sentence is added per problem.
        notes: A sentence is added if features are left out.

    Returns:
        The valid crops, to be read one by one.
    """
    crops, found = [], []
    drawn = [feature for feature in file.features if feature.shapes]
    marks = [feature for feature in drawn if feature.label not in rules.regions]
    try:
        with open_slide(_find_slide(file.name, stems, (rules.folder, beside))) as slide:
            if slide.note:
                notes.append(f"{file.name}: drawn on {slide.path.name}, of which this is read: {slide.note}.")
            lost = [feature for feature in drawn if not _meets(feature, _whole(slide))]
            found += [_outside(feature, slide) for feature in lost]
            gone = {feature.number for feature in lost}
            frames = [feature for feature in drawn if feature.label in rules.regions and feature.number not in gone]
            for frame in frames or (None,):
                try:
                    crops.append(_plan(file, slide, frame, marks, rules))
                except (LabelError, SlideError) as error:
                    found.append(str(error))
    except (LabelError, SlideError) as error:
        found.append(str(error))
    # A slide without an mpp would be reported once per region.
    told = set(problems)
    problems += [problem for problem in dict.fromkeys(found) if problem not in told]
    return _with_rest(file, crops, notes) if crops else []


def _with_rest(file: GeoFile, crops: Sequence[SlideCrop], notes: list[str]) -> list[SlideCrop]:
    """Add features outside all crops to the first crop, which keeps them, and note how many are not used."""
    taken = {feature.number for crop in crops for feature in crop.features}
    rest = [feature for feature in file.features if feature.number not in taken]
    reasons = {**file.left_out, "outside every region": sum(bool(feature.shapes) for feature in rest)}
    if counts := ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count):
        notes.append(f"{file.name}: annotations left out: {counts}.")
    features = tuple(sorted([*crops[0].features, *rest], key=lambda feature: feature.number))
    return [replace(crops[0], features=features), *crops[1:]]


def cut(item: SlideCrop, *, area: AreaRule) -> tuple[NDArray[np.uint8], Annotation, NDArray[np.bool_]]:
    """Read a crop and convert its shapes to crop pixels.

    Args:
        item: The crop.
        area: How areas will be filled.

    Returns:
        (H, W, 3) uint8 RGB; the shapes that cover a pixel, larger ones first, lines and points last; and
        (H, W) bool, True where the crop is exhaustively annotated.

    Raises:
        SlideError: If the slide is damaged there.
    """
    with open_slide(item.slide) as slide:
        picture = read_at(slide, item.region, item.size)
    shapes = [shape for _, shape in placed(item.marks, item.region, item.size, area=area)]
    inside = np.full((item.size.height, item.size.width), item.frame is None, np.uint8)
    for shape in () if item.frame is None else item.frame.shapes:
        covered(moved(shape, item.region, item.size), item.size, area=area).press(inside, 1)
    return picture, Annotation(item.source, item.size, tuple(shapes)), inside.astype(np.bool_)


def placed(features: Sequence[Feature], region: Region, size: Size, *, area: AreaRule) -> list[tuple[Feature, Shape]]:
    """Convert features to crop pixels.

    Args:
        features: On the slide, in level-0 pixels.
        region: Region of the crop.
        size: Size of the crop.
        area: How areas will be filled.

    Returns:
        Each shape that covers a pixel of the crop, with its feature; larger ones first, lines and points last. The
        parts of a feature count one by one: nuclei merged into one object lie over the cells, however many they are.
    """
    found = [(feature, moved(shape, region, size)) for feature in features for shape in feature.shapes]
    # Objects are unordered: for equal areas, such as points, the file order must not matter either.
    found.sort(key=lambda pair: (-_area(pair[1]), pair[1].label, pair[1].points))
    return [(feature, shape) for feature, shape in found if not covered(shape, size, area=area).empty]


def moved(shape: Shape, region: Region, size: Size) -> Shape:
    """Convert a shape from level-0 pixels to the pixels of a crop of a region."""
    x, y = size.width / region.width, size.height / region.height

    def scaled(points: Points) -> Points:
        return tuple(((px - region.x) * x, (py - region.y) * y) for px, py in points)

    return replace(shape, points=scaled(shape.points), holes=tuple(map(scaled, shape.holes)))


def _find_slide(name: str, stems: Sequence[str], places: tuple[Path | None, Path]) -> Path:
    """Find a slide in the folder tree of the user's slides, if any, or else beside the annotations."""
    stem, plain = stems[0], set(map(plain_name, stems))
    folder, beside = places
    for place, globs in ((folder, ("**/*",)), (beside, ("*",))):
        if place is None:
            continue
        if not place.is_dir():
            raise LabelError(f"{place}: no such folder. Name the folder of the slides with --slides.")
        try:
            slides = find_slides([place], globs)
        except SlideError:  # there are none
            slides = []
        # Slide "a.svs" is exported as "a.geojson" manually and as "a.svs.geojson" by scripts.
        fitting = [s for s in slides if s.name in stems]
        fitting = fitting or [s for s in slides if not {s.stem, slide_id(s)}.isdisjoint(stems)]
        fitting = fitting or [s for s in slides if not plain.isdisjoint(map(plain_name, (s.name, s.stem, slide_id(s))))]
        if len(fitting) > 1:
            found = ", ".join(s.relative_to(place).as_posix() for s in fitting)
            raise LabelError(
                f"{name}: {len(fitting)} slides are called '{stem}' in {place} ({found}). Keep only one there."
            )
        if fitting:
            return fitting[0]
    where = "beside it" if folder is None else f"in {folder} or next to it"
    raise LabelError(f"{name}: no slide called '{stem}' {where}. Put it there, or name its folder with --slides.")


def _plan(file: GeoFile, slide: Slide, frame: Feature | None, marks: Sequence[Feature], rules: SlideRules) -> SlideCrop:
    if frame is None:
        source, region, crop, origin = file.name, _whole(slide), slide_id(slide.path), read_sidecar(slide.path)
        # An image without an mpp is assumed to have been cut at the right one.
        downsample = downsample_to(rules.settings.mpp, slide) if origin is None and slide.mpp is not None else 1.0
    else:
        source, region = frame.where, _region(frame, slide)
        crop, origin = _crop_id(frame, region, slide_id(slide.path)), Origin(slide_id(slide.path), region)
        assumed = rules.settings.assumed_mpp(slide.path)
        downsample = downsample_to(rules.settings.mpp, slide, assume_mpp=assumed)
    size = Size(max(1, round(region.width / downsample)), max(1, round(region.height / downsample)))
    if max(size.width, size.height) > MAX_SIDE_PX:
        what = f"{slide.path.name}, which has no annotation of the class {REGION}," if frame is None else "the region"
        raise LabelError(
            f"{source}: {what} is {size.width}x{size.height} px, more than {MAX_SIDE_PX} a side. "
            f"Draw smaller rectangles of the class {REGION} around completely annotated areas."
        )
    within = tuple(feature for feature in marks if _meets(feature, region))
    features = within if frame is None else (*within, frame)
    return SlideCrop(source, crop, slide.path, region, size, features, frame, within, origin)


def _crop_id(frame: Feature, region: Region, slide: str) -> str:
    if not frame.name.startswith(CROP_NAME):
        return f"{slide}_x{region.x}_y{region.y}"
    crop = frame.name.removeprefix(CROP_NAME)
    if not is_file_name(crop):
        raise LabelError(f"{frame.where}: '{frame.name}' must be a valid file name for a crop. Rename it.")
    return crop


def _region(frame: Feature, slide: Slide) -> Region:
    if any(shape.kind != "polygon" for shape in frame.shapes):
        raise LabelError(f"{frame.where}: the region '{frame.label}' has no area. Draw a rectangle.")
    x0, y0, x1, y1 = (floor(value + 0.5) for value in frame.bounds)
    region = overlap(Region(x0, y0, x1 - x0, y1 - y0), slide.levels[0].size)
    if not region.width or not region.height:
        raise LabelError(f"{frame.where}: the region '{frame.label}' covers no pixel of the slide. Draw it again.")
    return region


def _whole(slide: Slide) -> Region:
    size = slide.levels[0].size
    return Region(0, 0, size.width, size.height)


def _meets(feature: Feature, region: Region) -> bool:
    x0, y0, x1, y1 = feature.bounds
    right, bottom = region.x + region.width, region.y + region.height
    return x0 <= right and x1 >= region.x and y0 <= bottom and y1 >= region.y


def _outside(feature: Feature, slide: Slide) -> str:
    size = slide.levels[0].size
    where = f"{slide.path.name} of {size.width}x{size.height} px"
    return f"{feature.where}: '{feature.label}' lies outside {where}. Is this its slide? Move or delete it."


def _area(shape: Shape) -> float:
    """Return the area of a polygon in pixels without holes; 0 for lines and points."""
    if shape.kind != "polygon":
        return 0.0
    x, y = ring_of(shape).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)
