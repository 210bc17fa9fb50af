"""Kills and signals at random moments: the next command works, nothing is lost or half-written.

A command is killed or asked to end before the n-th time that it opens a file for writing, renames, makes or removes
something: that is every state in which a kill can leave the disk. The moments are drawn from a seed. CYTOSEG_KILLS sets
how many there are for each command.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import Result

from cytoseg.checkpoints import find_checkpoints, load_state
from cytoseg.diffusion.adm import AdmShape, AdmUnet
from cytoseg.diffusion.adm_settings import AdmSettings
from cytoseg.interpreter.bundle import bundle_hashes
from cytoseg.interrupts import INTERRUPTED, end_signals_as_ctrl_c
from cytoseg.labels.index import load_index
from cytoseg.recipe import load_recipe
from cytoseg.studies.feature_selection.settings import Effort
from cytoseg.workflows import drawn_samples
from cytoseg.workflows.preview_provenance import SHOWN
from tests.end_to_end.conftest import cut_part

pytestmark = [pytest.mark.posix, pytest.mark.usefixtures("short_networks")]
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.copytree", "shutil.copyfile")
KILLS = int(os.environ.get("CYTOSEG_KILLS", "30"))
SIGNALS = tuple(getattr(signal, name, None) for name in ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT"))
WRITES = os.O_WRONLY | os.O_RDWR
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
}


def _is_change(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        return isinstance(arguments[0], str) and bool(flags & WRITES)
    return event in CHANGES


def _run_and_kill(command: Callable[[], Result], at: int, by: int | None = None) -> tuple[int, int]:
    """Run a command in a fork and send it a signal, SIGKILL by default, before its change number ``at``.

    Gives its exit status, negative after a kill, and how many changes it came to.
    """
    ours, theirs = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forks beside threads
        process = os.fork()
    if process == 0:
        count, status = 0, 1

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if _is_change(event, arguments):
                count += 1
                if count == at:
                    os.kill(os.getpid(), signal.SIGKILL if by is None else by)

        sys.addaudithook(watch)
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            with end_signals_as_ctrl_c():
                status = command().exit_code
            os.write(theirs, str(count).encode())
        except KeyboardInterrupt:
            status = INTERRUPTED
        finally:
            os._exit(status)
    os.close(theirs)
    _, ended = os.waitpid(process, 0)
    with os.fdopen(ours) as file:
        return os.waitstatus_to_exitcode(ended), int(file.read() or 0)


def _kill_at_random_moments(case: Case, cytoseg: Callable[..., Result], home: Path, *, kills: int, seed: int) -> None:
    command = lambda: cytoseg(*case.line.split())  # noqa: E731 - an argument with a name
    for line in case.before:
        assert cytoseg(*line.split()).exit_code == 0, line
    before = home.with_name("before")
    shutil.copytree(home, before)
    status, changes = _run_and_kill(command, at=0)
    assert status == 0
    assert changes > 0
    wanted = case.made()
    draw = random.Random(seed)
    for _ in range(kills):
        at, by = draw.randint(1, changes), draw.choice(SIGNALS)
        for path in home.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(before, home, dirs_exist_ok=True)
        status, _ = _run_and_kill(command, at=at, by=by)
        # What ends in the last moments may have ended well before a signal is heard.
        assert status == -by if by == signal.SIGKILL else status in (0, INTERRUPTED), (at, by, status)
        time.sleep(0.25)  # as long as a command takes to start
        again = command()
        is_whole = case.whole is not None and case.whole in again.output
        assert again.exit_code == 0 or is_whole, (at, by, again.output)
        assert case.made() == wanted, (at, by)
        assert list(home.rglob(".*")) == [], (at, by)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every sample."""
    monkeypatch.setattr(drawn_samples, "fault_of", lambda _: None)
    monkeypatch.setattr("cytoseg.workflows.robustness.QUICK", ("commonest",))
    monkeypatch.setattr("cytoseg.commands.select_features.EFFORT", EFFORT)


@pytest.fixture
def more(home: Path) -> None:
    """One crop to add to those that were imported."""
    (home / "more").mkdir()
    for path in sorted((home / "made" / "labelled").glob("*"))[:2]:
        shutil.copy(path, home / "more" / f"seventh{path.suffix}")
    path = home / "more" / "seventh.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"imagePath": "seventh.png"}))


@pytest.mark.usefixtures("more")
def test_labels_survive_kills_at_random_moments(home: Path, cytoseg: Callable[..., Result]) -> None:
    _kill_at_random_moments(CASES["label-import"], cytoseg, home, kills=6, seed=1)


@pytest.fixture
def changed_map(home: Path) -> None:
    """A labelled crop, and its label map with a square changed, to edit."""
    crop = load_index(home / RUN / "labels").crops[0]
    Image.fromarray(crop.picture()).save(home / "crop.png")
    ids = crop.label_map().copy()
    ids[20:30, 20:30] = (ids[20:30, 20:30] + 1) % 3
    Image.fromarray(ids).save(home / "map.png")


@pytest.fixture
def published(home: Path) -> None:
    """A small network as guided-diffusion saves it."""
    shape = AdmShape(8, (1, 2), 6, AdmSettings(blocks=1, attention=(2,)))
    torch.manual_seed(3)
    torch.save({name: 0.1 * torch.randn(t.shape) for name, t in AdmUnet(shape).state_dict().items()}, "published.pt")


@pytest.fixture
def parts(home: Path) -> None:
    """Parts of two slides, the second to be normal."""
    cut_part("made_2_00", "part.tif")
    cut_part("made_2_02", "other.tif")


@pytest.mark.slow
@pytest.mark.usefixtures("more", "changed_map", "published", "parts")
@pytest.mark.parametrize("name", CASES)
def test_every_command_survives_kills_at_random_moments(name: str, home: Path, cytoseg: Callable[..., Result]) -> None:
    _kill_at_random_moments(CASES[name], cytoseg, home, kills=KILLS, seed=2)
