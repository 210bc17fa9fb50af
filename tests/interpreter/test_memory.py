import subprocess
import sys

import pytest
import torch

from cytoseg.interpreter.memory import training_bytes
from cytoseg.interpreter.settings import EnsembleSettings

MEASURED = """if True:
    import torch
    from cytoseg.allocator import release_memory, tune_cpu_allocator
    from cytoseg.features.pixel_table import PixelTable
    from cytoseg.interpreter.memory import training_bytes
    from cytoseg.interpreter.settings import EnsembleSettings
    from cytoseg.interpreter.train_mlps import train_ensemble
    from cytoseg.memory_use import peak_memory, resident_bytes
    tune_cpu_allocator()
    classes = torch.arange(500) % 3
    features = torch.randn(500, 4000).half()
    crops = torch.arange(500) % 5
    table = PixelTable(features, classes, crops, {0: 1, 1: 1, 2: 1})
    settings = EnsembleSettings(
        members=12, steps=3, passes=9.0, batch_px={batch}, dropout=0.3,
        early_stopping={early}, calibrate={calibrate}, seed=0,
    )
    cpu = torch.device("cpu")
    release_memory()
    held = resident_bytes()
    with peak_memory() as peak:
        train_ensemble(table, 3, slides=list("abcde"), settings=settings, device=cpu)
    print(peak.mb - held / 1e6, training_bytes(settings, pixels=500, inputs=4000, classes=3, device=cpu) / 1e6)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
@pytest.mark.parametrize(
    ("batch", "early", "calibrate"),
    [
        pytest.param(8, False, False, marks=pytest.mark.slow),  # each starts a program of its own
        pytest.param(256, False, False, marks=pytest.mark.slow),
        pytest.param(64, True, False, marks=pytest.mark.slow),
        pytest.param(64, False, True, marks=pytest.mark.slow),
    ],
)
def test_training_takes_the_stated_amount_and_not_much_less(batch: int, early: bool, calibrate: bool) -> None:
    values = {"{batch}": batch, "{early}": early, "{calibrate}": calibrate}
    code = MEASURED
    for name, value in values.items():
        code = code.replace(name, str(value))
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    took, told = (float(number) for number in done.stdout.split())
    assert 0.55 * told < took < 1.05 * told


def test_weights_that_are_kept_count_once_more_and_pixels_looked_at_as_they_are_read() -> None:
    values = {"members": 10, "inputs": 10_000}
    weights = 4 * 10 * (10_000 * 128 + 128 * 32 + 32 * 3)
    assert _told(**values, early_stopping=True) - _told(**values) == weights + 2 * 10 * 1000 * 10_000
    assert _told(**values, calibrate=True) == _told(**values)


def _told(device: str = "cpu", *, calibrate: bool = False, early_stopping: bool = False, **changes: int) -> int:
    values = {"members": 2, "steps": 9, "batch_px": 16, "pixels": 1000, "inputs": 50, "classes": 3} | changes
    sizes = {name: values.pop(name) for name in ("pixels", "inputs", "classes")}
    settings = EnsembleSettings(
        mode="tuned",
        **values,
        passes=9.0,
        rate=1e-3,
        dropout=0.3,
        weight_decay=0.0,
        etf_weight=0.0,
        early_stopping=early_stopping,
        calibrate=calibrate,
        seed=0,
    )
    return training_bytes(settings, **sizes, device=torch.device(device))


def test_pixels_count_by_their_shuffles_and_the_table_does_not() -> None:
    # Eight bytes for each member's pixels and its shuffle, and the one being drawn, twice; sixteen for class and crop.
    assert _told(pixels=2_001_000) - _told() == 2_000_000 * (8 * 6 + 16)


def test_batches_count_five_times_and_on_a_gpu_as_they_are_read() -> None:
    values = 2 * 800 * 20_000
    wide = {"inputs": 20_000, "batch_px": 200}
    assert _told(**(wide | {"batch_px": 1000})) - _told(**wide) == 5 * 4 * values
    assert _told("cuda", **(wide | {"batch_px": 1000})) - _told("cuda", **wide) == 4 * values


def test_weights_count_six_times() -> None:
    more = _told(members=100, inputs=20_000, batch_px=2) - _told(members=50, inputs=20_000, batch_px=2)
    weights = 50 * (20_000 * 128 + 128 * 32 + 32 * 3)
    assert more == 24 * weights + 20 * 50 * 2 * 20_000 + 2 * 8 * 50 * 1000
