"""Every command that writes, on the tiny run: what is typed, and what it has made."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tifffile
import torch
from PIL import Image

from cytoseg.checkpoints import find_checkpoints, load_state
from cytoseg.diffusion.adm import AdmShape, AdmUnet
from cytoseg.diffusion.adm_settings import AdmSettings
from cytoseg.geometry import Region
from cytoseg.interpreter.bundle import bundle_hashes
from cytoseg.labels.index import load_index
from cytoseg.recipe import load_recipe
from cytoseg.slides.open import open_slide
from cytoseg.studies.feature_selection.settings import Effort
from cytoseg.workflows.preview_provenance import SHOWN

RUN = Path("runs", "tiny")
Found = Any


@dataclass(frozen=True)
class Case:
    """A command to kill.

    Attributes:
        line: What is typed.
        made: What it has made when it has ended well, to be compared.
        before: Commands that go before it.
        whole: What it says where one that was killed late had made everything.
    """

    line: str
    made: Callable[[], Found]
    before: tuple[str, ...] = field(default=())
    whole: str | None = None


def _labels() -> Found:
    crops = load_index(RUN / "labels").crops
    return [(crop.crop, crop.picture().tobytes(), crop.label_map().tobytes()) for crop in crops]


def _evaluation() -> Found:
    found = json.loads((RUN / "evaluation" / "evaluation.json").read_text())
    return [method["confusion"] for method in found["methods"]], sorted(os.listdir(RUN / "evaluation" / "crops"))


def _prediction() -> Found:
    folder = RUN / "predictions" / "made_2_01"
    return [(folder / name).read_bytes() for name in ("class_map.ome.tif", "uncertainty.ome.tif", "objects.geojson")]


def _rows(folder: str, count: str) -> list[int]:
    return [json.loads(line)[count] for line in (RUN / folder / "metrics.jsonl").read_text().splitlines()]


def _training() -> Found:
    newest = load_state(find_checkpoints(RUN / "ddpm")[0])
    shown = json.loads((RUN / "ddpm" / SHOWN).read_text())
    return newest["sha256"], _rows("ddpm", "crops_seen"), shown["pictures"], shown["check"]


def _tuning() -> Found:
    return bundle_hashes(RUN / "interpreter" / "bundle"), _rows("interpreter", "step")


def _bundle() -> Found:
    return bundle_hashes(RUN / "interpreter" / "bundle")


def _queue() -> Found:
    # What was written before a kill stays, and the same command queues more beside it: another choice may come of it.
    items = json.loads((RUN / "queue" / "queue.json").read_text())["items"]
    states, crops = {item["state"] for item in items}, sorted(item["crop"] for item in items)
    return len(items) >= 2, states, crops == sorted(path.stem for path in (RUN / "queue").glob("*.png"))


def _counts_of(folder: str) -> Found:
    return {path.name: json.loads(path.read_text())["counts"] for path in sorted((RUN / folder / "runs").iterdir())}


def _pairs() -> Found:
    crops = load_index(RUN / "made" / "labels").crops
    return [(crop.crop, crop.image_sha256, crop.label_sha256) for crop in crops]


def _edited() -> Found:
    return (RUN / "edited" / "crop_0.png").read_bytes()


def _scores() -> Found:
    found = json.loads((RUN / "samples" / "scores.json").read_text())
    return found["samples"], found["floor"]


def _samples() -> Found:
    return [path.read_bytes() for path in sorted((RUN / "samples").glob("sample_*.png"))]


def _report() -> Found:
    return (RUN / "report.html").read_text().count("<img")


def _autoencoder() -> Found:
    return load_state(find_checkpoints(RUN / "autoencoder")[0])["sha256"], _rows("autoencoder", "crops_seen")


def _variants() -> Found:
    runs = sorted((RUN / "architectures" / "runs").iterdir())
    outcomes = {path.name: json.loads(path.read_text())["outcome"] for path in runs}
    return {name: (outcome["losses"], outcome["iou"]) for name, outcome in outcomes.items()}


def _export() -> Found:
    return {path.name: path.read_bytes() for path in Path("exported").iterdir()}


def _selection() -> Found:
    # It measures times, too: another choice may come of it.
    return (RUN / "select_features" / "select_features.png").is_file(), load_recipe(
        "tiny.yaml"
    ).features.timesteps != ()


def _anomalies() -> Found:
    folder = RUN / "anomaly" / "part"
    return [(folder / name).read_bytes() for name in ("anomaly.ome.tif", "residual.ome.tif", "regions.csv")]


def _imported() -> Found:
    return load_state(Path("published"))["sha256"]


def _label_export() -> Found:
    return {path.name: path.read_bytes() for path in Path("exported_labels").iterdir()}


def _converted() -> Found:
    with open_slide("converted.ome.tif") as slide:
        size = slide.levels[0].size
        return size, slide.mpp, slide.read_region(Region(0, 0, size.width, size.height)).tobytes()


def _generated() -> Found:
    return {path.name: path.read_bytes() for path in Path("more_made").rglob("*.*")}


STUDENT = "interpreter.kind=student student.teacher=mlps student.steps=4 student.crops=2"
EFFORT = Effort(members=2, steps=2, batch_px=16, train_px=40, held_out_px=60, seeds=1)
SEGDIFF = "interpreter.kind=segdiff segdiff.steps=4 segdiff.size_px=32 segdiff.votes=2 segdiff.draw_steps=2"
DRAWN = "sample tiny.yaml --n 8 --steps 2"
CASES = {
    "label-import": Case("label-import more --recipe tiny.yaml", _labels),
    "evaluate": Case("evaluate tiny.yaml --no-baseline features.scale=1", _evaluation),
    "predict": Case("predict tiny.yaml made/slides/made_2_01.ome.tif", _prediction),
    "train-ddpm": Case("train-ddpm tiny.yaml training.crops=48 --resume", _training),
    "decoder": Case(
        "train-interpreter tiny.yaml interpreter.kind=decoder decoder.steps=20 decoder.size_px=32 decoder.batch=2",
        _tuning,
    ),
    "mlps": Case("train-interpreter tiny.yaml interpreter.steps=5", _bundle),
    "student": Case(f"train-interpreter tiny.yaml {STUDENT}", _bundle),
    "queue": Case("queue tiny.yaml --n 2", _queue, ("predict tiny.yaml made/slides/made_2_02.ome.tif",)),
    "compare": Case("compare tiny.yaml --quick interpreter.steps=5", lambda: _counts_of("compare")),
    "study": Case(
        "study label-efficiency tiny.yaml --quick --draws 1 --counts 1 interpreter.steps=5",
        lambda: _counts_of("label_efficiency"),
    ),
    "sample": Case(DRAWN, _samples),
    "make-pairs": Case("make-pairs tiny.yaml --n 4 --drop 0.5 --steps 2", _pairs),
    "edit": Case("edit tiny.yaml crop.png --map map.png --steps 2", _edited),
    "score-samples": Case("score-samples tiny.yaml --draws 1", _scores, (DRAWN,)),
    "report": Case("report tiny.yaml", _report),
    "segdiff": Case(f"train-interpreter tiny.yaml {SEGDIFF}", _bundle),
    "robustness": Case(
        "study robustness tiny.yaml --quick --severities 1 --corruptions defocus", lambda: _counts_of("robustness")
    ),
    "architectures": Case(
        "study architectures tiny.yaml --variants base --seeds 1 --samples 8 training.crops=8 training.batch=4",
        _variants,
    ),
    "train-autoencoder": Case(
        "train-autoencoder tiny.yaml space.kind=kl space.dim=8 space.crops=24 training.samples=0 --resume", _autoencoder
    ),
    "select-features": Case('select-features tiny.yaml labels.test_slides=["*_00"]', _selection),
    "anomaly": Case("anomaly tiny.yaml part.tif --normal other.tif", _anomalies),
    "import-model": Case("import-model published.pt published", _imported, whole="published: already exists"),
    "export": Case("export tiny.yaml exported", _export, whole="exported: already exists"),
    "label-export": Case("label-export tiny.yaml exported_labels", _label_export, whole="exported_labels: "),
    "convert": Case(
        "slides convert made/slides/made_2_00.ome.tif converted.ome.tif", _converted, whole="converted.ome.tif: "
    ),
    "generate": Case(
        "slides generate more_made --n 2 --width 256 --height 256 --crops 1 --crop-px 64 --seed 2", _generated
    ),
    "whole compare": Case("compare tiny.yaml interpreter.steps=5 --seeds 1", lambda: _counts_of("compare")),
    "whole study": Case(
        "study label-efficiency tiny.yaml --draws 1 --counts 1 interpreter.steps=5",
        lambda: _counts_of("label_efficiency"),
    ),
}


def make_inputs(home: Path) -> None:
    """Make further inputs of the commands: a crop to import, a map to edit, a published network, parts of slides."""
    _add_crop(home)
    crop = load_index(home / RUN / "labels").crops[0]
    Image.fromarray(crop.picture()).save(home / "crop.png")
    ids = crop.label_map().copy()
    ids[20:30, 20:30] = (ids[20:30, 20:30] + 1) % 3
    Image.fromarray(ids).save(home / "map.png")
    shape = AdmShape(8, (1, 2), 6, AdmSettings(blocks=1, attention=(2,)))
    torch.manual_seed(3)
    torch.save({name: 0.1 * torch.randn(t.shape) for name, t in AdmUnet(shape).state_dict().items()}, "published.pt")
    cut_part("made_2_00", "part.tif")
    cut_part("made_2_02", "other.tif")


def cut_part(slide: str, name: str) -> str:
    """Write the upper left 80 x 80 px of a made slide to a file; gives the file."""
    with open_slide(f"made/slides/{slide}.ome.tif") as opened:
        pixels = opened.read_region(Region(0, 0, 80, 80))
    tifffile.imwrite(name, pixels, tile=(32, 32), resolution=(20_000, 20_000), resolutionunit="CENTIMETER")
    return name


def _add_crop(home: Path) -> None:
    (home / "more").mkdir()
    for path in sorted((home / "made" / "labelled").glob("*"))[:2]:
        shutil.copy(path, home / "more" / f"seventh{path.suffix}")
    path = home / "more" / "seventh.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"imagePath": "seventh.png"}))


def put_back(home: Path, kept: Path, *, first: bool = False) -> None:
    """Make a folder what it was, without making it anew; the first time, keep a copy of it instead."""
    if first:
        shutil.copytree(home, kept)
        return
    for path in home.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(kept, home, dirs_exist_ok=True)
