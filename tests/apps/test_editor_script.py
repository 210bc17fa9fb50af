"""The editor's JavaScript: what its functions compute, and that it is sound as a whole."""

import importlib
import json
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from playwright._impl._driver import compute_driver_executable

from cytoseg.classes import IGNORE

APP = Path(__file__).parents[2] / "apps" / "review"
SCRIPTS = sorted(APP.glob("*.js"))


@pytest.fixture
def editor(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(APP))
    return importlib.import_module("editor")


def _computed(module: str, code: str, folder: Path) -> Any:
    """Run code with all that a module of the editor exports as ``it``; gives what it returns."""
    for path in APP.glob("editor_*.js"):
        shutil.copy(path, folder / f"{path.stem}.mjs")
    for path in folder.glob("*.mjs"):
        path.write_text(path.read_text().replace('.js";', '.mjs";'))
    main = folder / "main.mjs"
    main.write_text(f'import * as it from "./{module}.mjs";\nconsole.log(JSON.stringify((() => {{{code}}})()));\n')
    node = str(compute_driver_executable()[0])
    return json.loads(subprocess.run([node, str(main)], capture_output=True, text=True, check=True).stdout)


def test_smart_select_takes_what_is_most_alike_first(tmp_path: Path) -> None:
    # Five superpixels in a row of 10 x 2 pixels; 3 is like 2 where 1 is not, and 0 lies behind 1.
    found = _computed(
        "editor_regions",
        """
        const parts = Uint16Array.from({ length: 20 }, (_, i) => Math.floor((i % 10) / 2));
        const colours = [50, 0, 0, 80, 0, 0, 50, 0, 0, 52, 0, 0, 60, 0, 0];
        const regions = new it.Regions(parts, colours, 10);
        const at = (x, y, count) => regions.at({ x, y }, count);
        const wide = [1, 2, 3, 4, 9].map((count) => regions.grown(2, count));
        return [at(4.9, 1.2, 1), at(4, 0, 2), wide, at(-1, 0, 1), at(3, 2, 1), at(10, 0, 1)];
        """,
        tmp_path,
    )
    wide = [[2], [2, 3], [2, 3, 4], [2, 3, 4, 1], [2, 3, 4, 1, 0]]
    assert found == [[4, 5, 14, 15], [4, 5, 14, 15, 6, 7, 16, 17], wide, None, None, None]


def test_marks_are_packed_and_read_again(tmp_path: Path, editor: ModuleType) -> None:
    ids = np.random.default_rng(1).integers(0, 3, (9, 7)).astype(np.uint8)
    runs = editor.packed(ids)
    code = f"const ids = it.unpacked({runs}, 63); return [Array.from(ids), it.packed(ids)];"
    assert _computed("editor_runs", code, tmp_path) == [ids.ravel().tolist(), runs]


def test_a_draft_is_found_that_goes_on_from_what_was_saved(tmp_path: Path) -> None:
    code = """
    const kept = {};
    globalThis.sessionStorage = { setItem: (name, text) => (kept[name] = text), getItem: (name) => kept[name] ?? null };
    const states = [[255, 255], [1, 255], [1, 2]].map((ids) => Uint8Array.from(ids));
    it.keep("work", { token: "a", runs: it.packed(states[2]), states: states.map(it.checksum) });
    const found = (...given) => it.remembered(...given)?.runs ?? null;
    const other = Uint8Array.from([2, 2]);
    return [it.checksum(Uint8Array.from([49, 50, 51])), found("work", "a", other), found("work", "b", states[1]),
      found("work", "b", other), found("other", "a", other)];
    """
    taken = [1, 1, 2, 1]
    assert _computed("editor_runs", code, tmp_path) == [zlib.crc32(b"123"), taken, taken, None, None]


PROPOSAL = """
const [width, height, _] = [6, 3, 255];
const proposed = Uint8Array.from([
  1, 1, _, _, 2, 2,
  1, 1, _, _, _, 2,
  _, _, 1, _, _, _,
]);
"""
"""Three parts: the one below touches another of its class only by a corner."""


