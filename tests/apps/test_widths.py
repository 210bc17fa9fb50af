"""Largest widths of the pages on a large screen."""

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

Review = Callable[..., AppTest]


@pytest.mark.usefixtures("made_run")
@pytest.mark.parametrize(("page", "width"), [("iou", "107.5rem"), ("crop", "max(107.5rem,80vw)")])
def test_text_keeps_a_readable_width_and_images_get_the_screen(review: Review, page: str, width: str) -> None:
    app = review(page)
    (style,) = (part.proto.body for part in app.get("html") if "stMainBlockContainer" in part.proto.body)
    assert f"max-width:{width}}}" in style
