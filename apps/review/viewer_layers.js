// What lies in a pane of the slide viewer: the slide, and above it the layers that are wanted there.

export function source(data, address, suffix, version, query) {
  return {
    width: data.width,
    height: data.height,
    tileSize: data.tile,
    tileOverlap: 0,
    minLevel: 0,
    maxLevel: data.finest,
    getTileUrl: (step, x, y) => `${address}/${step}/${x}_${y}.${suffix}?v=${version}${query}`,
  };
}

// With two panes each shows the layers of its side; one pane shows all.
export function layersOf(wanted, side) {
  return wanted.layers.filter((layer) => wanted.compare !== "side" || layer.side === side);
}

const nameOf = (layer) => `${layer.side} ${layer.name}`;

// Put the layers on the slide as they are wanted now.
export function lay(pane, wanted) {
  const { viewer } = pane;
  const layers = layersOf(wanted, pane.side);
  const names = new Set(layers.map(nameOf));
  for (const [name, held] of Object.entries(pane.layers)) {
    if (names.has(name)) continue;
    if (held.item) viewer.world.removeItem(held.item);
    delete pane.layers[name];
  }
  for (const layer of layers) put(pane, wanted, layer);
}

function put(pane, wanted, layer) {
  const { viewer } = pane;
  const name = nameOf(layer);
  const held = pane.layers[name];
  const from = `${layer.address}?${layer.version}${layer.query}`;
  if (held && held.from === from) {
    held.opacity = layer.opacity;
    if (held.item) held.item.setOpacity(layer.opacity);
    return;
  }
  // What it replaces stays until it is there, so that nothing flickers.
  const next = { from, side: layer.side, opacity: layer.opacity, item: held ? held.item : null };
  pane.layers[name] = next;
  viewer.addTiledImage({
    tileSource: source(wanted, layer.address, "png", layer.version, layer.query),
    x: 0,
    y: 0,
    width: 1,
    opacity: layer.opacity,
    success: ({ item }) => {
      if (pane.layers[name] !== next) return viewer.world.removeItem(item);
      if (next.item) viewer.world.removeItem(next.item);
      next.item = item;
      item.setOpacity(next.opacity);
      stack(pane);
      pane.laid();
    },
  });
}

// Layers come in any order, and lie in the one that was asked for.
function stack(pane) {
  const items = layersOf(pane.wanted(), pane.side).map((layer) => pane.layers[nameOf(layer)]?.item);
  items.filter(Boolean).forEach((item, above) => pane.viewer.world.setItemIndex(item, above + 1));
}