def test_a_part_of_a_proposal_is_found_moved_and_taken_away(tmp_path: Path) -> None:
    found = _computed(
        "editor_proposal",
        PROPOSAL
        + """
        const at = (x, y) => it.partAt(proposed, width, height, { x, y });
        const part = at(0.5, 1.9);
        const moved = [[4, 1], [-1, 0]].map(([right, down]) => it.moved(proposed, width, part, right, down));
        const changed = [it.without(proposed, part), ...moved].map((one) => Array.from(one));
        return [part, at(5, 1), at(2, 2), at(2, 0), at(-1, 0), at(6, 0), at(0, 3), ...changed];
        """,
        tmp_path,
    )
    _ = IGNORE
    assert found[:7] == [[0, 1, 6, 7], [4, 5, 11], [14], [], [], [], []]
    assert found[7] == [_, _, _, _, 2, 2, _, _, _, _, _, 2, _, _, 1, _, _, _]
    assert found[8] == [_, _, _, _, 2, 2, _, _, _, _, 1, 1, _, _, 1, _, 1, 1]  # over the other class
    assert found[9] == [1, _, _, _, 2, 2, 1, _, _, _, _, 2, _, _, 1, _, _, _]  # half of it has left the crop


def test_a_crop_is_fitted_to_the_width_and_to_the_height_that_is_left(tmp_path: Path) -> None:
    found = _computed(
        "editor_view",
        """
        const windows = [[620, 720], [1020, 1080], [2360, 2160]]; // width of the column, height of the window
        const room = windows.map(([, inner]) => it.roomBelow(310.5, inner, 16));
        const square = (side, i) => it.fitting({ width: side, height: side }, windows[i][0], room[i]);
        const fit = [256, 128].map((side) => [0, 1, 2].map((i) => square(side, i)));
        const narrow = it.fitting({ width: 256, height: 64 }, 620, 371);
        return [room, ...fit, narrow, it.roomBelow(700, 1000, 16), it.roomBelow(1700, 1000, 16)];
        """,
        tmp_path,
    )
    assert found == [[373, 733, 1813], [1.25, 2.75, 7], [2.75, 5.5, 14], 2.25, 820, 820]


def test_large_crops_are_reduced_to_fit_and_small_ones_fill_a_large_screen(tmp_path: Path) -> None:
    found = _computed(
        "editor_view",
        """
        const square = (side) => ({ width: side, height: side });
        const fit = [1024, 20000].map((side) => it.fitting(square(side), 620, 460));
        const most = [[28.25, 24], [7, 24], [7, 16]].map(([fit, rem]) => it.largest(fit, rem));
        return [...fit, it.fitting(square(64), 2360, 1813), ...most];
        """,
        tmp_path,
    )
    assert found == [0.4375, 0.0625, 28.25, 28.25, 24, 16]


def test_canvases_stay_small_enough_to_be_drawn_at_each_stroke(tmp_path: Path) -> None:
    found = _computed(
        "editor_view",
        """
        const drawn = (side, zoom) => it.drawnAt({ width: side, height: side / 2 }, zoom);
        const sides = [[256, 2.75], [256, 16], [256, 24], [1024, 16], [3000, 16], [9000, 0.0625]];
        return sides.map(([side, zoom]) => drawn(side, zoom));
        """,
        tmp_path,
    )
    assert found == [2.75, 16, 16, 4, 1, 0.0625]


