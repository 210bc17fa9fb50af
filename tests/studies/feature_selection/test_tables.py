"""Table, sentence and figure of a synthetic selection."""

import csv
import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cytoseg.csv_table import csv_text
from cytoseg.diffusion.add_noise import alpha_bar
from cytoseg.studies.feature_selection.cross_validation import Measured
from cytoseg.studies.feature_selection.pixels import FeatureSet
from cytoseg.studies.feature_selection.select import Selection, Trial
from cytoseg.studies.feature_selection.settings import Question
from cytoseg.studies.feature_selection.tables import as_markdown, sentence, small_classes, table_of

Ask = Callable[..., Question]
NAMES = ("glass", "cell|s", "never")
ALPHA_BARS = alpha_bar("linear", 1000)
TAPS = ("block0.block1", "block1.block1")


def measured(features: FeatureSet, hits: int, *, width: int = 2) -> Measured:
    """Glass and cells, 10 pixels each, of which so many are found, in each of two folds."""
    table = [[hits, 10 - hits, 0], [10 - hits, hits, 0], [0, 0, 0]]
    return Measured(features, np.array([table, table]), width, 0.25)


@pytest.fixture
def selection() -> Selection:
    present = measured(FeatureSet(TAPS[:1], (50, 100), extractors=("ddpm", "filters")), 6, width=9)
    chosen = measured(FeatureSet(TAPS[1:], (0,)), 9)
    return Selection(
        trials=(
            Trial("present", present),
            Trial("single", measured(FeatureSet(TAPS[:1], (0,)), 7)),
            Trial("single", measured(FeatureSet(TAPS[1:], (0,)), 8)),
            Trial("grow 1", chosen, 0.25, 0.125, taken=True),
        ),
        present=present,
        best=chosen,
        chosen=chosen,
        left_out=((FeatureSet(TAPS, (0,), flips=True), "more time"),),
        diameters=(200.0, 9.4, None),
        crops=4,
        pixels=(2000, 4000),
    )


def test_the_sentence_says_what_was_chosen_and_what_it_gains(selection: Selection) -> None:
    # 9 of 10 found is an IoU of 9/11, 6 of 10 one of 6/14.
    text = sentence(selection)
    assert text.startswith("Chosen: block1.block1 at t = 0. Mean IoU 0.818 on held-out slides, +0.390 against 0.429")
    assert "of the recipe's block0.block1 at t = 50, 100 with filters: more than the spread" in text
    assert text.endswith("of 0.000, with 2 features per pixel instead of 9.")


def test_the_sentence_says_when_as_good_is_leaner_and_when_nothing_changes(selection: Selection) -> None:
    same = measured(selection.chosen.features, 6)
    assert "+0.000 against 0.429 of the recipe's" in sentence(replace(selection, chosen=same))
    assert "with filters: within the spread between folds and seeds of 0.000" in sentence(
        replace(selection, chosen=same)
    )
    stays = sentence(replace(selection, chosen=selection.present))
    assert stays.startswith("The recipe's features stay: block0.block1 at t = 50, 100 with filters, mean IoU 0.429")
    assert "best was block1.block1 at t = 0, +0.390, within the spread between folds and seeds of 0.000." in stays
    nothing = sentence(replace(selection, chosen=selection.present, best=selection.present))
    assert nothing.endswith("nothing measured was better.")


def test_small_classes_have_objects_below_32_px(selection: Selection) -> None:
    assert small_classes(selection, small=True) == [1]
    assert small_classes(selection, small=False) == [0]
    assert small_classes(replace(selection, diameters=(31.9, 32.0, 5.0)), small=True) == [0, 2]


def test_every_set_is_a_row_of_the_csv(selection: Selection) -> None:
    header, *rows = csv.reader(io.StringIO(csv_text(table_of(selection, NAMES, ALPHA_BARS))))
    assert {len(row) for row in rows} == {len(header)}
    found = [dict(zip(header, row, strict=True)) for row in rows]
    assert [row["stage"] for row in found] == ["present", "single", "single", "grow 1", ""]
    present, _, _, grown, left_out = found
    # On the linear schedule t = 50 is 15.1 dB and t = 100 is 9.3 dB.
    assert [present[k] for k in ("taps", "timesteps", "snr_db", "extractors")] == [
        "block0.block1",
        "50 100",
        "15.1 9.3",
        "ddpm filters",
    ]
    assert (grown["IoU glass"], grown["IoU never"]) == (f"{9 / 11:.6f}", "")
    assert (grown["taken"], grown["gain"], grown["spread"], grown["features"]) == ("True", "0.250000", "0.125000", "2")
    assert grown["seconds per crop"] == "0.250000"
    assert (left_out["taps"], left_out["flips"], left_out["left out"]) == (" ".join(TAPS), "True", "more time")
    assert left_out["mean IoU"] == ""


def test_the_markdown_is_a_table_of_sets_and_one_of_single_taps(selection: Selection) -> None:
    text = as_markdown(selection, NAMES, ALPHA_BARS)
    assert text.startswith(sentence(selection))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    present = ["present", "block0.block1 with filters", "50 100", "15.1 9.3", "0.429", "0.429", "n/a", "0.429", "", ""]
    assert [*present, "9", "0.25"] in rows
    grown = ["grow 1 (taken)", "block1.block1", "0", "40.0", "0.818", "0.818", "n/a", "0.818", "+0.250", "0.125"]
    assert [*grown, "2", "0.25"] in rows
    assert ["cell&#124;s", "block1.block1", "0", "0.667"] in rows
    assert {len(row) for row in rows} == {12, 4}
    assert "glass 200 px, cell|s 9 px. Small means below 32 px" in text
    assert "Left out, with what they need: block0.block1, block1.block1 at t = 0, mean over flips (more time)." in text
    many = as_markdown(replace(selection, left_out=selection.left_out * 10), NAMES, ALPHA_BARS)
    assert many.count("mean over flips (more time)") == 8
    assert "; and 2 more, which the CSV names. Run it again with more: measured sets are kept" in many
    assert "Left out" not in as_markdown(replace(selection, left_out=()), NAMES, ALPHA_BARS)
