import dataclasses
from collections.abc import Callable
from pathlib import Path

import pydantic
import pytest

from cytoseg.classes import ClassList
from cytoseg.diffusion.mask_loss import OTHER
from cytoseg.errors import RecipeError
from cytoseg.objects.settings import ObjectSettings
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
        load().name = "other"  # type: ignore[misc] # which is what the test is about
    with pytest.raises(dataclasses.FrozenInstanceError):
        load().slides.mpp = 3.0  # type: ignore[misc] # as above


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
        (
            "slides: {mpp: -0.5}",
            r"slides\.mpp: must be 0\.01 to 20 micrometres per pixel \(scans of cells have 0\.1 to 2\); give the "
            r"pixel size in micrometres, such as 0\.5, found -0\.5$",
        ),
        ("slides: {mpp: 1e-9}", r"slides\.mpp: must be 0\.01 to 20 micrometres per pixel .*, found 1e-09$"),
        ("slides: {mpp: 250}", r"slides\.mpp: must be 0\.01 to 20 micrometres per pixel .*, found 250$"),
        ("slides: {mpp: 1e9}", r"slides\.mpp: must be 0\.01 to 20 micrometres per pixel .*, found 1000000000\.0$"),
        ("slides: {mpp: .nan}", r"slides\.mpp: Input should be a finite number, found nan$"),
        ("slides: {assume_mpp: -1}", r"slides\.assume_mpp: must be 0\.01 to 20 micrometres .*, found -1$"),
        (
            "labels: {sources: [{folder: a, mpp: 1e-9}]}",
            r"labels\.sources\.0\.mpp: must be 0\.01 to 20 .*, found 1e-09$",
        ),
        (
            "labels: {sources: [{folder: a, object_px: 1e-9}]}",
            r"labels\.sources\.0\.object_px: .*equal to 1, found 1e-09$",
        ),
        ("slides: {assume_mpp: [1]}", r"slides\.assume_mpp: Input should be a valid number, found \[1\]$"),
        ("slides: {assume_mpp: {a: 99}}", r"slides\.assume_mpp\.a: must be 0\.01 to 20 .*, found 99$"),
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
        ("review: {log: 'postgresql://a:b@c/d'}", r"review\.log: omit the password and put it in ~/\.pgpass"),
        ("review: {log: 'postgresql://c/d?password=b'}", r"review\.log: omit the password"),
        ("slides:", r"slides: Input should be a valid dictionary, found None$"),
        ("training: [1]", r"training: Input should be a valid dictionary, found \[1\]$"),
        ("features: {extractors: []}", r"features\.extractors: name at least one of ddpm, filters, pre.*, found \[\]"),
        ("features: {extractors: [ddpm, ddpm]}", r"features\.extractors: ddpm appears twice, found \['ddpm', 'ddpm'\]"),
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


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("fill: glass", r"fill: 'glass' is not in the class list \(background, cell\)"),
        ("objects: {classes: [cells]}", r"objects\.classes: 'cells' is not in the class list \(background, cell\)"),
        (
            "objects: {split: [nucleus]}",
            r"objects\.split: 'nucleus' is not among the classes with objects \(",
        ),
        (
            "objects: {classes: [cell], split: [background]}",
            r"objects\.split: 'background' is not among the classes with objects \(cell\)",
        ),
        ("features: {timesteps: [50], snr_db: [9.3]}", r"features: give timesteps or snr_db, not both"),
        ("features: {timesteps: [50, 1000]}", r"features\.timesteps: 1000 is not below diffusion\.timesteps \(1000\)"),
        ("diffusion: {timesteps: 100}", r"features\.timesteps: 100 is not below diffusion\.timesteps \(100\)"),
        ("features: {timesteps: []}", r"features: taps and timesteps must not be empty"),
        ("features: {snr_db: []}", r"features: taps and timesteps must not be empty"),
        ("features: {taps: []}", r"features: taps and timesteps must not be empty"),
        (
            "features: {taps: [block4.block1]}",
            r"features\.taps: block4\.block1 not in this network\. It has block0\.bl",
        ),
        ("crops: {size_px: 100}", r"crops\.size_px: 100 is not a multiple of 8, as diffusion\.dim_mults needs"),
        ("predict: {tile_px: 100}", r"predict\.tile_px: 100 is not a multiple of 8"),
        ("predict: {tile_px: 64, overlap_px: 33}", r"predict\.overlap_px: 33 is more than half of tile_px"),
        (
            "diffusion: {timesteps: 20}",
            r"diffusion\.timesteps: 20 is too few for the linear schedule, which needs more",
        ),
    ],
)
def test_values_that_clash_are_refused(load: Load, more: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load(more=more)


def test_more_classes_than_channels_leave_no_room_for_a_simplex(load: Load) -> None:
    more = "".join(f'  - {{name: c{i}, colour: "#000000"}}\n' for i in range(126))
    assert load("interpreter.etf_weight=0.4", more=more).interpreter.etf_weight == 0.4  # 128 fit
    one_more = more + '  - {name: last, colour: "#000000"}\n'
    with pytest.raises(
        RecipeError, match=r"interpreter\.etf_weight: needs at most 128 classes, found 129; set it to 0"
    ):
        load("interpreter.etf_weight=0.4", more=one_more)
    assert len(load(more=one_more).classes) == 129


def test_labelled_sources_leave_an_id_for_pixels_of_no_class(load: Load) -> None:
    more = "".join(f'  - {{name: c{i}, colour: "#000000"}}\n' for i in range(252))
    given = (
        "diffusion={backbone: pretrained, dim: 16, dim_mults: [3, 4, 6]}",
        "features.taps=all",
        "labels.sources=[{folder: there}]",
    )
    assert len(load(*given, more=more).classes) == OTHER  # the ids below it
    more += '  - {name: last, colour: "#000000"}\n'
    with pytest.raises(RecipeError, match=r"labels\.sources: leave room for 254 classes, found 255; remove a class"):
        load(*given, more=more)
    assert len(load(more=more).classes) == 255


def test_a_class_named_twice_is_refused(load: Load) -> None:
    with pytest.raises(RecipeError, match=r"classes: a name appears twice in background, cell, cell"):
        load(more='  - {name: cell, colour: "#000000"}\n')


def test_a_class_named_twice_in_two_forms_of_unicode_is_refused(load: Load) -> None:
    more = '  - {name: "h\u00fclle", colour: "#000000"}\n  - {name: "hu\u0308lle", colour: "#000001"}\n'
    with pytest.raises(RecipeError, match="classes: a name appears twice"):
        load(more=more)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("__ignore__", "this name has a meaning of its own in annotations"),
        ("_background_", "this name has a meaning of its own in annotations"),
        ("' debris'", "a name has no spaces at its ends"),  # annotations are read without them
        ('"a\\nb"', "no line breaks or control characters"),
        ('"\\u202ecell"', "no line breaks or control characters"),
    ],
)
def test_a_class_that_no_annotation_can_name_is_refused(load: Load, name: str, why: str) -> None:
    with pytest.raises(RecipeError, match=rf"classes\.\d\.name: .*{why}") as caught:
        load(more=f'  - {{name: {name}, colour: "#000000"}}\n')
    assert "too short" not in str(caught.value)


