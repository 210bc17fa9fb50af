"""The typed name over a reload."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright._impl._driver import compute_driver_executable
from streamlit.runtime.context import ContextProxy
from streamlit.testing.v1 import AppTest

SCRIPT = Path(__file__).parents[2] / "apps" / "review" / "name_cookie.js"


@pytest.mark.parametrize(
    ("cookie", "name"),
    [
        ("D%C3%B3ra%20M%C3%BCller", "Dóra Müller"),
        ("%0A%00 Dora%0A", "Dora"),
        ("%ff%fe", "\ufffd\ufffd"),
        ("A" * 500, "A" * 80),
        (None, ""),
    ],
)
def test_a_reload_finds_the_name_that_the_browser_kept(
    review: Callable[..., AppTest], made_run: Path, monkeypatch: pytest.MonkeyPatch, cookie: str | None, name: str
) -> None:
    monkeypatch.setattr(ContextProxy, "cookies", {} if cookie is None else {"cytoseg_name_8501": cookie})
    app = review("jobs", "--run", str(made_run))
    assert not app.exception, app.exception
    assert app.text_input(key="reviewer box").value == name
    assert [button.disabled for button in app.main.button if button.label == "Evaluate"] == [not name]
    app = app.text_input(key="reviewer box").input("Bo").run(timeout=60)
    assert app.text_input(key="reviewer box").value == "Bo"  # not the one of before


def test_a_page_that_runs_again_leaves_its_fields_alone(review: Callable[..., AppTest], made_run: Path) -> None:
    app = review("correct", "--run", str(made_run))
    fields = [*app.text_input, *app.selectbox, *app.segmented_control]
    assert {"reviewer box", "run box", "crop box"} <= {field.key for field in fields}
    app.run()
    for field in [*app.text_input, *app.selectbox, *app.segmented_control]:
        assert not field.proto.set_value, field.key
    app = app.text_input(key="reviewer box").input("Anna").run().switch_page("pages/jobs.py").run()
    assert app.text_input(key="reviewer box").value == "Anna"


def test_the_browser_keeps_the_name_until_it_is_closed_or_emptied(tmp_path: Path) -> None:
    shutil.copy(SCRIPT, tmp_path / "it.mjs")
    (tmp_path / "main.mjs").write_text(
        """import keep from "./it.mjs";
        globalThis.document = {};
        const kept = (name) => (keep({ data: { cookie: "cytoseg_name_1", name } }), document.cookie);
        console.log(JSON.stringify([kept("D\u00f3ra; Path=/x"), kept("")]));
        """,
        encoding="utf-8",
    )
    node = str(compute_driver_executable()[0])
    ran = subprocess.run([node, str(tmp_path / "main.mjs")], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == [
        "cytoseg_name_1=D%C3%B3ra%3B%20Path%3D%2Fx; Path=/; SameSite=Strict",
        "cytoseg_name_1=; Path=/; SameSite=Strict; Max-Age=0",
    ]
