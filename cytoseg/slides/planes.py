"""Choosing the image of a TIFF: the largest scene, the middle z-plane."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from cytoseg.errors import SlideError


@dataclass(frozen=True)
class Plane:
    """The image of a TIFF that is read as a slide.

    Attributes:
        page: Its tifffile page.
        others: Pages that may be coarser levels: its SubIFDs and, if it is the only image, all pages after it.
        pixels: Attributes of its ``Pixels`` element in OME-XML; empty if there is none.
        note: Which of several images was chosen; empty if it is the only one.
    """

    page: Any
    others: Sequence[Any]
    pixels: dict[str, str]
    note: str


def middle_plane(count: int) -> tuple[int, str]:
    """Choose the middle plane of a z-stack: its index from 0, and a note (empty for a single plane)."""
    middle = count // 2
    return middle, f"plane {middle + 1} of {count} (the middle one)" if count > 1 else ""


def largest_scene(areas: Sequence[int]) -> tuple[int, str]:
    """Choose the first of the largest scenes: its index from 0, and a note (empty for a single scene)."""
    best = areas.index(max(areas))
    why = "the largest" if areas.count(areas[best]) == 1 else "the first of the largest"
    return best, f"scene {best + 1} of {len(areas)} ({why})" if len(areas) > 1 else ""


def find_plane(tif: Any, *, name: str) -> Plane:
    """Choose the image of a TIFF to read.

    Args:
        tif: tifffile.TiffFile.
        name: Its name in messages.

    Raises:
        SlideError: If there are several channels, time points, or undeclared pages, or the first is a thumbnail.
    """
    first, scenes = tif.pages[0], _scenes(tif)
    _refuse_thumbnail(first, name)
    alike = sum((page.shape, page.photometric) == (first.shape, first.photometric) for page in _full_pages(tif))
    if len(scenes) > 1 or (scenes and alike > 1):
        return _of_ome(tif, scenes, name)
    if (count := max(alike, _imagej(tif, "images"))) < 2:
        pixels = dict(scenes[0].attrib) if scenes else {}
        if not scenes and (larger := _larger_than_first(tif)) is not None:
            return larger
        return Plane(first, (*(first.pages or ()), *tif.pages[1:]), pixels, "")
    if _imagej(tif, "slices") != count:
        raise _refused(name, _kind(count, frames=_imagej(tif, "frames"), channels=_imagej(tif, "channels")))
    if alike < count:
        raise _refused(name, f"{count} z-planes, of which only {alike} were found")
    index, note = middle_plane(count)
    return Plane(tif.pages[index], (), {}, note)


def _larger_than_first(tif: Any) -> Plane | None:
    """Return the largest page if the first one is a smaller copy or a thumbnail, as in pyramids written upwards."""
    pages = list(tif.pages)
    areas = [page.imagewidth * page.imagelength if page.is_tiled else 0 for page in pages]
    best, first = pages[areas.index(max(areas))], pages[0]
    if best.imagewidth <= first.imagewidth or best.imagelength <= first.imagelength:
        return None
    others = sorted((page for page in pages if page is not best), key=lambda page: -page.imagewidth)
    note = f"page {pages.index(best) + 1} of {len(pages)} (the largest)"
    return Plane(best, (*(best.pages or ()), *others), {}, note)


def _refuse_thumbnail(first: Any, name: str) -> None:
    """Refuse a file with the image below its thumbnail, as in raw files of cameras (DNG)."""
    for page in first.pages or ():
        if page.imagewidth > first.imagewidth and page.imagelength > first.imagelength:
            small, large = (f"{each.imagewidth} x {each.imagelength} px" for each in (first, page))
            raise SlideError(
                f"{name}: its first image of {small} is a thumbnail of one of {large} below it, as in a camera's raw "
                "file. Export it as 8-bit RGB."
            )


def _full_pages(tif: Any) -> list[Any]:
    return [page for page in tif.pages if not page.is_reduced]


def _scenes(tif: Any) -> list[ElementTree.Element]:
    """Find the Pixels elements of OME-XML, one per scene; empty without readable XML."""
    try:
        root = ElementTree.fromstring(tif.ome_metadata) if tif.is_ome else None
    except ElementTree.ParseError:
        root = None
    return [element for element in root.iter() if element.tag.endswith("Pixels")] if root is not None else []


def _of_ome(tif: Any, scenes: Sequence[ElementTree.Element], name: str) -> Plane:
    areas = [_number(scene, "SizeX", 0) * _number(scene, "SizeY", 0) for scene in scenes]
    index, which_scene = largest_scene(areas)
    scene = scenes[index]
    page = tif.pages[_ifd_of(scene, 0, name)]
    planes, frames = _number(scene, "SizeZ", 1), _number(scene, "SizeT", 1)
    channels = max(1, _number(scene, "SizeC", 1) // int(page.samplesperpixel))
    if frames > 1 or channels > 1 or (planes == 1 and len(scenes) == 1):
        count = frames * channels * planes if frames * channels > 1 else len(_full_pages(tif))
        raise _refused(name, _kind(count, frames=frames, channels=channels))
    z, which_plane = middle_plane(planes)
    page = tif.pages[_ifd_of(scene, z, name)]
    note = ", ".join(filter(None, (which_scene, which_plane)))
    return Plane(page, tuple(page.pages or ()), dict(scene.attrib), note)


def _ifd_of(scene: ElementTree.Element, z: int, name: str) -> int:
    """Find the page index of a z-plane in a scene that has only z-planes."""
    listed = [data for data in scene if data.tag.endswith("TiffData")]
    files = {mark.text for data in listed for mark in data if mark.tag.endswith("UUID")}
    if len(files) > 1:
        raise SlideError(f"{name}: its planes are spread over {len(files)} files. Export them into one.")
    for data in listed:
        first = _number(data, "FirstZ", 0)
        count = _number(data, "PlaneCount", 1 if "IFD" in data.attrib else _number(scene, "SizeZ", 1))
        if first <= z < first + count:
            return _number(data, "IFD", 0) + z - first
    if listed:
        raise SlideError(f"{name}: lacks plane {z + 1} of its z-stack. Export it again.")
    return z


def _number(element: ElementTree.Element, key: str, otherwise: int) -> int:
    return int(element.get(key, otherwise))


def _imagej(tif: Any, key: str) -> int:
    return int((tif.imagej_metadata or {}).get(key, 1)) if tif.is_imagej else 1


def _kind(count: int, *, frames: int, channels: int) -> str:
    if count in (frames, channels):
        return f"{count} {'time points' if count == frames else 'channels'}"
    return f"{count} pages of one size (z-planes, channels or time points)"


def _refused(name: str, found: str) -> SlideError:
    return SlideError(
        f"{name}: contains {found}; cytoseg reads one RGB image, or the middle plane of a z-stack. Export one of them."
    )
