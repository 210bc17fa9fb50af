from pathlib import Path

import pytest

from cytoseg import shipped


def test_recipes_and_app_are_found_beside_the_sources() -> None:
    assert (shipped.shipped_recipes() / "cervical.yaml").is_file()
    assert (shipped.shipped_review() / "app.py").is_file()


def test_an_installed_wheel_uses_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "cytoseg")
    assert shipped.shipped_recipes() == tmp_path / "recipes"
    assert shipped.shipped_review() == tmp_path / "apps" / "review"
    for name in ("recipes", "review"):
        (tmp_path / "cytoseg" / "_shipped" / name).mkdir(parents=True)
    assert shipped.shipped_recipes() == tmp_path / "cytoseg" / "_shipped" / "recipes"
    assert shipped.shipped_review() == tmp_path / "cytoseg" / "_shipped" / "review"
