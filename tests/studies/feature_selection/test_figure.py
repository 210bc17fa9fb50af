from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cytoseg.diffusion.add_noise import alpha_bar
from cytoseg.studies.feature_selection.cross_validation import Measured
from cytoseg.studies.feature_selection.figure import draw
from cytoseg.studies.feature_selection.pixels import FeatureSet
from cytoseg.studies.feature_selection.select import Selection, Trial
from cytoseg.studies.feature_selection.settings import Question

TAPS = ("block0.block1", "block1.block1")


def _single(tap: str, t: int, hits: tuple[int, ...]) -> Trial:
    """Three classes of 10 pixels, of which so many are found; the others are called the next class."""
    table = np.diag(hits) + np.roll(np.diag([10 - h for h in hits]), 1, axis=1)
    return Trial("single", Measured(FeatureSet((tap,), (t,)), table[None], 1, 0.1))


@pytest.fixture
def selection() -> Selection:
    """Block 0 at t = 5 was left out; block 1 at t = 5 was chosen."""
    trials = (
        _single(TAPS[0], 1, (10, 10, 10)),
        _single(TAPS[1], 1, (10, 5, 10)),
        _single(TAPS[1], 5, (10, 10, 0)),
    )
    chosen = Measured(FeatureSet(TAPS[1:], (5,)), trials[0].measured.counts, 1, 0.1)
    return Selection(trials, chosen, chosen, chosen, (), (200.0, 9.0, 12.0), 4, (60, 100))


@pytest.fixture
def figure(selection: Selection, made_question: Callable[..., Question]) -> Figure:
    return draw(selection, made_question(), alpha_bar("linear", 1000))


def test_a_panel_for_each_class_and_for_what_is_small(figure: Figure) -> None:
    titles = [axis.get_title() for axis in figure.axes]
    # One class alone is large: it has its own panel already.
    own = ["glass (large: 200 px)", "cell (small: 9 px)", "nucleus (small: 12 px)"]
    assert titles == [*own, "mean of small classes", "mean of all classes"]


def test_cells_hold_the_iou_and_what_was_left_out_is_a_dash(figure: Figure) -> None:
    cell, nucleus, small = figure.axes[1], figure.axes[2], figure.axes[3]
    # Taps down, timesteps across. Cell: 5 found of 10, none wrongly. Nucleus: 10 found, 5 wrongly; none.
    assert [text.get_text() for text in cell.texts] == ["1.00", "–", ".50", "1.00"]
    assert [text.get_text() for text in nucleus.texts] == ["1.00", "–", ".67", ".00"]
    assert [text.get_text() for text in small.texts] == ["1.00", "–", ".58", ".50"]


def test_axes_name_taps_timesteps_and_decibels_and_the_chosen_cells_are_framed(figure: Figure) -> None:
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == list(TAPS)
    assert [label.get_text().split("\n")[0] for label in axis.get_xticklabels()] == ["1", "5"]
    frames = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    assert [(round(f.get_x() + 0.45), round(f.get_y() + 0.45)) for f in frames] == [(1, 1)]
    figure.canvas.draw()  # it can be drawn without a warning


def test_where_nothing_was_measured_every_cell_is_a_dash(
    selection: Selection, made_question: Callable[..., Question]
) -> None:
    figure = draw(replace(selection, trials=()), made_question(), alpha_bar("linear", 1000))
    assert {text.get_text() for axis in figure.axes for text in axis.texts} == {"–"}
    assert len(figure.axes) == 5
    figure.canvas.draw()
