"""The layers of the slide viewer: its script run by node, on a viewer that only notes what is asked of it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from playwright._impl._driver import compute_driver_executable

SCRIPT = Path(__file__).parents[2] / "apps" / "review" / "viewer_layers.js"
NOTING = """
import { end, lay } from "SCRIPT";
const said = [];
const coming = [];
const world = {
  items: ["slide"],
  getIndexOfItem: (item) => world.items.indexOf(item),
  removeItem: (item) => (said.push(`remove ${item.name}`), world.items.splice(world.items.indexOf(item), 1)),
};
const viewer = { world, addTiledImage: (options) => coming.push(options), destroy: () => said.push("destroy") };
const layer = (name, version = 1) => ({ name, side: 0, address: name, version, query: "", opacity: 1 });
const pane = { viewer, side: 0, layers: {}, coming: 0, ended: false, laid: () => said.push(lying()) };
const want = (...layers) => lay(pane, { layers, compare: "", width: 8, height: 8, tile: 4, finest: 1 });
const lying = () => world.items.slice(1).map((item) => item.name).join(" ");
// As OpenSeadragon does: in the order asked for, and what is replaced goes.
const come = (name) => {
  const { index, replace, success } = coming.shift();
  const item = { name, setOpacity() {} };
  world.items.splice(index, replace ? 1 : 0, item);
  success({ item });
};
const later = () => new Promise((done) => setTimeout(done, 1));
"""


def _run(steps: str, folder: Path) -> Any:
    """Run steps; gives what was asked of the viewer. Copied, because node takes only .mjs as a module everywhere."""
    copied = folder / "layers.mjs"
    copied.write_text(SCRIPT.read_text())
    script = f"{NOTING.replace('SCRIPT', copied.as_uri())}\n{steps}\nconsole.log(JSON.stringify(said));"
    node = compute_driver_executable()[0]
    done = subprocess.run(
        [node, "--input-type=module", "--eval", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_layer_is_added_in_its_place(tmp_path: Path) -> None:
    said = _run(
        'want(layer("map"), layer("doubt")); come("map"); come("doubt");'
        'want(layer("first"), layer("map"), layer("doubt")); come("first");',
        tmp_path,
    )
    assert said == ["map", "map doubt", "first map doubt"]


def test_a_layer_stays_until_what_replaces_it_has_come(tmp_path: Path) -> None:
    said = _run(
        'want(layer("map"), layer("doubt")); come("old"); come("doubt");'
        'want(layer("map", 2), layer("doubt")); said.push(lying()); come("new");',
        tmp_path,
    )
    assert said == ["old", "old doubt", "old doubt", "new doubt"]


def test_a_layer_that_is_no_longer_wanted_goes_even_when_it_comes_late(tmp_path: Path) -> None:
    said = _run('want(layer("map")); want(); come("map"); said.push(lying());', tmp_path)
    assert said == ["remove map", ""]


@pytest.mark.parametrize("way", ['come("map")', "coming.shift().error()"])
def test_a_viewer_ends_when_no_layer_is_coming_any_more(way: str, tmp_path: Path) -> None:
    said = _run(f'want(layer("map")); end(pane); said.push("asked"); {way}; await later();', tmp_path)
    assert said == ["asked", *(["remove map"] if "come(" in way else []), "destroy"]


def test_a_viewer_with_all_its_layers_ends_at_once(tmp_path: Path) -> None:
    assert _run('want(layer("map")); come("map"); end(pane);', tmp_path)[-1] == "destroy"