@pytest.mark.parametrize("change", ["slides.mpp=true", "training.batch=true", "features.timesteps=[false, 5]"])
def test_true_and_false_are_refused_as_numbers(load: Load, change: str) -> None:
    key, _, value = change.partition("=")
    with pytest.raises(RecipeError, match=rf"{key}[.0]*: Input should be a number, found {value.strip('[]')[:4]}"):
        load(change)


@pytest.mark.parametrize("name", ["2024-01-31", "12", "1.10"])
def test_a_name_that_yaml_takes_for_something_else_goes_in_quotes(load: Load, name: str) -> None:
    with pytest.raises(RecipeError, match="name: Input should be a valid string, in quotes, found"):
        load(f"name={name}")
    assert load(f'name="{name}"').name == name


def test_only_the_class_that_is_wrong_is_reported(load: Load) -> None:
    with pytest.raises(RecipeError) as caught:
        load("classes=[{name: a, colour: '#000000'}, {name: 7, colour: '#000001'}]")
    assert "at least 2 items" not in str(caught.value)


def test_a_linear_schedule_of_21_and_a_cosine_of_10_are_long_enough(load: Load) -> None:
    short = "features: {timesteps: [0, 9]}\n"
    assert load("diffusion.timesteps=21", more=short).diffusion.timesteps == 21
    assert load("diffusion.timesteps=10", "diffusion.schedule=cosine", more=short).diffusion.timesteps == 10


