"""Databases, tables, outlines and weights of a run mutated at random: read, or refused in one printable line."""

import hashlib
import json
import os
import random
import sqlite3
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.diffusion.adm import AdmShape, AdmUnet
from cytoseg.diffusion.adm_settings import AdmSettings
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.guided_diffusion_files import read_guided_diffusion
from cytoseg.diffusion.unet import build_unet
from cytoseg.errors import CheckpointError, CytosegError
from cytoseg.evaluation.learning_curve import gain_between, read_curves, worth
from cytoseg.features.settings import FeatureSettings
from cytoseg.formats.read_mask import read_mask
from cytoseg.geometry import Region, Size
from cytoseg.interpreter.bundle import Bundle, Interpreter, load_bundle, save_bundle
from cytoseg.interpreter.mlp import Ensemble
from cytoseg.interpreter.segdiff import SegDiff
from cytoseg.interpreter.student import Student
from cytoseg.jobs.job_database import FILE, JobPlace
from cytoseg.jobs.job_table import add_job, jobs_of, update_job
from cytoseg.jobs.processes import Process
from cytoseg.maps.map_spool import IDS, MapBand, MapSpool
from cytoseg.objects.geojson import ObjectFile, Outlined
from cytoseg.review.append_only import log_of
from cytoseg.review.review_log import Judgement, add_entry, read_entries
from cytoseg.slides.generated_mark import drawn_mark, png_text, read_mark
from cytoseg.viewer.object_outlines import ObjectPlaces, outlines_in
from tests.test_fuzz import NUMBERS, check, damaged, mutated, within_limits
from tests.test_fuzz_files import flipped

