"""Class map and disagreement of a predicted slide, which belong together and to its summary."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from cytoseg.errors import PredictionError
from cytoseg.maps.map_file import MapFile
from cytoseg.predict.summary import SUMMARY_NAME, SlideSummary, summary_of

CLASS_MAP = "class_map.ome.tif"
UNCERTAINTY = "uncertainty.ome.tif"
_MAP_SUFFIX = ".ome.tif"


@contextlib.contextmanager
def open_maps(folder: Path, versions: list[list[int]]) -> Iterator[tuple[MapFile, MapFile]]:
    """Open the class map and the disagreement of a predicted slide.

    Args:
        folder: Folder of the prediction.
        versions: From ``map_versions``, before anything else of the prediction was read.

    Raises:
        PredictionError: If one is missing or damaged, or has another size than the other one or than was predicted; or
            another command has predicted the slide again since.
    """
    with MapFile(folder / CLASS_MAP, ids=True) as ids, MapFile(folder / UNCERTAINTY) as nats:
        if ids.size != nats.size:
            raise PredictionError(f"{folder.name}: its maps differ in size. Predict the slide again.")
        if not _is_of_size(ids, summary_of(folder)):
            raise PredictionError(f"{folder.name}: its maps have another size than was predicted. Predict it again.")
        if map_versions(folder) != versions:
            raise PredictionError(f"{folder.name}: was predicted again meanwhile. Run the command again.")
        yield ids, nats


def map_versions(folder: Path) -> list[list[int]]:
    """Return bytes and modification time in ns of both maps and the summary, which tell whether they were replaced.

    Empty for one that is missing, which is reported when it is opened.
    """
    versions: list[list[int]] = []
    for name in (CLASS_MAP, UNCERTAINTY, SUMMARY_NAME):
        try:
            status = (folder / name).stat()
        except OSError:
            versions.append([])
        else:
            versions.append([status.st_size, status.st_mtime_ns])
    return versions


def are_whole(folder: Path, summary: SlideSummary) -> bool:
    """Return whether all maps named in a summary can be opened and have the size that was predicted."""
    try:
        for name in summary.files:
            if name.endswith(_MAP_SUFFIX):
                with MapFile(folder / Path(name).name) as found:  # the summary may come from another person
                    if not _is_of_size(found, summary):
                        return False
    except PredictionError:
        return False
    return True


def _is_of_size(found: MapFile, summary: SlideSummary) -> bool:
    return summary.size in (None, (found.size.width, found.size.height))
