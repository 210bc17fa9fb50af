import xml.etree.ElementTree as ElementTree

import pytest

from cytoseg.metrics.results import ConfidenceBin, Risk, UncertaintyScores
from cytoseg.reporting.diagram import calibration_diagram, risk_diagram, scale_top

SVG = "{http://www.w3.org/2000/svg}"


def test_each_interval_with_pixels_is_a_point_at_its_place() -> None:
    bins = [ConfidenceBin(0, None, None), ConfidenceBin(25, 0.5, 0.4), ConfidenceBin(100, 1.0, 0.75)]
    drawn = ElementTree.fromstring(calibration_diagram(bins))
    frame, line = drawn.find("rect"), drawn.find("polyline")
    assert frame is not None
    assert line is not None
    x, y, side = (float(frame.attrib[key]) for key in ("x", "y", "width"))
    circles = drawn.findall("g/circle")
    places = [(float(circle.attrib["cx"]), float(circle.attrib["cy"])) for circle in circles]
    assert places == [(x + side * 0.5, y + side * 0.6), (x + side, y + side * 0.25)]
    small, large = (float(circle.attrib["r"]) for circle in circles)
    assert large - 2 == pytest.approx(2 * (small - 2))
    assert line.attrib["points"] == " ".join(f"{a:.1f},{b:.1f}" for a, b in places)


def test_without_pixels_there_is_no_diagram() -> None:
    assert calibration_diagram([]) == ""
    assert calibration_diagram([ConfidenceBin(0, None, None)]) == ""


def _scores(measure: str, curve: tuple[float | None, ...]) -> UncertaintyScores:
    return UncertaintyScores(measure, Risk(100, 0.08, 0.02, 0.01, 0.3), (), curve)


def test_risks_are_drawn_over_coverage_on_a_scale_that_holds_them() -> None:
    rising = tuple(0.08 * step / 20 for step in range(1, 21))
    drawn = ElementTree.fromstring(
        risk_diagram([_scores("disagreement", rising), _scores("probability", (0.05,) * 20)])
    )
    frame = drawn.find("rect")
    assert frame is not None
    x, y, side = (float(frame.attrib[key]) for key in ("x", "y", "width"))
    first, second = (line.attrib["points"].split() for line in drawn.findall("polyline"))
    # Up to 10 %: 8 % stands at four fifths of the height, 5 % at half of it.
    assert first[-1] == f"{x + side:.1f},{y + side * 0.2:.1f}"
    assert first[9] == f"{x + side * 0.5:.1f},{y + side * 0.6:.1f}"
    assert {point.split(",")[1] for point in second} == {f"{y + side * 0.5:.1f}"}
    texts = [text.text for text in drawn.findall("text")]
    assert {"disagreement", "stated probability", "2.5%", "7.5%", "10%"} <= set(texts)


def test_without_a_measured_curve_there_is_no_diagram() -> None:
    assert risk_diagram([]) == ""
    assert risk_diagram([_scores("probability", (None,) * 20)]) == ""


@pytest.mark.parametrize(
    ("most", "top"), [(0.0, 0.01), (0.01, 0.01), (0.011, 0.02), (0.3, 0.4), (0.41, 1.0), (1.0, 1.0)]
)
def test_the_scale_ends_above_the_largest_share(most: float, top: float) -> None:
    assert scale_top(most) == top
