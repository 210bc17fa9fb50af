from pathlib import Path

import pytest

from cytoseg import shipped
from cytoseg.errors import CheckpointError


def test_recipes_and_app_are_found_beside_the_sources() -> None:
    sources = Path(__file__).parents[1]
    assert shipped.shipped_recipes() == sources / "recipes"
    assert shipped.shipped_review() == sources / "apps" / "review"
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


def test_a_base_model_is_found_by_its_name_and_where_older_recipes_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shipped.find_base_model(Path("lbc-base"))
    assert (found / "state.json").is_file()
    monkeypatch.chdir(tmp_path)
    assert shipped.find_base_model(Path("data/checkpoints/lbc-base")) == found
    Path("lbc-base").mkdir()
    assert shipped.find_base_model(Path("lbc-base")) == Path("lbc-base")


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("lbc_base", r"lbc_base: no such folder \(did you mean 'lbc-base'\?\)\. Name .* one of .*lbc-base"),
        ("runs/x/ddpm", r"runs/x/ddpm: no such folder\. Name the ddpm folder of a run"),
        ("elsewhere/lbc-base", r"no such folder"),
    ],
)
def test_a_model_that_is_not_there(named: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        shipped.find_base_model(Path(named))


def test_an_installed_wheel_uses_its_own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "cytoseg")
    model = tmp_path / "cytoseg" / "_shipped" / "checkpoints" / "base"
    model.mkdir(parents=True)
    assert shipped.shipped_models() == {}
    (model / "state.json").touch()
    assert shipped.find_base_model(Path("base")) == model
