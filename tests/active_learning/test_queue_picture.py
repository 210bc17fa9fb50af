import numpy as np
import pytest

from cytoseg.active_learning.queue_picture import GAP_PX, LINE_PX, PANEL_PX, RegionPicture, draw_queue, panels_of
from cytoseg.classes import ClassList
from cytoseg.drawing.overlay import RAMP

CLASSES = ClassList(("glass", "cell"), ((240, 240, 240), (200, 0, 0)), "glass")


def _shown(side: int, reason: str) -> RegionPicture:
    ids = np.zeros((side, side), np.uint8)
    ids[: side // 2] = 1
    nats = np.zeros((side, side), np.float32)
    nats[0] = 0.4
    return RegionPicture(
        "smear, x 1, y 2", reason, panels_of(np.full((side, side, 3), 100, np.uint8), ids, nats, CLASSES)
    )


def test_the_panels_show_the_region_its_classes_and_its_disagreement() -> None:
    panels = dict(_shown(64, "why").panels)
    assert list(panels) == ["region", "prediction", "disagreement, 0 to 0.40 nats"]
    assert {picture.shape for picture in panels.values()} == {(256, 256, 3)}
    assert (panels["region"] == 100).all()
    prediction = panels["prediction"]
    assert prediction[127, 50].tolist() == [200, 0, 0]  # outlined
    assert prediction[50, 50].tolist() == [130, 70, 70]  # veiled by 30 %
    assert (prediction[130:] == 100).all()
    disputed = panels["disagreement, 0 to 0.40 nats"]
    assert (disputed[2, 50].tolist(), disputed[100, 50].tolist()) == (list(RAMP[-1]), list(RAMP[0]))


def test_noise_is_not_stretched() -> None:
    nats = np.full((4, 4), 0.01, np.float32)
    panels = panels_of(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), nats, CLASSES)
    assert panels[2][0] == "disagreement, 0 to 0.05 nats"


def test_a_crop_with_nothing_predicted_is_shown() -> None:
    ids = np.full((300, 300), 255, np.uint8)
    panels = panels_of(np.zeros((300, 300, 3), np.uint8), ids, np.zeros((300, 300), np.float32), CLASSES)
    assert {picture.shape for _, picture in panels} == {(300, 300, 3)}


@pytest.mark.parametrize("side", [64, 300])
def test_each_region_has_a_row_of_its_own(side: int) -> None:
    shown = [_shown(side, "why " * 5), _shown(side, "a long story " * 60)]
    sheet = np.asarray(draw_queue(shown, CLASSES))
    height = len(shown[0].panels[0][1])
    first = 2 * GAP_PX + 2 * LINE_PX
    region = sheet[first : first + height, GAP_PX : GAP_PX + height]
    np.testing.assert_array_equal(region, shown[0].panels[0][1])
    second = first + height + 2 * GAP_PX + LINE_PX
    np.testing.assert_array_equal(sheet[second : second + height, GAP_PX : GAP_PX + height], region)
    assert sheet.shape[1] > 3 * max(height, PANEL_PX)
    # The long story is longer than the images are high, and nothing of it is cut off.
    assert (sheet[-GAP_PX:] == 255).all()
    assert (sheet[-5 * LINE_PX :, -420:] < 100).any()
