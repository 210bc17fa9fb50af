import xml.etree.ElementTree as ElementTree

import pytest

from cytoseg.metrics.diagram import calibration_diagram
from cytoseg.metrics.results import ConfidenceBin

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
