import json
from pathlib import Path

import pytest

from cytoseg.checkpoints import STATE
from cytoseg.errors import CheckpointError
from cytoseg.recipe import load_recipe
from cytoseg.shipped import shipped_models
from cytoseg.workflows.backbone import needs_backbone, refuse_without_denoising, sources_sentence


def test_labelled_sources_of_a_base_model_are_named() -> None:
    said = sources_sentence(shipped_models()["cytology-base"])
    assert "trained with labelled sources (runs/dsb16/labels, runs/made-source/labels)" in said
    assert sources_sentence(shipped_models()["lbc-base"]) == ""


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"labels": {"sources": [{"folder": "a/labels"}]}}, "labelled sources (a/labels)"),
        ({"labels": {"sources": []}}, ""),
        ({"labels": {}}, ""),
        (None, ""),
    ],
)
def test_the_newest_checkpoint_of_a_run_decides(recipe: object, said: str, tmp_path: Path) -> None:
    for number, content in ((1, {"labels": {"sources": [{"folder": "old"}]}}), (2, recipe)):
        folder = tmp_path / f"checkpoint-{number}"
        folder.mkdir()
        (folder / STATE).write_text(json.dumps({"format": 1, "sha256": {}, "recipe": content}))
    found = sources_sentence(tmp_path)
    assert said in found if said else found == ""


@pytest.mark.parametrize(
    ("overrides", "needed"),
    [
        (["features.extractors=[ddpm]"], True),
        (["features.extractors=[ddpm,filters]"], True),
        (["features.extractors=[filters]"], False),
        (["features.extractors=[filters,pretrained]"], False),
        (["features.extractors=[filters]", "interpreter.kind=decoder"], True),
        (["features.extractors=[filters]", "interpreter.kind=student", "student.teacher=decoder"], True),
        (["features.extractors=[filters]", "interpreter.kind=student", "student.teacher=mlps"], False),
    ],
)
def test_only_an_interpreter_that_looks_at_the_diffusion_model_needs_one(overrides: list[str], needed: bool) -> None:
    assert needs_backbone(load_recipe("lbc", overrides)) is needed


@pytest.mark.parametrize(
    "recipe",
    [
        None,
        {},
        {"training": {}},
        {"training": {"denoising_weight": 0.5}},
        {"training": {"denoising_weight": 1, "highest_t": 1000}, "diffusion": {"timesteps": 1000}},
    ],
)
def test_a_network_that_denoises_or_does_not_say_so_is_accepted(recipe: object, tmp_path: Path) -> None:
    refuse_without_denoising(tmp_path)  # without a checkpoint, loading says so
    _checkpoint(tmp_path / "checkpoint-1", recipe)
    refuse_without_denoising(tmp_path)


def test_a_network_that_learned_only_masks_is_refused(tmp_path: Path) -> None:
    _checkpoint(tmp_path / "checkpoint-1", {"training": {"denoising_weight": 1}})
    _checkpoint(tmp_path / "checkpoint-2", {"training": {"denoising_weight": 0}})
    for folder in (tmp_path, tmp_path / "checkpoint-2"):
        with pytest.raises(CheckpointError, match=r"trained with training\.denoising_weight 0 and cannot denoise"):
            refuse_without_denoising(folder)


def test_a_network_that_learned_only_weak_noise_is_refused(tmp_path: Path) -> None:
    recipe = {"training": {"denoising_weight": 1, "highest_t": 200}, "diffusion": {"timesteps": 1000}}
    _checkpoint(tmp_path / "checkpoint-1", recipe)
    with pytest.raises(CheckpointError, match=r"training\.highest_t 200 and cannot denoise stronger noise"):
        refuse_without_denoising(tmp_path)


def _checkpoint(folder: Path, recipe: object) -> None:
    folder.mkdir()
    (folder / STATE).write_text(json.dumps({"format": 1, "sha256": {}, "recipe": recipe}))
