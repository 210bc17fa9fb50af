import dataclasses
from collections.abc import Callable
from pathlib import Path

import pydantic
import pytest

from cytoseg.errors import RecipeError
from cytoseg.recipe import Recipe
from cytoseg.recipe.keys import keys_of

Load = Callable[..., Recipe]


def test_what_is_left_out_has_the_published_values(load: Load) -> None:
    recipe = load()
    assert recipe.crops.size_px == 256
    assert (recipe.diffusion.dim, recipe.diffusion.dim_mults, recipe.diffusion.timesteps) == (64, (1, 2, 4, 8), 1000)
    assert (recipe.diffusion.schedule, recipe.diffusion.objective) == ("linear", "pred_noise")
    assert recipe.feature_timesteps() == (50, 100, 150)
    assert len(recipe.taps()) == 16
    assert recipe.interpreter.members == 10


def test_values_are_frozen(load: Load) -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        load().slides.mpp = 3.0  # type: ignore[misc] # which is what the test is about
    with pytest.raises(dataclasses.FrozenInstanceError):
        load().training.batch = 3  # type: ignore[misc] # as above


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "trainig: {batch: 3}",
            r"tiny\.yaml: trainig: unknown key \(did you mean 'training'\?\)\. Remove it or correct its spelling",
        ),
        ("training: {bacth: 3}", r"training\.bacth: unknown key"),
        ("slides: {background: {rul: otsu}}", r"slides\.background\.rul: unknown key"),
        ("training: {batch: 0}", r"training\.batch: Input should be greater than or equal to 1, found 0"),
        ("training: {batch: many}", r"training\.batch: Input should be a valid integer.*found 'many'"),
        ("decoder: {passes: .inf}", r"decoder\.passes: Input should be a finite number, found inf"),
        ("training: {rate: 0}", r"training\.rate: Input should be greater than 0, found 0"),
        ("training: {ema_decay: 1}", r"training\.ema_decay: Input should be less than 1, found 1"),
        ("training: {device: gpu}", r"training\.device: .*found 'gpu'"),
        ("slides: {mpp: -0.5}", r"slides\.mpp: Input should be greater than 0, found -0\.5"),
        ("slides: {assume_mpp: -1}", r"slides\.assume_mpp: Input should be greater than 0, found -1$"),
        ("slides: {assume_mpp: [1]}", r"slides\.assume_mpp: Input should be a valid number, found \[1\]$"),
        ("slides: {assume_mpp: {a: 99}}", r"slides\.assume_mpp\.a: Input should be less.*20, found 99$"),
        ("slides: {background: {rule: black}}", r"slides\.background\.rule: .*'otsu'.*found 'black'"),
        ("crops: {size_px: 8}", r"crops\.size_px: .*16, found 8"),
        ("crops: {jitter: 0.6}", r"crops\.jitter: .*0\.5, found 0\.6"),
        ("diffusion: {dim: 20}", r"diffusion\.dim: .*multiple of 8, found 20"),
        ("diffusion: {dim_mults: [1]}", r"diffusion\.dim_mults: .*at least 2"),
        ("diffusion: {schedule: square}", r"diffusion\.schedule: .*found 'square'"),
        ("features: {timesteps: [-1]}", r"features\.timesteps\.0: .*found -1"),
        ("features: {scale: 3}", r"features\.scale: .*found 3"),
        ("interpreter: {members: 1}", r"interpreter\.members: .*2, found 1"),
        ("interpreter: {vote: loud}", r"interpreter\.vote: .*found 'loud'"),
        ("objects: {least_px: 0}", r"objects\.least_px: .*1, found 0"),
        ("labels: {test_fraction: 1}", r"labels\.test_fraction: .*found 1"),
        ("review: {port: 80}", r"review\.port: .*1024, found 80"),
        ("review: {host: ''}", r"review\.host: .*found ''"),
        ("review: {host: 'unix:///tmp/socket'}", r"review\.host: .*found 'unix:///tmp/socket'"),
        ("review: {names: ['*']}", r"review\.names.*found '\*'"),
        ("review: {names: ['http://lab.example']}", r"review\.names.*found 'http://lab\.example'"),
        ("review: {log: here.sqlite}", r"review\.log: write it as dialect\+driver://.*found 'here\.sqlite'"),
        ("review: {log: 'postgresql://a:b@c/d'}", r"review\.log: leave the password out and put it in ~/\.pgpass"),
        ("review: {log: 'postgresql://c/d?password=b'}", r"review\.log: leave the password out"),
        ("slides:", r"slides: Input should be a valid dictionary.*found None"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_found(load: Load, more: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load(more=more)


def test_the_assumed_mpp_is_one_for_all_or_that_of_the_innermost_folder(load: Load, tmp_path: Path) -> None:
    assert load().slides.assumed_mpp(tmp_path / "a.png") is None
    assert load("slides.assume_mpp=0.5").slides.assumed_mpp(tmp_path / "a.png") == 0.5
    slides = load(f"slides.assume_mpp={{{tmp_path}: 1, {tmp_path}/fine: 0.4}}").slides
    assert slides.assumed_mpp(tmp_path / "a.png") == 1.0
    assert slides.assumed_mpp(tmp_path / "fine" / "a.png") == 0.4


def test_the_log_of_the_reviewers_can_be_a_database(load: Load) -> None:
    assert load().review.log is None
    address = "postgresql+psycopg://anna@host:5432/review"
    assert load(f"review.log={address}").review.log == address


def _undocumented(section: type, where: str = "") -> list[str]:
    missing = []
    for key in keys_of(section):
        if not key.text:
            missing.append(where + key.name)
        if key.section is not None:
            missing += _undocumented(key.section, f"{where}{key.name}.")
    return missing


def test_every_value_is_documented() -> None:
    assert _undocumented(Recipe) == []
