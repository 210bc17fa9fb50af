from pathlib import Path
from typing import Any

import pytest
import torch

import cytoseg as cs
from cytoseg.errors import RecipeError


@pytest.mark.parametrize("as_given", [str, Path])
def test_a_recipe_is_trained_as_by_the_command(as_given: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "name: mine\nclasses:\n  - {name: glass, colour: '#f0f0f0'}\n  - {name: cell, colour: '#0072b2'}\n",
        encoding="utf-8",
    )
    calls = []

    def record(*words: Any, **options: Any) -> None:
        calls.append((words, options, torch.is_grad_enabled()))

    monkeypatch.setattr("cytoseg.commands.train_ddpm.run", record)
    folder = tmp_path / "out"
    with torch.inference_mode():
        found = cs.train_diffusion(as_given(recipe), overrides=[f"folder={folder}"], resume=True)
    assert found == folder / "ddpm"
    assert calls == [((str(recipe), [f"folder={folder}"]), {"resume": True}, True)]


def test_an_unknown_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such recipe"):
        cs.train_diffusion(tmp_path / "none.yaml")
