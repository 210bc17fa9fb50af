import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

from cytoseg.checkpoints import save_checkpoint
from cytoseg.errors import LabelError
from cytoseg.workflows.feature_check import CHECK_FILES
from cytoseg.workflows.preview_provenance import SHOWN, is_shown, note_shown, weights_of

SHORT = ("training.batch=2", "training.samples=0", "training.workers=0", "predict.tile_px=32", "predict.overlap_px=8")
DDPM, CHECK = Path("runs", "tiny", "ddpm"), Path("runs", "tiny", "check")


def test_weights_are_distinguished_by_crops_and_hash(tmp_path: Path) -> None:
    assert weights_of(tmp_path) == {}
    for seen in (8, 16):
        tensors = {"ema": {"w": torch.full((2,), float(seen))}}
        save_checkpoint(tmp_path / f"checkpoint-{seen:09d}", tensors, {"crops_seen": seen})
    newest = weights_of(tmp_path)
    assert (newest["crops_seen"], len(newest["sha256"])) == (16, 64)
    assert not is_shown(tmp_path, "pictures", newest)
    note_shown(tmp_path, "pictures", newest)
    note_shown(tmp_path, "check", {**newest, "crops_seen": 8})
    assert is_shown(tmp_path, "pictures", newest)
    assert not is_shown(tmp_path, "check", newest)
    (tmp_path / "checkpoint-000000016" / "state.json").write_text("{")
    assert weights_of(tmp_path) == {}
    note_shown(tmp_path, "pictures", {})
    assert not is_shown(tmp_path, "pictures", {})


@pytest.mark.parametrize("content", ["", "[1]", "{", "[" * 100_000])
def test_a_damaged_note_says_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / SHOWN).write_text(content)
    assert not is_shown(tmp_path, "pictures", {"crops_seen": 8, "sha256": "a"})
    note_shown(tmp_path, "pictures", {"crops_seen": 8})
    assert json.loads((tmp_path / SHOWN).read_text()) == {"format": 1, "pictures": {"crops_seen": 8}}


def test_a_note_without_a_format_number_was_written_by_an_earlier_version(tmp_path: Path) -> None:
    (tmp_path / SHOWN).write_text(json.dumps({"check": {"crops_seen": 8, "sha256": "a"}}))
    assert is_shown(tmp_path, "check", {"crops_seen": 8, "sha256": "a"})
    assert not is_shown(tmp_path, "pictures", {"crops_seen": 8, "sha256": "a"})


def _pictures() -> list[bytes]:
    return [np.asarray(Image.open(path)).tobytes() for path in (DDPM / "denoised.png", DDPM / "loss.png")]


def _check_written(_recipe: object, folder: Path, *_arguments: object, **_options: object) -> None:
    """Write the files of ``check_model``, which takes seconds; the next test makes them by it."""
    (folder / "check").mkdir(exist_ok=True)
    for name in CHECK_FILES:
        (folder / "check" / name).write_text("checked")


@pytest.mark.parametrize("cut", ["draw_previews", pytest.param("check_after_training", marks=pytest.mark.slow)])
def test_after_a_kill_behind_the_last_checkpoint_nothing_earlier_passes_for_new(
    cut: str, cytoseg: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cytoseg.workflows.feature_check.check_model", _check_written)
    assert cytoseg("train-ddpm", "tiny.yaml", "training.crops=4", *SHORT).exit_code == 0
    pictures, checked = _pictures(), (CHECK / "check.md").stat().st_mtime_ns

    def killed(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"cytoseg.commands.train_ddpm.{cut}", killed)
        assert cytoseg("train-ddpm", "tiny.yaml", "training.crops=8", *SHORT, "--resume").exit_code == 130
    assert (DDPM / "checkpoint-000000008").is_dir()
    (DDPM / ".4194305.loss.png").touch()  # no image to look at
    resumed = cytoseg("train-ddpm", "tiny.yaml", "training.crops=8", *SHORT, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert "Trained on 8 crops (" in resumed.stdout
    assert f" min now). See {DDPM}/denoised.png, {DDPM}/loss.png." in resumed.stdout  # 0.0, on an idle machine
    assert all(new != old for new, old in zip(_pictures(), pictures, strict=True))
    assert (CHECK / "check.md").stat().st_mtime_ns > checked
    assert json.loads((DDPM / SHOWN).read_text())["check"]["crops_seen"] == 8


def _refuse(*_arguments: object, **_options: object) -> None:
    raise LabelError("no label")


@pytest.mark.slow
def test_a_check_that_cannot_be_made_leaves_no_earlier_one(
    cytoseg: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cytoseg("train-ddpm", "tiny.yaml", "training.crops=4", *SHORT).exit_code == 0
    monkeypatch.setattr("cytoseg.workflows.feature_check.check_model", _refuse)
    more = cytoseg("train-ddpm", "tiny.yaml", "training.crops=8", *SHORT, "--resume")
    assert "The features were not checked: no label" in more.stdout
    assert list(CHECK.iterdir()) == []
