"""The whole job by keys alone: from a folder of slides to a signed-off result, without a mouse."""

import re

import pytest
from playwright.sync_api import Page, expect

from cytoseg.jobs.job_table import FINISHED
from cytoseg.labels.index import load_index
from cytoseg.recipe import dump_recipe, load_recipe
from cytoseg.review.append_only import log_of
from cytoseg.review.slide_approvals import read_sign_offs
from cytoseg.writing import write_atomically
from tests.browser.bench import CROP_PX, Bench, bench, has_all_classes, marked, places, until
from tests.browser.conftest import DRAWN_MS, rested

__all__ = ["bench"]
pytestmark = pytest.mark.browser
MOST_TABS = 150
"""More presses of Tab than any page has stops: a page that needs them all has caught the focus."""
FOCUSED = """() => {
  let found = document.activeElement;
  while (found.shadowRoot?.activeElement) found = found.shadowRoot.activeElement;
  const style = getComputedStyle(found), seen = found.getBoundingClientRect();
  return {
    name: (found.getAttribute('aria-label') || found.textContent || '').trim(),
    kind: found.tagName,
    there: seen.width > 0 && seen.height > 0 && style.visibility !== 'hidden',
  };
}"""


def _reach(page: Page, name: str, *, kind: str | tuple[str, ...] = "") -> None:
    """Press Tab until the part of the page with a name has the focus."""
    passed = []
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        found = page.evaluate(FOCUSED)
        if found["name"].endswith(name) and found["kind"].startswith(kind):
            assert found["there"], f"{name} has the focus, but is not to be seen"
            return
        passed.append(f"{found['kind']} {found['name'][:30]}")
    raise AssertionError(f"Tab never comes to {name!r}, but to {passed}")


def _press(page: Page, name: str) -> None:
    _reach(page, name)
    page.keyboard.press("Enter")


def _type(page: Page, label: str, text: str, end: str = "Enter") -> None:
    _reach(page, label, kind=("INPUT", "TEXTAREA"))  # not the button that helps with it
    page.keyboard.press("Control+a")
    page.keyboard.type(text)
    page.keyboard.press(end)
    rested(page)


def _heading(page: Page, title: str) -> None:
    expect(page.locator("h1").first).to_contain_text(title, timeout=DRAWN_MS)
    rested(page)


@pytest.mark.slow  # starts the app and two commands
def test_from_slides_to_a_signed_off_result_by_keys_alone(bench: Bench) -> None:
    page = bench.page
    _heading(page, "New project")
    _type(page, "Name of the project", "story")
    _press(page, "Create the project")
    _heading(page, "Annotate")
    recipe = load_recipe("story.yaml", ["interpreter.members=2", "interpreter.steps=100"])
    write_atomically(bench.run / "recipe.yaml", dump_recipe(recipe))
    _annotate(bench)
    _press(page, "Train")
    until(lambda: [job.state for job in bench.jobs()] == [FINISHED])
    rested(page)
    _press(page, "Predict")
    _heading(page, "Predict")
    _type(page, "Slides", "smear_0")
    page.keyboard.press("Escape")
    _reach(page, "Predict", kind="BUTTON")
    page.keyboard.press("Enter")
    until(lambda: bench.jobs()[0].command == "predict" and bench.jobs()[0].state == FINISHED)
    expect(page.get_by_role("button", name="Open the slide")).to_be_visible(timeout=DRAWN_MS)
    rested(page)
    _press(page, "Open the slide")
    _heading(page, "Slides")
    _type(page, "Comment", "all nuclei found", "Control+Enter")
    _press(page, "Approve")
    until(lambda: len(read_sign_offs(log_of(bench.run, None))) == 1)
    (said,) = read_sign_offs(log_of(bench.run, None))
    assert (said.slide, said.verdict, said.author, said.comment) == ("smear_0", "approved", "Anna", "all nuclei found")
    assert bench.errors == []


def _annotate(bench: Bench) -> None:
    """Cut crops until two train crops show all classes, and put a dot of each class on them."""
    page, crops = bench.page, []
    _press(page, "Cut a random crop")
    expect(page.locator(".editor[data-token*='/to_label/'][aria-busy=false]")).to_be_visible(timeout=DRAWN_MS)
    rested(page)
    _type(page, "Your name", "Anna")
    while True:
        editor = page.locator(".editor[data-token*='/to_label/'][aria-busy=false]")
        expect(editor).to_be_visible(timeout=DRAWN_MS)
        rested(page)
        crop = (editor.get_attribute("data-token") or "").split("/")[2]
        if has_all_classes(crop):
            _dot_each_class(bench, crop)
            crops.append(crop)
        if len({name.rsplit("_", 2)[0] for name in crops}) == 2:
            break
        _press(page, "New random crop")
        expect(page.locator(f".editor[data-token*='/{crop}/']")).to_have_count(0, timeout=DRAWN_MS)
    until(lambda: {entry.crop for entry in load_index(bench.run / "labels").crops} == set(crops))


def _dot_each_class(bench: Bench, crop: str) -> None:
    page, at = bench.page, [CROP_PX // 2, CROP_PX // 2]
    _reach(page, "BrushB")
    page.keyboard.press("g")
    page.keyboard.press("b")
    for class_id, (x, y, _) in enumerate(places(crop)):
        page.keyboard.press(str(class_id + 1))
        for axis, (wanted, back, forth) in enumerate(((x, "ArrowLeft", "ArrowRight"), (y, "ArrowUp", "ArrowDown"))):
            way = wanted - at[axis]
            key = forth if way > 0 else back
            for stride, times in (("Shift+", abs(way) // 10), ("", abs(way) % 10)):
                for _ in range(times):
                    page.keyboard.press(f"{stride}{key}")
            at[axis] = wanted
        page.keyboard.press("Space")
    until(
        lambda: all(
            marked(bench.run / "to_label" / f"{crop}.png")[y, x] == i for i, (x, y, _) in enumerate(places(crop))
        )
    )
    expect(page.get_by_text(re.compile(r"Trained on \d+ crops? in"))).to_be_visible(timeout=DRAWN_MS)
    rested(page)
