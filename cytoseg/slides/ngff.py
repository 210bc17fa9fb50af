"""OME-Zarr metadata (NGFF 0.4 and 0.5): axes, levels, pixel size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from cytoseg.errors import SlideError
from cytoseg.geometry import Size
from cytoseg.json_text import load_json
from cytoseg.slides.pixel_size import are_alike, micrometres_in, plausible_mpp
from cytoseg.slides.planes import largest_scene

ZARR_SUFFIX = ".zarr"
"""Suffix of a folder that is a slide."""

ATTRIBUTES = ".zattrs"
"""Attribute file of a Zarr 2 group."""

DAMAGE = (OSError, ValueError, TypeError, LookupError, AttributeError)
"""Exceptions raised by missing or damaged metadata."""

_VERSION = "0.4"  # the version that most programs read
_AXES = "tczyx"
_RGB = (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"))


@dataclass(frozen=True)
class Multiscale:
    """A pyramid in an OME-Zarr folder.

    Attributes:
        axes: One letter per array axis: t, c, z, y and x in any order.
        arrays: Folders of the levels, finest first.
        size: Of level 0, in pixels.
        mpp: Micrometres per level-0 pixel, or None if unknown.
        note: Which of several scenes was chosen; empty for a single one.
    """

    axes: str
    arrays: tuple[Path, ...]
    size: Size
    mpp: float | None
    note: str = ""


def is_slide_folder(path: Path) -> bool:
    """Return whether a path is an OME-Zarr folder rather than a folder of slides."""
    return path.suffix.lower() == ZARR_SUFFIX and path.is_dir()


def read_multiscale(path: Path) -> Multiscale:
    """Read the metadata of an OME-Zarr folder; of several scenes (as bioformats2raw writes them) the largest.

    Raises:
        SlideError: If the metadata are missing, damaged, not of an image, or older than NGFF 0.4.
    """
    try:
        attributes = _attributes(path)
        if "multiscales" in attributes:
            return _multiscale(path, attributes)
        if "plate" in attributes or "well" in attributes:
            raise SlideError(f"{path.name}: contains a plate of wells. Copy one image into a separate folder.")
        found = [_multiscale(folder, _attributes(folder)) for folder in _scene_folders(path)]
    except DAMAGE as error:
        raise SlideError(
            f"{path.name}: the OME-Zarr metadata is missing or damaged ({_reason_of(error)}). Copy the folder again."
        ) from error
    if not found:
        raise SlideError(f"{path.name}: is not an OME-Zarr image (no multiscales). Export it as OME-Zarr 0.4.")
    index, note = largest_scene([scene.size.width * scene.size.height for scene in found])
    return replace(found[index], note=note)


def metadata(name: str, factors: Sequence[int], *, rgb: bool, mpp: float | None) -> dict[str, Any]:
    """Build NGFF 0.4 metadata for a folder with levels 0, 1, 2, ...

    Args:
        name: Name of the slide.
        factors: Downsample of each level.
        rgb: True for axes c, y, x; False for y, x.
        mpp: Micrometres per level-0 pixel, or None if unknown.
    """
    unit = {} if mpp is None else {"unit": "micrometer"}
    space: list[dict[str, str]] = [{"name": axis, "type": "space"} | unit for axis in "yx"]
    levels = []
    for level, factor in enumerate(factors):
        scale = [factor * (mpp or 1.0)] * 2
        transformation = {"type": "scale", "scale": [1.0, *scale] if rgb else scale}
        levels.append({"path": str(level), "coordinateTransformations": [transformation]})
    axes = [{"name": "c", "type": "channel"}, *space] if rgb else space
    found: dict[str, Any] = {
        "multiscales": [{"version": _VERSION, "name": name, "axes": axes, "datasets": levels}],
    }
    if rgb:
        window = {"min": 0, "max": 255, "start": 0, "end": 255}
        channels = [{"label": label, "color": hue, "active": True, "window": window} for label, hue in _RGB]
        found["omero"] = {"version": _VERSION, "channels": channels, "rdefs": {"model": "color"}}
    return found


def _attributes(folder: Path) -> dict[str, Any]:
    if (folder / "zarr.json").is_file():
        found = _json(folder / "zarr.json").get("attributes", {})
        return dict(found.get("ome", found))
    return dict(_json(folder / ATTRIBUTES))


def _json(path: Path) -> Any:
    return load_json(path)


def _scene_folders(path: Path) -> list[Path]:
    folders = [folder for folder in path.iterdir() if folder.name.isdecimal() and folder.is_dir()]
    numbered = sorted(folders, key=lambda folder: int(folder.name))
    return [folder for folder in numbered if "multiscales" in _attributes(folder)]


def _multiscale(folder: Path, attributes: Mapping[str, Any]) -> Multiscale:
    found = attributes["multiscales"][0]
    axes = [axis if isinstance(axis, str) else axis["name"] for axis in found["axes"]]
    letters = "".join(axes)
    if not set(axes) <= set(_AXES) or len(set(axes)) != len(axes) or not {"x", "y"} <= set(axes):
        raise ValueError(f"axes {letters!r}")
    arrays = tuple(folder / _inside(level["path"]) for level in found["datasets"])
    shape = _shape(arrays[0])
    if len(shape) != len(axes):
        raise ValueError(f"{len(axes)} axes for an array of {len(shape)}")
    size = Size(shape[letters.index("x")], shape[letters.index("y")])
    return Multiscale(letters, arrays, size, _mpp(found, letters))


def _inside(path: str) -> PurePosixPath:
    """Resolve a level's path, which must lie inside the folder."""
    inside = PurePosixPath(path)
    if inside.is_absolute() or ".." in inside.parts:
        raise ValueError(f"a level lies outside the folder: {path!r}")
    return inside


def _shape(array: Path) -> list[int]:
    values = _json(array / ("zarr.json" if (array / "zarr.json").is_file() else ".zarray"))
    return [int(side) for side in values["shape"]]


def _mpp(multiscale: Mapping[str, Any], letters: str) -> float | None:
    wide, high = (_step(multiscale, letters.index(axis)) for axis in "xy")
    return None if wide is None or (high is not None and not are_alike(wide, high)) else plausible_mpp(wide)


def _step(multiscale: Mapping[str, Any], axis: int) -> float | None:
    """Return the micrometres from one pixel to the next along an axis."""
    found = multiscale["axes"][axis]
    step = micrometres_in(found.get("unit", "")) if isinstance(found, dict) else None
    if step is None:  # without a unit, a scale of 1 carries no information
        return None
    for holder in (multiscale["datasets"][0], multiscale):
        for transformation in holder.get("coordinateTransformations", ()):
            step *= float(transformation["scale"][axis]) if transformation["type"] == "scale" else 1.0
    return step


def _reason_of(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)
