"""Every page of the review: numbers, choices, and messages on missing files."""

import base64
import importlib
import json
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import streamlit
from numpy.typing import NDArray
from PIL import Image
from streamlit.testing.v1 import AppTest

from cytoseg.evaluation.results_file import read_evaluation
from cytoseg.reporting.scores_csv import scores_csv

Review = Callable[..., AppTest]
SCORED = ("iou", "confusion", "gallery", "crop", "correct")
PAGES = ("app", *SCORED, "slides")


def _texts(app: AppTest) -> str:
    parts = [*app.main.markdown, *app.caption, *app.info, *app.warning, *app.error, *app.title, *app.header]
    return "\n".join(str(part.value) for part in parts).replace("\\", "")


@pytest.fixture(autouse=True)
def _no_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each run of a page, look whether it ended in an exception."""
    run = AppTest.run

    def checked(self: AppTest, **options: float | None) -> AppTest:
        app = run(self, **options)
        assert not app.exception, app.exception
        return app

    monkeypatch.setattr(AppTest, "run", checked)


def _change(run: Path, change: Callable[[dict[str, object]], None]) -> None:
    path = run / "evaluation" / "evaluation.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


@pytest.mark.usefixtures("made_run", "bare_run")
def test_runs_shows_all_runs_and_the_provenance_of_one(review: Review) -> None:
    app = review("app")
    runs, commands = app.dataframe[0].value, app.dataframe[1].value
    assert runs["Run"].tolist() == ["quickstart", "only a recipe"]
    assert runs["Mean IoU"].tolist() == ["0.81 (0.76-0.85)", "not evaluated"]
    assert runs["Test"].tolist() == ["6 crops, 3 slides", "-"]
    assert runs["IoU nucleus"].tolist()[0] == "0.62 (0.55-0.68)"
    assert runs["Mean IoU, random forest"].tolist()[0].startswith("0.")
    assert commands["Command"].tolist() == ["train-ddpm", "train-ddpm", "evaluate"]
    assert commands["Took"].tolist() == ["5 min 31 s", "50 min 05 s", "1 min 30 s"]
    assert commands["Seed"].tolist() == ["7", "7", "7"]
    assert app.dataframe[2].value["Version"].tolist() == ["0.1.0", "3.11.9", "2.13.0"]
    assert "name: quickstart" in app.code[0].value
    assert len(app.image) == 3
    assert not app.info


@pytest.mark.usefixtures("made_run")
def test_runs_offers_the_report(review: Review, made_run: Path) -> None:
    assert [button.label for button in review("app").download_button] == ["Download the report (HTML)"]
    page = importlib.import_module("app")._report
    assert "<h2>Scores alongside the baselines</h2>" in page(made_run)
    _change(made_run, lambda record: record.pop("methods"))
    assert "evaluation.json: the file has no usable" in page(made_run)
    (made_run / "evaluation" / "evaluation.json").unlink()
    assert not review("app").download_button


@pytest.mark.usefixtures("made_run")
def test_samples_that_are_noise_give_way_to_denoised_crops(review: Review, made_run: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert "made up by the model" in _texts(review("app"))
    Image.fromarray(noise).save(made_run / "ddpm" / "samples.png")
    texts = _texts(review("app"))
    assert "made up by the model" not in texts
    assert "denoised versions" in texts
    assert "Crops without their noise: there is no picture yet." in texts


@pytest.mark.usefixtures("made_run", "bare_run")
def test_choosing_another_run_is_kept_on_other_pages(review: Review) -> None:
    app = review("app")
    app.sidebar.selectbox[0].select("only a recipe").run()
    assert "No command has been recorded in this run yet" in _texts(app)
    app.switch_page("pages/iou.py").run()
    assert app.sidebar.selectbox[0].value == "only a recipe"
    assert "has not been evaluated yet" in _texts(app)


@pytest.mark.usefixtures("made_run")
def test_the_run_named_on_the_command_line_stands_first(review: Review, bare_run: Path) -> None:
    app = review("app", "--run", str(bare_run))
    assert app.sidebar.selectbox[0].options == ["only a recipe", "quickstart"]
    assert app.header[0].value == "only a recipe"


def test_the_folder_of_runs_can_be_named_on_the_command_line(review: Review, made_run: Path, tmp_path: Path) -> None:
    made_run.parent.rename(tmp_path / "elsewhere")
    assert review("app", "--runs", str(tmp_path / "elsewhere")).header[0].value == "quickstart"


@pytest.mark.usefixtures("made_run")
def test_iou_shows_every_method_with_intervals(review: Review) -> None:
    app = review("iou")
    assert [(metric.label, metric.value) for metric in app.metric] == [
        ("Mean IoU", "0.81"),
        ("IoU background", "0.96"),
        ("IoU cytoplasm", "0.84"),
        ("IoU nucleus", "0.62"),
        ("IoU debris", "n/a"),
    ]
    table = app.table[0].value.map(lambda text: text.replace("\\", ""))
    assert table["nucleus"].tolist() == ["0.62 (0.55-0.68)", "0.55 (0.49-0.60)", "0.00 (0.00-0.00)"]
    assert table["debris"].tolist() == ["n/a"] * 3
    assert table["Training"].tolist() == ["4 min 12 s", "1 min 04 s", "-"]
    assert "divided by the area that either marks" in _texts(app)


def test_iou_offers_all_scores_as_numbers(review: Review, made_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offered: list[tuple[str, bytes, str]] = []

    def offer(label: str, data: bytes, *, file_name: str, **_: str) -> None:
        offered.append((label, data, file_name))

    monkeypatch.setattr(streamlit, "download_button", offer)
    review("iou")
    found = read_evaluation(made_run)
    assert found is not None
    ((data, name),) = ((data, name) for label, data, name in offered if label == "Download as CSV")
    assert name == "quickstart-scores.csv"
    assert data.startswith(b"\xef\xbb\xbfgroup,name,method,class,measure,value,low,high,crops,slides\r\n")
    assert data.decode("utf-8-sig") == scores_csv(found)


@pytest.mark.usefixtures("made_run")
def test_iou_details_follow_the_chosen_method(review: Review) -> None:
    app = review("iou")
    assert app.dataframe[0].value["Recall"].tolist()[:3] == [0.984, 0.9009, 0.775]
    assert app.dataframe[1].value["Crops"].tolist() == [3, 2, 1]
    app.main.selectbox[0].select("Always the commonest class").run()
    assert app.dataframe[0].value["Recall"].tolist()[:3] == [1.0, 0.0, 0.0]


def _matrix(app: AppTest) -> list[list[str]]:
    figure = json.loads(app.get("plotly_chart")[0].proto.spec)
    texts: list[list[str]] = figure["data"][0]["text"]
    return texts


@pytest.mark.usefixtures("made_run")
def test_confusion_switches_between_shares_and_counts(review: Review) -> None:
    app = review("confusion")
    assert _matrix(app)[2] == ["2.5 %", "20.0 %", "77.5 %", "0.0 %"]
    assert _matrix(app)[3] == ["n/a"] * 4
    app.segmented_control[0].set_value("Share of the prediction").run()
    assert [row[2] for row in _matrix(app)] == ["1.2 %", "23.2 %", "75.6 %", "0.0 %"]
    app.segmented_control[0].set_value("Pixels").run()
    assert _matrix(app)[1] == ["250", "4,000", "190", "0"]
    app.main.selectbox[0].select("Random forest on 72 filters").run()
    assert _matrix(app)[1] == ["240", "3,960", "240", "0"]


@pytest.mark.usefixtures("made_run")
def test_gallery_is_sorted_worst_first_overall_and_for_a_class(review: Review, made_run: Path) -> None:
    def swap(record: dict[str, list[dict[str, object]]]) -> None:
        record["crops"][5]["iou"] = [0.99, None, 0.01, None]

    _change(made_run, swap)  # type: ignore[arg-type]  # the made record has lists of records there
    app = review("gallery")
    assert app.main.button[0].key == "open smear_A_0_512"
    assert "mean IoU **0.71**, slide smear_A" in _texts(app)
    assert "nucleus\u00a00.41" in _texts(app)
    app.main.selectbox[0].select("nucleus").run()
    assert app.main.button[0].key == "open smear_C_1280_512"
    assert len(app.image) == 6


@pytest.mark.usefixtures("made_run")
def test_gallery_opens_a_crop_in_its_order(review: Review) -> None:
    app = review("gallery")
    app.main.button[2].click().run()
    assert app.title[0].value == "Crop view"
    assert app.main.selectbox[0].value == "smear_A_512_512"
    assert "3 of 6" in _texts(app)


@pytest.mark.usefixtures("made_run")
def test_gallery_shows_a_long_list_page_by_page(review: Review, made_run: Path) -> None:
    def repeat(record: dict[str, list[dict[str, object]]]) -> None:
        record["crops"] = [record["crops"][0] | {"crop": f"c{number:02d}"} for number in range(30)]

    _change(made_run, repeat)  # type: ignore[arg-type]  # the made record has lists of records there
    app = review("gallery")
    assert (len(app.main.button), app.main.button[0].key) == (24, "open c00")
    app.pagination[0].set_value(2).run()
    assert (len(app.main.button), app.main.button[0].key) == (6, "open c24")


@pytest.mark.usefixtures("made_run")
def test_crop_view_steps_through_the_crops(review: Review) -> None:
    app = review("crop")
    previous, following = app.main.button[0], app.main.button[1]
    assert (previous.disabled, following.disabled) == (True, False)
    assert [metric.value for metric in app.metric] == ["0.71", "0.31"]
    assert "look at bright places" in app.metric[1].help
    following.click().run()
    assert (app.main.selectbox[0].value, app.metric[0].value) == ("smear_A_256_512", "0.78")
    app.main.selectbox[0].select("smear_C_1280_512").run()
    assert "6 of 6" in _texts(app)
    assert app.main.button[1].disabled
    app.main.button[0].click().run()
    assert app.main.selectbox[0].value == "smear_B_1024_512"


def _pictures(app: AppTest) -> list[NDArray[np.uint8]]:
    """Give the pictures of a page as its browser decodes them, (H, W, 3) each."""
    addresses = [entry.proto.imgs[0].url for entry in app.image]
    assert {address.partition(",")[0] for address in addresses} == {"data:image/jpeg;base64"}
    packed = [base64.b64decode(address.partition(",")[2]) for address in addresses]
    return [np.asarray(Image.open(BytesIO(content))) for content in packed]


def _assert_halves(picture: NDArray[np.uint8], upper: tuple[int, ...], lower: tuple[int, ...]) -> None:
    """Look at both halves of a crop, of which the prediction says cytoplasm above and nucleus below."""
    quarter = len(picture) // 4
    for rows, colour in ((picture[: quarter + 1], upper), (picture[-quarter - 1 :], lower)):
        # A JPEG file keeps even areas to a few steps of 256.
        np.testing.assert_allclose(rows, np.broadcast_to(colour, rows.shape), atol=4)


@pytest.mark.usefixtures("made_run")
def test_crop_view_toggles_classes_and_layers(review: Review) -> None:
    grey, cytoplasm, nucleus, disputed = (100, 100, 100), (86, 180, 233), (213, 94, 0), (252, 255, 164)
    app = review("crop")
    assert [box.label for box in app.checkbox] == ["background", "cytoplasm", "nucleus", "debris"]
    large, *small = _pictures(app)
    assert large.shape == (900, 900, 3)
    # 45 % of the class's colour and 55 % of the grey below it.
    _assert_halves(large, (94, 136, 160), (151, 97, 55))
    expected = ((grey, grey), (cytoplasm, cytoplasm), (cytoplasm, nucleus), (disputed, disputed))
    for picture, (upper, lower) in zip(small, expected, strict=True):
        _assert_halves(picture, upper, lower)
    app.checkbox[2].uncheck().run()
    _assert_halves(_pictures(app)[0], (94, 136, 160), grey)
    app.main.slider[0].set_value(100).run()
    _assert_halves(_pictures(app)[0], cytoplasm, grey)
    app.segmented_control[0].set_value("Truth").run()
    _assert_halves(_pictures(app)[0], cytoplasm, cytoplasm)
    app.segmented_control[0].set_value("Disagreement").run()
    assert not app.checkbox
    # All of the crop disagrees as much as the most of it: the last colour of the ramp, however little 51 of 255 is.
    _assert_halves(_pictures(app)[0], disputed, disputed)


@pytest.mark.usefixtures("review")
def test_painted_layers_hold_the_colours_of_the_classes(made_run: Path) -> None:
    state = importlib.import_module("state")
    found = read_evaluation(made_run)
    folder = made_run / "evaluation" / "crops" / "smear_A_0_512"
    truth = state.painted(folder, found, layer="Truth", shown=[0, 1, 2, 3], opacity=1)
    assert truth[0, 0].tolist() == [86, 180, 233]
    half = state.painted(folder, found, layer="Prediction", shown=[2], opacity=0.5, enlarged_to_px=8)
    assert half.shape == (8, 8, 3)
    assert half[0, 0].tolist() == [100, 100, 100]
    assert half[7, 0].tolist() == [156, 97, 50]


@pytest.mark.usefixtures("made_run")
def test_slides_shows_preview_and_summary(review: Review) -> None:
    app = review("slides")
    assert app.main.selectbox[0].options == ["smear_D"]
    classes, facts, provenance = (table.value.to_numpy().tolist() for table in app.dataframe)
    assert classes[2:] == [["nucleus", "503,316", "4.00 %", "0.1258"], ["debris", "0", "0.00 %", "-"]]
    assert ["size", "4,096, 3,072"] in facts
    assert ["mean disagreement", "0.0831"] in facts
    assert provenance == [["bundle", "3f2a"], ["vote", "soft"]]
    assert len(app.image) == 1


@pytest.mark.parametrize("page", PAGES)
def test_without_any_run_every_page_says_how_to_begin(review: Review, page: str) -> None:
    app = review(page)
    if page == "app":
        assert app.title[0].value == "New project"
        return
    assert app.title[0].value == "No runs yet"
    assert "cytoseg train-ddpm RECIPE" in app.info[0].value


@pytest.mark.parametrize("page", SCORED)
def test_without_an_evaluation_the_next_command_is_named(review: Review, bare_run: Path, page: str) -> None:
    app = review(page, "--run", str(bare_run))
    assert len(app.info) == 1
    assert "cytoseg evaluate RECIPE" in app.info[0].value


def test_without_predictions_the_next_command_is_named(review: Review, bare_run: Path) -> None:
    assert "cytoseg predict RECIPE SLIDE" in review("slides", "--run", str(bare_run)).info[0].value


def test_a_run_with_only_a_recipe_names_each_next_command(review: Review, bare_run: Path) -> None:
    texts = _texts(review("app", "--run", str(bare_run)))
    assert "cytoseg train-ddpm RECIPE" in texts
    assert "cytoseg label-import SRC --recipe RECIPE" in texts


@pytest.mark.parametrize("page", SCORED)
def test_a_damaged_evaluation_is_one_sentence_without_a_path(review: Review, made_run: Path, page: str) -> None:
    (made_run / "evaluation" / "evaluation.json").write_text('{"format": 1')
    app = review(page)
    message = app.error[0].value.replace("\\", "")
    assert message.startswith("evaluation.json: the file is not complete JSON")
    assert str(made_run.parent) not in _texts(app)


def test_a_damaged_run_does_not_hide_the_others(review: Review, made_run: Path, bare_run: Path) -> None:
    (made_run / "run.json").write_text("{")
    app = review("app", "--run", str(bare_run))
    assert app.dataframe[0].value["Outcome"].tolist() == ["-", "a file of this run is damaged"]


def test_missing_pictures_of_a_crop_are_said(review: Review, made_run: Path) -> None:
    (made_run / "evaluation" / "crops" / "smear_A_0_512" / "image.png").unlink()
    assert "The picture of this crop is missing" in _texts(review("gallery"))
    app = review("crop")
    assert "smear_A_0_512/image.png is missing" in app.error[0].value.replace("\\", "")


def test_pictures_of_different_sizes_are_said(review: Review, made_run: Path) -> None:
    Image.new("L", (5, 4)).save(made_run / "evaluation" / "crops" / "smear_A_0_512" / "prediction.png")
    message = review("crop").error[0].value.replace("\\", "")
    assert message.startswith("smear_A_0_512/prediction.png has another size than image.png")


def test_markdown_in_names_is_shown_as_it_is(review: Review, made_run: Path) -> None:
    _change(made_run, lambda record: record["classes"][0].update(name="**bold** :red[x]"))  # type: ignore[index]  # made
    assert review("crop").checkbox[0].label == r"\*\*bold\*\* \:red\[x\]"


def test_an_evaluation_without_crops_or_methods(review: Review, made_run: Path) -> None:
    _change(made_run, lambda record: record.update(crops=[]))
    assert "holds no crop" in _texts(review("gallery"))
    assert "holds no crop" in _texts(review("crop"))
    _change(made_run, lambda record: record.update(methods=[]))
    assert "holds no method" in _texts(review("iou"))


@pytest.mark.usefixtures("made_run")
def test_a_recipe_that_is_a_pipe_or_huge_does_not_stop_the_page(review: Review, bare_run: Path) -> None:
    recipe = bare_run / "recipe.yaml"
    recipe.write_text("name: x\n" + 300_000 * "#")
    app = review("app", "--run", str(bare_run))
    assert len(app.code[0].value) == 100_000
    assert "The first 100,000 characters of recipe.yaml." in _texts(app)
    recipe.rename(bare_run / "run.json")
    os.mkfifo(recipe)
    app = review("app", "--run", str(bare_run))
    assert not app.code
    assert app.title[0].value == "Runs"


DEEP = 100_000 * "["
"""Reading it takes more stack than there is."""


@pytest.mark.parametrize("file", ["run.json", "evaluation/evaluation.json", "recipe.yaml"])
@pytest.mark.parametrize("content", [DEEP, f'{{"format": 1, "crops": {DEEP}'], ids=["alone", "within"])
def test_one_run_that_cannot_be_read_leaves_the_others_usable(
    review: Review, made_run: Path, bare_run: Path, file: str, content: str
) -> None:
    (bare_run / file).parent.mkdir(exist_ok=True)
    (bare_run / file).write_text(content)  # now the latest of the runs, and so the one that is shown first
    app = review("app", "--run", str(made_run))
    runs = app.dataframe[0].value.set_index("Run")
    assert runs.loc["quickstart", "Mean IoU"] == "0.81 (0.76-0.85)"
    if file != "recipe.yaml":
        assert runs.loc["only a recipe", "Outcome"] == "a file of this run is damaged"
    for page in ("iou", "history", "slides", "queue"):
        app.switch_page(f"pages/{page}.py").run()
