"""Benchmarks start, and those of the interpreter run."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).parent / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_what_a_benchmark_imports_is_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _benchmark(name, monkeypatch).__doc__


def _benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)  # some are begun as scripts, and import what lies beside them
    return importlib.import_module(f"tests.benchmarks.{name}")


@pytest.mark.parametrize("kind", ["ours", pytest.param("dense", marks=pytest.mark.slow)])
def test_gathering_and_training_are_measured(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = _benchmark("interpreter_jobs", monkeypatch)
    job = jobs.Job(kind, crops=2, size_px=32, dim=8, precision="no", members=2, steps=2)
    found = getattr(jobs, kind)(job)
    pixels = 2 * 32**2
    assert found["pixels"] == pixels if kind == "dense" else 200 < found["pixels"] <= pixels
    width = {"dense": 4, "ours": 2}[kind] * found["pixels"]  # bytes of one feature of all pixels
    assert found["table_gb"] * 1e9 / width == pytest.approx(10_176 / 64 * 8)  # channels grow with dim
    assert found["training_cpu_s"] > 0


@pytest.mark.slow
def test_ways_of_segmenting_a_tile_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = _benchmark("tile_steps", monkeypatch)
    tile = steps.draw_picture(32)
    ours, dense = (
        getattr(steps, way)(steps.Job(way, dim=8, size_px=32, precision="no"))(tile) for way in ("ours", "dense")
    )
    assert np.mean(ours.ravel() == dense.numpy()) > 0.99


def test_edits_remove_and_add_a_nucleus_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    edits = _benchmark("edits", monkeypatch)
    truth, donor = np.ones((24, 24), np.uint8), np.ones((24, 24), np.uint8)
    truth[4:9, 4:9], donor[12:17, 12:18] = 2, 2
    picture = np.zeros((24, 24, 3), np.uint8)
    removed, added, drawn, *_ = edits.tasks_of([(picture, truth), (picture, donor)], 2)
    assert (removed.kind, int(removed.nucleus.sum()), set(removed.edit.wanted.ravel())) == ("removed", 25, {1})
    assert (added.kind, int((added.edit.wanted == 2).sum())) == ("added", 25 + 30)
    assert drawn.edit.region.all()
    changed = picture.copy()
    changed[0, 0], changed[5, 5] = 1, 1  # outside the region, and in it
    assert not removed.edit.region[0, 0]
    found = np.where(removed.nucleus, 1, truth).astype(np.uint8)
    found[4, 4] = 2
    counts = edits.judged(removed, changed, found, truth, donor)
    assert counts["outside"] == 1
    assert (counts["asked"], counts["other"]) == ([0, 1], [0, 1])
    assert (counts["there"], counts["before"]) == (0.04, 1.0)


def test_pieces_of_the_study_of_made_pairs_share_their_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    worth = _benchmark("made_worth", monkeypatch)
    pieces = list(worth.pieces_of([1, 5], 2))
    assert len(pieces) == 2 * 2 * 3 * 2
    assert {piece.name() for piece in pieces if piece.count == 1} == {"1c0", "1c0_made", "1c1", "1c1_made"}
    assert worth.Piece(5, 0, "student", True).name() == "5c0"  # its pairs are no labels of its run
    rows = [{"count": 1, "draw": d, "method": "mlps", "made": False, "iou": 0.5 + d / 10} for d in range(2)]
    assert worth.table_of(rows, [1]).rows[0] == ["mlps", "without", "0.550 (0.500-0.600)"]


def test_dropped_pairs_are_compared_with_kept_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = _benchmark("made_pairs", monkeypatch)
    right, wrong = np.diag([6, 4]), np.array([[5, 1], [2, 2]])  # mean IoU 1, and (5/8 + 2/5) / 2
    judged = [
        pairs.JudgedPair(
            pairs.GeneratedPair(i, float(i >= 8), 0.5), *[np.zeros((1, 1))] * 3, wrong if i >= 8 else right
        )
        for i in range(10)
    ]
    row = pairs.table_of(judged, [0.2], ["cytoplasm", "nucleus"]).rows[0]
    assert row[:7] == ["0.2", 8, 2, "1.000", "0.400", "1.000", "0.512"]
    assert row[7] == "+0.488 (+0.488 to +0.488)"


def test_nuclei_are_found_near_their_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = _benchmark("other_laboratory", monkeypatch)
    for name in ("a", "b"):
        Image.new("RGB", (20, 10)).save(tmp_path / f"{name}.png")
    rows = [f"a.png,6,4,{other.NORMAL}", f"a.png,19,9,{other.NORMAL}", "a.png,10,4,LSIL", "b.png,1,1,LSIL"]
    points = "\n".join(["image_filename,x,y,bethesda_system", *rows])
    (tmp_path / "points.csv").write_text(points)
    (field,) = other.read_fields(tmp_path, tmp_path / "points.csv", shrink=0.5, every=2)
    assert field.picture.shape == (5, 10, 3)
    assert field.points.tolist() == [[3, 2], [9.5, 4.5], [5, 2]]
    mask = np.zeros((5, 10), np.uint8)
    mask[2, 1] = 2  # its centre is 1.58 px from the first point and 3.54 px from the last
    found = other.score(lambda _: mask, [field], wanted=2, near=1.6)
    assert found == {"found": "0.3333", "normal": "0.5000", "abnormal": "0.0000", "covered": "0.0200"}
    assert other.score(lambda _: mask, [field], wanted=2, near=1.5)["found"] == "0.0000"