CLASSES = ClassList(("glass", "cell"), ((240, 240, 240), (0, 114, 178)), "glass")
PLACES = ObjectPlaces(np.array([1]), ["cell"], np.array([20.0]), np.array([10.0]), np.array([30.0]))
CURVES = "method,crops,draw,glass,cell\nmlps,5,0,0.9,0.4\nmlps,8,0,0.9,0.4\nmlps,30,0,0.95,0.6\n"
CELLS = ("", "nan", "inf", "1e999", "-1", "0", "x", '"', 5000 * "9", 200_000 * "y", "0.5", "\0")
FEWER = NUMBERS[: len(NUMBERS) // 5]
"""Seeds for networks, which take longest to read."""
VALUES = (None, -1, 2**63 - 1, 1e308, "", 3000 * "x", "\u202e\x1b[31m", b"\xff\0", "[", "[1]", "running", "lost")


def spoil_database(path: Path, whole: bytes, draw: random.Random) -> None:
    """Flip bytes of a database, or change a value or the form of a table."""
    for part in path.parent.glob(f"{path.name}*"):
        part.unlink()
    path.write_bytes(whole if draw.random() < 0.5 else flipped(whole, draw))
    if path.read_bytes() != whole:
        return
    connection = sqlite3.connect(path)
    try:
        names = connection.execute("SELECT type, name FROM sqlite_master WHERE type IN ('table', 'trigger')").fetchall()
        for trigger in (name for kind, name in names if kind == "trigger"):
            connection.execute(f"DROP TRIGGER {trigger}")
        table = next(name for kind, name in names if kind == "table" and not name.startswith("sqlite"))
        column = draw.choice([row[1] for row in connection.execute(f"PRAGMA table_info({table})")])
        if draw.random() < 0.8:
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE id = 1", (draw.choice(VALUES),))
        else:
            forms = (f"DROP TABLE {table}", f"ALTER TABLE {table} RENAME TO b", f"DELETE FROM {table}")
            connection.execute(draw.choice((*forms, f"ALTER TABLE {table} RENAME COLUMN {column} TO z")))
        connection.commit()
    except sqlite3.Error:  # the table itself refuses the value
        pass
    finally:
        connection.close()


def test_a_mutated_table_of_jobs(tmp_path: Path) -> None:
    place, path = JobPlace(tmp_path), tmp_path / FILE
    for _ in range(2):
        add_job(place, "evaluate", ("a",), author="x", device="cpu", start=lambda _: Process(os.getpid(), "b"))
    whole = path.read_bytes()

    def use() -> None:
        jobs_of(place)
        update_job(place, 1, done=3)

    for number in NUMBERS:
        spoil_database(path, whole, random.Random(f"jobs {number}"))
        check(use, number)


def test_a_mutated_review_log(tmp_path: Path) -> None:
    log, path = log_of(tmp_path, None), tmp_path / "review" / "log.sqlite"
    for author in ("Anna", "Ben"):
        add_entry(log, Judgement(author, "q", "c", "s", "accepted", "", "", ""))
    whole = path.read_bytes()
    for number in NUMBERS:
        spoil_database(path, whole, random.Random(f"log {number}"))
        check(lambda: read_entries(log), number)


def test_a_log_whose_schema_is_no_text_is_damaged(tmp_path: Path) -> None:
    log, path = log_of(tmp_path, None), tmp_path / "review" / "log.sqlite"
    add_entry(log, Judgement("Anna", "q", "c", "s", "accepted", "", "", ""))
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE", b"CREATE TABLE"[:-1] + b"\x8d"))
    with pytest.raises(CytosegError, match=r"^the review log log\.sqlite is damaged \(.*\)\. Restore a copy"):
        read_entries(log)


def test_a_mutated_learning_curve(tmp_path: Path) -> None:
    for number in NUMBERS:
        draw = random.Random(f"curves {number}")
        rows = [line.split(",") for line in CURVES.splitlines()]
        row = draw.choice(rows)
        column = draw.randrange(len(row))
        row[column : column + draw.randrange(2)] = [draw.choice(CELLS)] * draw.randrange(3)
        (tmp_path / "label_efficiency.csv").write_text("\n".join(map(",".join, rows)))
        for curve in read_curves(tmp_path, ("glass", "cell")).values():
            assert worth(curve, 1) is None or gain_between(curve, 1, 5, 9) is not None, number


def test_a_mutated_numpy_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for number in NUMBERS:
        draw = random.Random(f"npy {number}")
        kind = draw.choice(("u1", "i2", ">i4", "i8", "f4"))
        np.save(path, np.arange(60).reshape(6, 10).astype(kind))
        data = bytearray(path.read_bytes())
        for _ in range(draw.choice((1, 2, 5))):
            data[draw.randrange(draw.choice((10, 128)))] = draw.choice((draw.randrange(256), draw.randrange(32, 127)))
        path.write_bytes(data[: draw.choice((None, None, draw.randrange(len(data))))])
        check(lambda: read_mask(path, name="a.npy"), number)


def test_a_mutated_mark_of_a_sample() -> None:
    file = BytesIO()
    Image.new("RGB", (9, 9)).save(file, "png", pnginfo=png_text(drawn_mark("a DDIM sample, größer")))
    assert read_mark(file.getvalue()) is not None
    for number in NUMBERS:
        with within_limits():
            read_mark(flipped(file.getvalue(), random.Random(f"mark {number}")))


def test_mutated_outlines(tmp_path: Path) -> None:
    path, zipped = tmp_path / "objects.geojson", tmp_path / "objects.geojson.zip"
    with ObjectFile(path, slide="a.tif", classes=CLASSES, downsample=2) as file:
        file.add(Outlined(1, 1, 0, 0, np.ones((10, 20), np.bool_), {}))
    head, line, *rest = whole = path.read_bytes().split(b"\n")
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("objects.geojson", b"\n".join(whole))
    for number in NUMBERS:
        draw = random.Random(f"outlines {number}")
        changed = damaged(json.dumps(mutated(json.loads(line), draw)).encode(), draw).replace(b"\n", b"")
        path.write_bytes(b"\n".join([head, changed, *rest]))
        zipped.write_bytes(flipped(packed.getvalue(), draw))
        for found in (path, zipped):
            os.utime(found, ns=(number, number))
            check(lambda of=found: outlines_in(of, PLACES, Region(0, 0, 99, 99), pixel=1.0), number)  # type: ignore[misc] # its own


def test_mutated_rows_of_an_unfinished_prediction(tmp_path: Path) -> None:
    part = np.ones((4, 5), np.uint8)
    for number in NUMBERS:
        draw, spool = random.Random(f"rows {number}"), MapSpool(tmp_path, size=Size(5, 7))
        spool.write(MapBand(part, part.astype(np.float32), part), x=0, y=0)
        spool.finish(4)
        name = draw.choice(sorted(path.name for path in tmp_path.iterdir()))
        (tmp_path / name).write_bytes(flipped((tmp_path / name).read_bytes(), draw))
        rows = spool.rows
        assert spool.window(IDS, x=0, y=0, width=5, height=rows).shape == (rows, 5), number
        assert 0 <= rows <= 7, number


def test_a_mutated_published_network(tmp_path: Path) -> None:
    path, shape = tmp_path / "a.pt", AdmShape(8, (1, 2), 6, AdmSettings(blocks=1, attention=(2,)))
    torch.save(AdmUnet(shape).state_dict(), path)
    whole = path.read_bytes()
    assert read_guided_diffusion(path).shape == shape
    for number in FEWER:
        path.write_bytes(flipped(whole, random.Random(f"network {number}")))
        check(lambda: read_guided_diffusion(path), number)


INTERPRETERS: dict[str, Callable[[], Interpreter]] = {
    "mlps": lambda: Ensemble(2, 2 * (16 + 8), 2, seed=0),
    "student": lambda: Student(2, seed=0),
    "segdiff": lambda: SegDiff(2, seed=0, votes=2, draw_steps=2),
}


@pytest.mark.parametrize("name", INTERPRETERS)
def test_a_mutated_bundle(tmp_path: Path, name: str) -> None:
    tiny = Architecture(dim=8, dim_mults=(1, 2), timesteps=1000, schedule="linear", objective="pred_noise")
    features = FeatureSettings(("block0.block2", "block1.block1"), (50, 150), scale=2, noise_seed=9)
    given = (features, CLASSES, 0.5, "soft", "no", {"recipe": "tiny"})
    save_bundle(tmp_path, Bundle(build_unet(tiny, seed=1).eval(), tiny, INTERPRETERS[name]().eval(), *given))
    assert load_bundle(tmp_path).classes == CLASSES
    state, weights = tmp_path / "state.json", sorted(tmp_path.glob("*.safetensors"))
    whole = {path: path.read_bytes() for path in (state, *weights)}
    for number in FEWER:
        draw = random.Random(f"{name} {number}")
        damage_one_file(state, whole, draw)
        check(lambda: load_bundle(tmp_path), number)


def damage_one_file(state: Path, whole: dict[Path, bytes], draw: random.Random) -> None:
    """Write state.json and the weights as they were, and damage one of them."""
    for path, content in whole.items():
        path.write_bytes(content)
    if draw.random() < 0.6:
        state.write_bytes(damaged(json.dumps(mutated(json.loads(whole[state]), draw)).encode(), draw))
    else:
        spoil_weights(state, draw.choice(sorted(path for path in whole if path.suffix == ".safetensors")), draw)


def spoil_weights(state: Path, weights: Path, draw: random.Random) -> None:
    """Change one tensor, and write its file with the right hash."""
    tensors: dict[str, Any] = safetensors.torch.load(weights.read_bytes())
    name = draw.choice(sorted(tensors))
    was = tensors.pop(name)
    fill = draw.choice((0.0, float("nan"), 1e38, -1.0)) if was.is_floating_point() else -1
    for changed in draw.choice(
        ((), (was.to(torch.int32),), (was[None],), (torch.zeros(3),), (was.clone().fill_(fill),))
    ):
        tensors[name] = changed
    data = safetensors.torch.save(tensors)
    weights.write_bytes(data)
    found = json.loads(state.read_text())
    found["sha256"][weights.stem] = hashlib.sha256(data).hexdigest()
    state.write_text(json.dumps(found))


def test_a_bundle_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(json.dumps({"format": 1, "kind": "bundle", "sha256": {}}))
    with pytest.raises(CheckpointError, match=r"state\.json: damaged"):
        load_bundle(tmp_path)