def test_each_change_of_a_proposal_is_a_step_that_can_be_undone(tmp_path: Path) -> None:
    found = _computed(
        "editor_tools",
        PROPOSAL
        + """
        const one = Object.create(it.EditorTools.prototype);
        const classes = [{ id: 1, name: "cell" }, { id: 2, name: "nucleus" }];
        Object.assign(one, { data: { width, height, classes }, ids: new Uint8Array(18).fill(_), proposed });
        Object.assign(one, { past: [], future: [], polygon: [], stroke: null, corner: null, held: null, told: [] });
        one.putProposed = (changed) => { one.proposed = changed; };
        one.draw = one.drawAbove = one.mark = one.changed = one.report = () => {};
        const seen = [];
        const note = () => seen.push([one.deed, Array.from(one.ids), Array.from(one.proposed), one.past.length]);
        const press = (tool, x, y) => { one.tool = tool; one.begin({ x, y }); };
        press("drop", 2, 2); note();
        press("move", 0, 0); one.dragTo({ x: 1, y: 0 }); one.dragTo({ x: 2, y: 1 }); one.release(); note();
        press("take", 3, 2); note();
        press("take", 0, 0); note();
        press("move", 3, 2); one.dragTo({ x: 0, y: 0 }); one.undo(); one.choose("move"); note();
        for (let i = 0; i < 4; i++) one.undo();
        note();
        for (let i = 0; i < 4; i++) one.redo();
        note();
        return seen;
        """,
        tmp_path,
    )
    _ = IGNORE
    none, rest = [_] * 18, [1, 1, _, _, 2, 2, 1, 1, _, _, _, 2, _, _, _, _, _, _]
    shifted = [_, _, _, _, 2, 2, _, _, 1, 1, _, 2, _, _, 1, 1, _, _]
    taken = [_] * 8 + [1, 1, _, _, _, _, 1, 1, _, _]
    assert found[0] == ["deleted cell", none, rest, 1]
    assert found[1] == ["moved cell", none, shifted, 2]
    assert found[2] == ["", taken, shifted, 3]
    assert found[3] == ["nothing proposed here", taken, shifted, 3]
    assert found[4] == ["", taken, shifted, 3]  # a move that was given up
    assert found[5][1:] == [none, [1, 1, _, _, 2, 2, 1, 1, _, _, _, 2, _, _, 1, _, _, _], 0]
    assert found[6][1:] == [taken, shifted, 3]


def test_the_next_editor_begins_with_the_settings_of_the_last(tmp_path: Path) -> None:
    found = _computed(
        "editor_settings",
        """
        const editor = (settings) => {
          const sliders = {};
          return { ...settings, sliders, find: (name) => (sliders[name] ??= { value: "45" }) };
        };
        const one = editor({ tool: "smart", classId: 2, layer: "doubt" });
        const other = editor({ tool: "brush", classId: null, layer: null });
        it.useSettings(other);
        const first = [other.tool, other.find("contrast").value];
        one.find("contrast").value = "200";
        it.keepSettings(one);
        it.useSettings(other);
        const shown = ["contrast", "veil"].map((name) => other.find(name).value);
        return [...first, other.tool, other.classId, other.layer, ...shown];
        """,
        tmp_path,
    )
    assert found == ["brush", "45", "smart", 2, "doubt", "200", "45"]


def test_what_the_browser_gets_is_one_module(tmp_path: Path, editor: ModuleType) -> None:
    script = editor.script()
    assert "import " not in script
    assert script.count("export ") == 1
    whole = tmp_path / "whole.mjs"
    whole.write_text(script)
    node = str(compute_driver_executable()[0])
    subprocess.run([node, "--check", str(whole)], check=True)
    assert sum(path.read_text().count("export ") for path in APP.glob("editor*.js")) > 10


def test_superpixels_travel_as_a_picture(editor: ModuleType) -> None:
    picture = np.tile(np.mgrid[:200, :200][0, ..., None], 3).astype(np.uint8)
    said = editor._superpixels(picture.tobytes(), 200, 200)
    numbers = editor.superpixels(picture).ids
    assert numbers.max() > 255
    assert said["uri"] == editor.data_uri(np.dstack([numbers % 256, numbers // 256, 0 * numbers]).astype(np.uint8))
    assert len(said["colours"]) == 3 * (int(numbers.max()) + 1)


@pytest.mark.slow  # the compiler takes many seconds
def test_the_scripts_are_typed() -> None:
    tsc = Path(sys.executable).parents[1] / "tsc" / "node_modules" / ".bin" / "tsc"  # of the version in the Makefile
    if not tsc.exists():
        pytest.skip("the compiler is installed by make check")
    subprocess.run([str(tsc), "--project", str(APP / "jsconfig.json")], check=True)


def test_the_scripts_are_linted() -> None:
    linter = Path(sys.executable).with_name("oxlint")
    subprocess.run([str(linter), "--deny-warnings", *map(str, SCRIPTS)], check=True)
