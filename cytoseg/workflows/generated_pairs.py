"""Generated pairs: samples of the diffusion model, labelled by the ensemble."""

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import DecompressionBombError

from cytoseg.classes import ClassList
from cytoseg.diffusion.sample_folder import SampleOrigin, sample_path, source_of
from cytoseg.errors import CytosegError, LabelError
from cytoseg.interpreter.bundle import EnsemblePredictor, bundle_state
from cytoseg.interpreter.pair_selection import GeneratedPair, picture_uncertainty
from cytoseg.labels.contact_sheet import draw_sheet
from cytoseg.labels.index import (
    INDEX_NAME,
    SHEET,
    CropName,
    LabelIndex,
    LabelledCrop,
    has_index,
    load_index,
    write_crop,
    write_index,
)
from cytoseg.records import RecordFile
from cytoseg.runs import MetricsLog, read_metrics
from cytoseg.slides.generated_mark import drawn_mark
from cytoseg.slides.optical_density import optical_density
from cytoseg.slides.parser_errors import DAMAGE
from cytoseg.terminal import progress
from cytoseg.workflows.drawn_samples import DrawnSamples
from cytoseg.writing import atomic_path, refuse_foreign, replaced, write_atomically

MADE = Path("made")
"""Folder of generated pairs within a run folder; its labels/ has the index of the pairs kept."""
SLIDE = "made"
"""Slide name of all generated crops."""
_ABOUT, _LOG, _MAPS = "made.json", "pairs.jsonl", "maps"
_TOGETHER, _ON_SHEET = 16, 200

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class _About:
    """What determines the labels: the samples' origin, ``labelling_of`` the bundle, the threshold of tissue."""

    samples: SampleOrigin
    bundle: dict[str, Any]
    tissue_threshold: float


_ADVICE = "Remove the folder and run the command again."
_FILE = RecordFile(_About, CytosegError, _ADVICE)
_ROW = RecordFile(GeneratedPair, CytosegError, _ADVICE)


@dataclass(frozen=True)
class SampleLabels:
    """Labels of samples in a folder, which are kept between commands.

    Attributes:
        folder: The folder made/ of a run.
        drawn: The samples.
        bundle: From ``labelling_of`` the bundle that labels them.
        tissue_threshold: Mean optical density above which a pixel counts as cells.
    """

    folder: Path
    drawn: DrawnSamples
    bundle: dict[str, Any]
    tissue_threshold: float

    def label(self, predictor: EnsemblePredictor) -> list[GeneratedPair]:
        """Label the samples that have no labels yet, by the same bundle.

        Returns:
            One pair per valid sample.
        """
        self._clear_if_other()
        there = self._read()
        missing = [number for number in self.drawn.numbers if number not in there]
        log = MetricsLog(self.folder / _LOG, keep_until=np.iinfo(np.int64).max)
        try:
            with progress("labels", len(self.drawn.numbers), done=len(there)) as bar:
                for pair in self._labelled(missing, predictor):
                    log.write(asdict(pair))
                    there[pair.number] = pair
                    bar.update(len(there))
        finally:
            log.close()
        return [there[number] for number in self.drawn.numbers]

    def label_map(self, number: int) -> Picture:
        """Read the label map of a sample, (H, W) uint8.

        Raises:
            CytosegError: If its file is damaged.
        """
        return _read(self._map_path(number), "L", self.drawn.origin.size_px)

    def picture(self, number: int) -> Picture:
        """Read a sample, (H, W, 3) uint8 RGB.

        Raises:
            CytosegError: If its file is damaged.
        """
        return _read(sample_path(self.drawn.folder, number), "RGB", self.drawn.origin.size_px)

    def _clear_if_other(self) -> None:
        about = _About(self.drawn.origin, self.bundle, self.tissue_threshold)
        if _FILE.read_or_none(self.folder / _ABOUT) != about:
            refuse_foreign(self.folder / _MAPS, ("[0-9]*.png",), error=LabelError)
            _remove(self.folder / _MAPS)
            (self.folder / _LOG).unlink(missing_ok=True)
            (self.folder / _MAPS).mkdir(parents=True)
            write_atomically(self.folder / _ABOUT, json.dumps(_FILE.content_of(about), indent=1))

    def _read(self) -> dict[int, GeneratedPair]:
        """Read the pairs labelled before; damaged rows and rows without a label map are labelled again."""
        found: dict[int, GeneratedPair] = {}
        for row in read_metrics(self.folder / _LOG):
            with contextlib.suppress(ValueError):
                pair = _ROW.record_of(row)
                found[pair.number] = pair
        return {number: found[number] for number in self.drawn.numbers if number in found and self._has_map(number)}

    def _has_map(self, number: int) -> bool:
        return self._map_path(number).exists()

    def _map_path(self, number: int) -> Path:
        return self.folder / _MAPS / f"{number:05d}.png"

    def _labelled(self, numbers: Sequence[int], predictor: EnsemblePredictor) -> Iterator[GeneratedPair]:
        at_once = min(_TOGETHER, predictor.tiles_at_once(self.drawn.origin.size_px))
        for first in range(0, len(numbers), at_once):
            some = numbers[first : first + at_once]
            pictures = np.stack([self.picture(number) for number in some])
            maps = predictor(pictures)
            for i, number in enumerate(some):
                with atomic_path(self._map_path(number)) as path:
                    Image.fromarray(maps["probabilities"][i].argmax(0).astype(np.uint8)).save(path)
                tissue = float((optical_density(pictures[i]).mean(2) > self.tissue_threshold).mean())
                yield GeneratedPair(number, picture_uncertainty(maps["disagreement"][i]), tissue)