def test_noise_levels_may_be_given_in_decibels(load: Load) -> None:
    assert load("features.snr_db=[15.09, 9.31, 5.65]").feature_timesteps() == (50, 100, 150)
    assert load("features.snr_db=[9.31]", "diffusion.schedule=sigmoid").feature_timesteps() == (200,)
    assert load("features.timesteps=[7]").feature_timesteps() == (7,)


def test_taps_may_be_chosen(load: Load) -> None:
    assert load("features.taps=[block3.attention, block0.block1]").taps() == ("block3.attention", "block0.block1")


def test_the_class_list_has_colours_and_fill(load: Load) -> None:
    expected = ClassList(("background", "cell"), ((240, 240, 240), (0, 114, 178)), "background")
    assert load("fill=background").class_list() == expected
    assert load().class_list().fill is None


def test_the_architecture_is_what_decides_the_weights(load: Load) -> None:
    architecture = load("diffusion.dim=16", "diffusion.dim_mults=[1, 3]", "training.rate=0.01").architecture()
    assert architecture.as_json() == {
        "dim": 16,
        "dim_mults": [1, 3],
        "timesteps": 1000,
        "schedule": "linear",
        "objective": "pred_noise",
        "backbone": "lucidrains",
        "mask_classes": [],
    }


def test_folders_follow_the_name_unless_given(load: Load) -> None:
    assert load().run_folder() == Path("runs/tiny")
    assert load().labels_folder() == Path("runs/tiny/labels")
    assert load("folder=out").labels_folder() == Path("out/labels")
    assert load("labels.folder=shared_labels").labels_folder() == Path("shared_labels")


THREE = """\
name: tiny
classes:
  - {name: background, colour: "#f0f0f0"}
  - {name: cytoplasm, colour: "#0072b2"}
  - {name: nucleus, colour: "#d55e00"}
"""


def test_all_classes_but_the_fill_class_have_objects_and_nuclei_are_cut_apart(load: Load) -> None:
    settings = load(text=THREE, more="fill: background").object_settings()
    assert settings == ObjectSettings(("cytoplasm", "nucleus"), ("nucleus",), 16, "nucleus", "cytoplasm", False, False)


def test_without_a_class_of_nuclei_nothing_is_cut_apart(load: Load) -> None:
    settings = load(more="fill: background").object_settings()
    assert (settings.classes, settings.split) == (("cell",), ())


def test_the_nuclei_may_have_another_name(load: Load) -> None:
    settings = load(text=THREE, more="objects: {nucleus: cytoplasm, classes: [cytoplasm]}").object_settings()
    assert (settings.classes, settings.split) == (("cytoplasm",), ("cytoplasm",))


@pytest.mark.parametrize(
    ("sizes", "tile_px"),
    [
        ("", 256),
        ("labels: {crop_px: 100}\n", 128),  # twice what tiles share
        ("labels: {crop_px: 300}\n", 304),  # a multiple of 8, as dim_mults needs
        ("labels: {crop_px: 2048}\n", 512),
        ("labels: {crop_px: 100}\npredict: {overlap_px: 400}\n", 800),
        ("labels: {crop_px: 100}\npredict: {tile_px: 512}\n", 512),
    ],
)
def test_tiles_are_as_large_as_the_labelled_crops(load: Load, sizes: str, tile_px: int) -> None:
    assert load(more=sizes).tile_px() == tile_px


@pytest.mark.parametrize("mpp", [0.01, 0.1, 0.25, 2, 20])
def test_pixel_sizes_from_super_resolution_to_an_overview_are_valid(load: Load, mpp: float) -> None:
    slides = load(f"slides.mpp={mpp}", f"slides.assume_mpp={mpp}").slides
    assert (slides.mpp, slides.assume_mpp) == (mpp, mpp)
