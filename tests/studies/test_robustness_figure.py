import math

import numpy as np

from cytoseg.metrics.results import Score
from cytoseg.studies.robustness_figure import draw_curves, draw_pictures
from cytoseg.studies.robustness_text import Kept, Robust


def _method(title: str, kept: Score) -> Robust:
    cells = tuple(Kept(name, 3, name, (kept,), (kept,)) for name in ("stain", "jpeg"))
    return Robust("key", title, (Score(0.8),), cells)


def test_each_corruption_has_a_panel_with_a_curve_per_method_from_one() -> None:
    found = [_method("MLPs", Score(0.7, 0.6, 0.8)), _method("Forest", Score(None))]
    figure = draw_curves(found, ("stain", "jpeg"), 0, name="nucleus")
    assert [panel.get_title() for panel in figure.axes] == ["stain shift", "JPEG"]
    first, second, _limit = figure.axes[0].lines
    assert (list(first.get_xdata()), list(first.get_ydata())) == ([0, 3], [1.0, 0.7])
    assert math.isnan(list(second.get_ydata())[1])
    assert len(figure.axes[0].collections) == 1  # the first method's interval
    assert figure.axes[0].get_ylim() == (0, 1.1)
    above = draw_curves([_method("MLPs", Score(1.4))], ("stain",), 0, name="nucleus")
    assert above.axes[0].get_ylim() == (0, 1.5)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["MLPs", "Forest"]


def test_the_pictures_stand_beside_the_clean_one() -> None:
    clean, dark = np.full((200, 160, 3), 200, np.uint8), np.full((200, 160, 3), 50, np.uint8)
    figure = draw_pictures(clean, {"uneven light": [dark]}, (3,))
    assert [panel.get_title() for panel in figure.axes] == ["clean", "severity 3"]
    shown = [np.asarray(panel.images[0].get_array()) for panel in figure.axes]
    assert [picture.shape for picture in shown] == [(128, 128, 3)] * 2
    assert (shown[0].mean(), shown[1].mean()) == (200, 50)
