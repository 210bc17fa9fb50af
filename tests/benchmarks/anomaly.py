"""Anomaly scores of a run against exact ground truth: normal slides, dyskaryotic cells, added ink, grain and blur.

    python -m tests.benchmarks.anomaly RECIPE FOLDER [section.key=value ...]

The recipe's run must have a diffusion model and a bundle trained on synthetic slides. Slides are generated in FOLDER,
with seeds that no other benchmark uses, and kept there. Scores are written to anomaly/ in the run folder; slides that
have scores are not scored again. Writes results/anomaly_made.md and .json, and docs/anomaly.jpg.
"""

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from cytoseg.anomaly.regions import read_list
from cytoseg.anomaly.thresholds import NormalSlide
from cytoseg.geometry import Region
from cytoseg.maps.map_file import MapFile
from cytoseg.predict.slide import OnProgress
from cytoseg.slides.optical_density import optical_density
from cytoseg.synthetic.draw import draw_kinds, draw_region
from cytoseg.synthetic.generate import CLASS_NAMES, slide_scene
from cytoseg.synthetic.plan import CELL_KINDS
from cytoseg.workflows.anomaly import learn_thresholds, load_scorer, score_slides
from cytoseg.workflows.recorded_command import start_run
from tests.benchmarks.anomaly_picture import ScoredSlide, save_figure
from tests.benchmarks.machine import RESULTS, Table, describe, shared_note, write_results

SIDE_PX, MPP = 1024, 0.5
NORMAL, HELD_OUT, ABNORMAL = range(9001, 9007), range(9011, 9015), range(9021, 9025)
"""Seeds of the slides for the thresholds, for the falsely flagged area, and with dyskaryotic cells."""
SHARE = 0.3
"""Share of dyskaryotic cells in the last of these, so that a small slide has a few dozen."""
PLANTED = ("ink", "grain", "blur")
SPOTS, RADIUS_UM = 8, 20.0
DOCS = RESULTS.parents[2] / "docs"
SCORES = ("texture", "shape", "anomaly", "residual")
FEWEST_NUCLEUS_PX = 60


@dataclass(frozen=True)
class Object:
    """A nucleus: its kind, the mean of each score over its pixels, and area times mean optical density."""

    kind: str
    scores: tuple[float, ...]
    trivial: float


