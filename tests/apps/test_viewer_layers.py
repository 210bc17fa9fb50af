"""The layers of the slide viewer: its script run by node, on a viewer that only notes what is asked of it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from playwright._impl._driver import compute_driver_executable

SCRIPT = Path(__file__).parents[2] / "apps" / "review" / "viewer_layers.js"
NOTING = """
import { closePane, updateLayers } from "SCRIPT";
const said = [];
const loading = [];
const world = {
  items: ["slide"],
  getIndexOfItem: (item) => world.items.indexOf(item),
  removeItem: (item) => (said.push(`remove ${item.name}`), world.items.splice(world.items.indexOf(item), 1)),
};
const viewer = { world, addTiledImage: (options) => loading.push(options), destroy: () => said.push("destroy") };
const layer = (name, version = 1) => ({ name, side: 0, address: name, version, query: "", opacity: 1 });
const pane = { viewer, side: 0, layers: {}, loading: 0, closed: false, layersChanged: () => said.push(lying()) };
const want = (...layers) => updateLayers(pane, { layers, compare: "", width: 8, height: 8, tile: 4, finest: 1 });
const lying = () => world.items.slice(1).map((item) => item.name).join(" ");
// As OpenSeadragon does: loaded in the order requested, and a replaced item is removed.
const load = (name) => {
  const { index, replace, success } = loading.shift();
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
        'want(layer("map"), layer("doubt")); load("map"); load("doubt");'
        'want(layer("first"), layer("map"), layer("doubt")); load("first");',
        tmp_path,
    )
    assert said == ["map", "map doubt", "first map doubt"]


def test_a_layer_stays_until_its_replacement_has_loaded(tmp_path: Path) -> None:
    said = _run(
        'want(layer("map"), layer("doubt")); load("old"); load("doubt");'
        'want(layer("map", 2), layer("doubt")); said.push(lying()); load("new");',
        tmp_path,
    )
    assert said == ["old", "old doubt", "old doubt", "new doubt"]


def test_an_unwanted_layer_is_removed_even_if_it_loads_late(tmp_path: Path) -> None:
    said = _run('want(layer("map")); want(); load("map"); said.push(lying());', tmp_path)
    assert said == ["remove map", ""]


@pytest.mark.parametrize("way", ['load("map")', "loading.shift().error()"])
def test_a_viewer_is_destroyed_when_its_last_layer_has_loaded(way: str, tmp_path: Path) -> None:
    said = _run(f'want(layer("map")); closePane(pane); said.push("asked"); {way}; await later();', tmp_path)
    assert said == ["asked", *(["remove map"] if "load(" in way else []), "destroy"]


def test_a_viewer_with_all_its_layers_is_destroyed_at_once(tmp_path: Path) -> None:
    assert _run('want(layer("map")); load("map"); closePane(pane);', tmp_path)[-1] == "destroy"
