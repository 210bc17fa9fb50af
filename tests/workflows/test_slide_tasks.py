from pathlib import Path

import pytest
from PIL import Image

from cytoseg.recipe import Recipe, recipe_of
from cytoseg.workflows import slide_tasks
from cytoseg.workflows.slide_tasks import slide_task
from tests.workflows.test_anomaly import RECIPE

STATE = {
    "classes": {"names": ["background", "cell"], "fill": "background"},
    "mpp": None,
    "sha256": {"ensemble": "abc"},
    "features": {},
    "vote": "soft",
    "precision": "no",
}


def _recipe(*overrides: str) -> Recipe:
    return recipe_of({**RECIPE, "predict": {"overlap_px": 8}, "labels": {}}, overrides, where=Path("tiny.yaml"))


def test_tiles_of_another_size_make_another_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slide_tasks, "bundle_state", lambda _folder: STATE)
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path)
    usual, small, same = (
        slide_task(path, recipe=recipe, bundle=tmp_path, out=tmp_path)
        for recipe in (_recipe(), _recipe("labels.crop_px=64"), _recipe("labels.crop_px=64", "predict.tile_px=128"))
    )
    assert [task.settings.tile_px for task in (usual, small, same)] == [256, 64, 128]
    assert small.provenance == {**usual.provenance, "tile_px": 64}
    assert "tile_px" not in usual.provenance  # so that results of earlier versions stay valid
    assert same.provenance["predict"]["tile_px"] == 128
    assert "tile_px" not in same.provenance


def test_another_fill_class_makes_other_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slide_tasks, "bundle_state", lambda _folder: STATE)
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path)
    usual, none = (
        slide_task(path, recipe=recipe, bundle=tmp_path, out=tmp_path) for recipe in (_recipe(), _recipe("fill=null"))
    )
    assert usual.objects is not None
    assert none.objects is not None
    assert (usual.objects.classes, none.objects.classes) == (("cell",), ("background", "cell"))
    assert "fill" not in usual.provenance  # so that results of earlier versions stay valid
    assert none.provenance == {**usual.provenance, "fill": None}
