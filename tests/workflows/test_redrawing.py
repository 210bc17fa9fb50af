from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from cytoseg.workflows import redrawing
from cytoseg.workflows.redrawing import Edit, EditOptions, Editor, window_of


def _edit() -> Edit:
    picture = np.random.default_rng(0).integers(0, 200, (50, 60, 3), dtype=np.uint8)
    region = np.zeros((50, 60), bool)
    region[20:25, 40:52] = True
    return Edit(picture, np.zeros((50, 60), np.uint8), np.ones((50, 60), np.uint8), region)


def test_a_window_surrounds_the_region_within_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redrawing, "CONTEXT_PX", 10)
    assert window_of(_edit().region) == (slice(10, 35), slice(30, 62))
    corner = np.zeros((50, 60), bool)
    corner[2, 3] = True
    assert window_of(corner) == (slice(0, 13), slice(0, 14))


@pytest.mark.parametrize(("limit", "seen"), [(50 * 60, (50, 60)), (50 * 60 - 1, (25, 30))])
def test_the_network_sees_of_a_large_image_what_surrounds_the_region(
    limit: int, seen: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def draw(_editor: Editor, edit: Edit, _options: EditOptions, _on_step: Callable[[int], None]) -> NDArray[np.uint8]:
        sizes.append((edit.shown.shape, edit.wanted.shape, edit.picture.shape[:2]))
        return np.where(edit.region[..., None], np.uint8(255), edit.picture)

    monkeypatch.setattr(redrawing, "WHOLE_PX", limit)
    monkeypatch.setattr(redrawing, "CONTEXT_PX", 10)
    monkeypatch.setattr(Editor, "_draw", draw)
    edit = _edit()
    before = edit.picture.copy()
    drawn = Editor.__new__(Editor)(edit, EditOptions())
    assert sizes == [(seen, seen, seen)]
    assert (drawn[edit.region] == 255).all()
    np.testing.assert_array_equal(drawn[~edit.region], before[~edit.region])
    np.testing.assert_array_equal(edit.picture, before)