def labelling_of(bundle: Path) -> dict[str, Any]:
    """Return what determines a bundle's label maps: its weights, their features, the voting rule, and the precision.

    Raises:
        CheckpointError: If it is missing, damaged or not a bundle.
    """
    state = bundle_state(bundle)
    return {key: state[key] for key in ("sha256", "features", "vote", "precision")}


def _read(path: Path, mode: str, size_px: int) -> Picture:
    """Read an image of a sample; a label map is grey, a sample grey or RGB."""
    try:
        if not path.is_file():  # opening a pipe would block
            raise OSError("no file")
        with Image.open(path, formats=("PNG",)) as image:
            if image.size != (size_px, size_px) or image.mode not in (mode, "L"):
                raise ValueError(f"{image.width}x{image.height} px, {image.mode}")
            return np.array(image.convert(mode))
    except (*DAMAGE, DecompressionBombError) as error:
        raise CytosegError(f"{path}: damaged ({error}). Remove it and run the command again.") from error


def _remove(folder: Path) -> None:
    """Remove a folder, or a file or link of its name."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def write_pairs(kept: Sequence[GeneratedPair], labels: SampleLabels, classes: ClassList) -> Path:
    """Write pairs as labelled crops of the slide ``made``, and replace those written before.

    Each image says in its PNG text that it is generated. Generated pairs are not part of the run's labels, so none is
    ever scored.

    Args:
        kept: One or more pairs.
        labels: Where their images and label maps are.
        classes: Names of the ids.

    Returns:
        The contact sheet.
    """
    origin, target = labels.drawn.origin, labels.folder / "labels"
    source = source_of(origin)
    mark = drawn_mark(f"{source}; labels by an ensemble")
    with replaced(target, error=LabelError, ours=(INDEX_NAME,)) as new:
        crops = [
            write_crop(
                new,
                CropName(f"made_{pair.number:05d}", SLIDE, f"{source}, number {pair.number}"),
                picture=labels.picture(pair.number),
                label_map=labels.label_map(pair.number),
                classes=classes,
                made=mark,
            )
            for pair in kept
        ]
        write_index(LabelIndex(new, classes.names, tuple(crops)))
        draw_sheet(crops[:_ON_SHEET], classes).save(new / SHEET)
    return target / SHEET


def generated_crops(run_folder: Path, count: int, classes: ClassList) -> tuple[LabelledCrop, ...]:
    """Read the first generated pairs of a run.

    Args:
        run_folder: The run folder.
        count: How many; none if 0.
        classes: The recipe's classes.

    Raises:
        LabelError: If there are fewer, they are damaged, or they have other classes.
    """
    if not count:
        return ()
    folder = run_folder / MADE / "labels"
    try:
        index = load_index(folder) if has_index(folder) else LabelIndex(folder, classes.names, ())
    except LabelError as error:
        raise LabelError(
            f"{folder / INDEX_NAME}: the generated pairs cannot be read. Delete {folder} and run `cytoseg make-pairs` "
            "again."
        ) from error
    if index.classes != classes.names:
        raise LabelError(
            f"{folder}: the pairs were made with the classes ({', '.join(index.classes)}), the recipe has "
            f"({', '.join(classes.names)}). Run `cytoseg make-pairs` again."
        )
    if len(index.crops) < count:
        raise LabelError(
            f"student.made={count}: {folder} holds {len(index.crops)} generated pairs. Run `cytoseg make-pairs` with a "
            "larger --n, or lower student.made."
        )
    return index.crops[:count]