def main() -> None:
    """Generate the slides, score them and compare with the ground truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("folder", type=Path)
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    machine = describe()
    made = {seed: _make(given.folder, seed, share=0.0) for seed in (*NORMAL, *HELD_OUT)}
    made |= {seed: _make(given.folder, seed, share=SHARE) for seed in ABNORMAL}
    planted = {seed: _plant(given.folder, seed) for seed in HELD_OUT}
    with start_run(given.recipe, given.overrides, command="anomaly") as current:
        scorer = load_scorer(current, _silent)
        thresholds = learn_thresholds(scorer, [made[seed] for seed in NORMAL])
        paths = [made[seed] for seed in (*HELD_OUT, *ABNORMAL)] + [*planted.values()]
        failed = [error for _, error in score_slides(scorer, paths, thresholds) if error]
    if failed:
        raise SystemExit("\n".join(failed))
    tables = _tables(scorer.folder, made, planted)
    save_figure(DOCS / "anomaly.jpg", _shown(scorer.folder, made[ABNORMAL[0]], planted[HELD_OUT[0]]))
    notes = _notes(machine, thresholds.slides, crops=str(current.recipe.name))
    print(write_results("anomaly_made", "Anomaly scores of synthetic slides", tables, machine=machine, notes=notes))


@contextlib.contextmanager
def _silent(name: str) -> Iterator[OnProgress]:
    print(name, flush=True)
    yield lambda _what, _done, _total: None


def _make(folder: Path, seed: int, *, share: float) -> Path:
    path = folder / f"made_{seed}.png"
    if not path.exists():
        picture, _ = draw_region(
            slide_scene(seed, mpp=MPP, stain=None, dyskaryotic=share), Region(0, 0, SIDE_PX, SIDE_PX)
        )
        _save(path, picture)
    return path


def _save(path: Path, picture: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, dpi=(25_400 / MPP, 25_400 / MPP))


def _plant(folder: Path, seed: int) -> Path:
    """Add spots of ink, grain and blur over the cells of a held-out normal slide."""
    path = folder / f"planted_{seed}.png"
    if not path.exists():
        picture, labels = _truth(seed, share=0.0)
        wide = picture.astype(np.float32)
        changed = {
            "ink": wide * 0.15 + 0.85 * np.array((25, 30, 120), np.float32),
            "grain": wide + np.random.default_rng(0).normal(0, 25, wide.shape),
            "blur": ndimage.gaussian_filter(wide, (4 / MPP, 4 / MPP, 0)),
        }
        for what, spots in _spots(labels).items():
            wide = np.where(spots[..., None], changed[what], wide)
        _save(path, wide.round().clip(0, 255).astype(np.uint8))
    return path


def _spots(labels: NDArray[np.uint8]) -> dict[str, NDArray[np.bool_]]:
    """Return the altered areas: discs around random pixels of cells, without overlap."""
    ys, xs = np.nonzero(labels > 0)
    chosen = np.random.default_rng(1).choice(len(ys), SPOTS * len(PLANTED), replace=False)
    found, free = {}, np.ones(labels.shape, np.bool_)
    for number, what in enumerate(PLANTED):
        far = np.ones(labels.shape, np.bool_)
        own = chosen[number * SPOTS : (number + 1) * SPOTS]
        far[ys[own], xs[own]] = False
        found[what] = (ndimage.distance_transform_edt(far) * MPP < RADIUS_UM) & free
        free &= ~found[what]
    return found


def _truth(seed: int, *, share: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    scene = slide_scene(seed, mpp=MPP, stain=None, dyskaryotic=share)
    return draw_region(scene, Region(0, 0, SIDE_PX, SIDE_PX))


def _read(folder: Path, slide: Path, name: str) -> NDArray[np.float32]:
    """Read a map of a scored slide, upsampled to the slide's pixels."""
    with MapFile(folder / slide.stem / f"{name}.ome.tif") as found:
        values = found.read(0, 0, width=found.size.width, height=found.size.height)
    factor = SIDE_PX // values.shape[0]
    return np.asarray(values.repeat(factor, axis=0).repeat(factor, axis=1), np.float32)


def _tables(folder: Path, made: dict[int, Path], planted: dict[int, Path]) -> list[Table]:
    areas = [read_list(folder / made[seed].stem).areas for seed in HELD_OUT]
    rows: list[list[Any]] = [
        [made[seed].stem, *(f"{own[name]:.2%}" for name in ("texture", "shape"))]
        for seed, own in zip(HELD_OUT, areas, strict=True)
    ]
    rows.append(["mean", *(f"{np.mean([own[name] for own in areas]):.2%}" for name in ("texture", "shape"))])
    tables = [Table("False area", "Held-out normal slides; the target is 2.5 %.", ("slide", "texture", "shape"), rows)]
    objects = [one for seed in ABNORMAL for one in _objects(folder, made[seed], seed)]
    counts = {kind: sum(one.kind == kind for one in objects) for kind in CELL_KINDS}
    note = "AUROC of dyskaryotic nuclei by their mean score. Nuclei: " + ", ".join(
        f"{n} {k}" for k, n in counts.items()
    )
    others = {"intermediate": ("intermediate",), "all others": tuple(k for k in CELL_KINDS if k != "dyskaryotic")}
    rows = [[f"against {name}", *_object_rocs(objects, kinds)] for name, kinds in others.items()]
    tables.append(Table("Dyskaryotic cells", f"{note}.", ("", *SCORES, "area x darkness"), rows))
    tables.append(_planted_table(folder, planted))
    return tables


