"""What determines an outcome of ``study architectures``; whole studies are tested in commands/test_study.py."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cytoseg.recipe import load_recipe
from cytoseg.workflows import architectures

QUESTION = cast(
    Any,
    SimpleNamespace(
        learning=None,
        test=(),
        asking=SimpleNamespace(samples=8, seconds=None),
        crop=SimpleNamespace(digest=lambda: "slides"),
    ),
)


def _decides(*overrides: str) -> dict[str, Any]:
    small = ["training.init=null", "diffusion.backbone=adm", "diffusion.dim=8", "diffusion.dim_mults=[1,2]"]
    recipe = load_recipe("quickstart", ["training.device=cpu", *small, *overrides])
    return architectures._decides(recipe, QUESTION, 0)


def _autoencoder(folder: Path, sha256: str) -> None:
    checkpoint = folder / "autoencoder" / "checkpoint-000000008"
    checkpoint.mkdir(parents=True, exist_ok=True)
    state = {"format": 1, "sha256": {"ema": sha256}, "recipe": {"slides": {"mpp": 0.5}}}
    (checkpoint / "state.json").write_text(json.dumps(state), encoding="utf-8")


def test_another_space_or_autoencoder_is_another_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures, "slide_files", lambda _recipe: [])
    pixels, latents = _decides(), ("space.kind=kl", "slides.mpp=0.5", f"folder={tmp_path}")
    assert {"space", "autoencoder"}.isdisjoint(pixels)
    _autoencoder(tmp_path, "a")
    first = _decides(*latents)
    assert (first["space"]["kind"], first["autoencoder"]) == ("kl", {"ema": "a"})
    assert _decides(*latents) == first
    assert _decides(*latents, "space.factor=4") != first
    _autoencoder(tmp_path, "b")
    assert _decides(*latents) != first