def _planted_table(folder: Path, planted: dict[int, Path]) -> Table:
    """Compare the spots of each kind with the pixels without any, pooled over slides."""
    spots = [_spots(_truth(seed, share=0.0)[1]) for seed in planted]
    clean = np.stack([~np.logical_or.reduce(list(own.values())) for own in spots])
    maps = [np.stack([_read(folder, path, name) for path in planted.values()]) for name in SCORES]
    rows = []
    for what in PLANTED:
        own = np.stack([of_slide[what] for of_slide in spots])
        rows.append([what, *(_auroc(own[own | clean], one[own | clean]) for one in maps)])
    note = (
        f"Pixel AUROC of {SPOTS} spots of radius {RADIUS_UM:g} µm each on {len(planted)} slides against all their "
        "pixels without a spot."
    )
    return Table("Planted", note, ("planted", *SCORES), rows)


def _shown(folder: Path, abnormal: Path, planted: Path) -> list[ScoredSlide]:
    """Read the slides shown in the figure: the first with spots and the first with dyskaryotic cells."""
    kinds = draw_kinds(slide_scene(ABNORMAL[0], mpp=MPP, stain=None, dyskaryotic=SHARE), Region(0, 0, SIDE_PX, SIDE_PX))
    _, labels = _truth(ABNORMAL[0], share=SHARE)
    nuclei = (labels == CLASS_NAMES.index("nucleus")) & (kinds == 1 + CELL_KINDS.index("dyskaryotic"))
    spots = _spots(_truth(HELD_OUT[0], share=0.0)[1])
    found = []
    for title, path, truth in (
        ("planted spots", planted, spots),
        ("dyskaryotic cells", abnormal, {"dyskaryotic nucleus": nuclei}),
    ):
        texture, shape = (_read(folder, path, name) for name in ("texture", "shape"))
        found.append(ScoredSlide(title, np.asarray(Image.open(path)), truth, texture, shape))
    return found


def _objects(folder: Path, slide: Path, seed: int) -> list[Object]:
    picture, labels = _truth(seed, share=SHARE)
    kinds = draw_kinds(slide_scene(seed, mpp=MPP, stain=None, dyskaryotic=SHARE), Region(0, 0, SIDE_PX, SIDE_PX))
    numbers, count = ndimage.label(labels == CLASS_NAMES.index("nucleus"))
    maps = [_read(folder, slide, name) for name in SCORES]
    density = optical_density(picture.astype(np.float32)).mean(axis=2)
    found = []
    for number, box in enumerate(ndimage.find_objects(numbers, count), start=1):
        own = numbers[box] == number
        kind = int(np.bincount(kinds[box][own]).argmax())
        if own.sum() >= FEWEST_NUCLEUS_PX and kind:
            scores = tuple(float(one[box][own].mean()) for one in maps)
            found.append(Object(CELL_KINDS[kind - 1], scores, float(own.sum() * density[box][own].mean())))
    return found


def _object_rocs(objects: Sequence[Object], others: tuple[str, ...]) -> list[str]:
    kept = [one for one in objects if one.kind == "dyskaryotic" or one.kind in others]
    truth = np.array([one.kind == "dyskaryotic" for one in kept])
    columns = [*zip(*(one.scores for one in kept), strict=True), tuple(one.trivial for one in kept)]
    return [_auroc(truth, np.array(column)) for column in columns]


def _auroc(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> str:
    if truth.all() or not truth.any():
        return "-"
    return f"{roc_auc_score(truth.ravel(), scores.ravel()):.3f}"


def _notes(machine: dict[str, Any], normal: Sequence[NormalSlide], *, crops: str) -> str:
    pixels = sum(slide.pixels for slide in normal)
    return (
        f"{shared_note(machine)} Run {crops}; thresholds from {len(normal)} normal slides of {SIDE_PX} px at {MPP} µm, "
        f"{pixels:,} pixels of the maps. Slides with dyskaryotic cells have a share of {SHARE:g}."
    )


if __name__ == "__main__":
    main()
