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
  layers.forEach((layer, above) => put(pane, wanted, layer, above + 1));
}

function put(pane, wanted, layer, index) {
  const { viewer } = pane;
  const name = nameOf(layer);
  const held = pane.layers[name];
  const from = `${layer.address}?${layer.version}${layer.query}`;
  if (held && held.from === from) {
    held.opacity = layer.opacity;
    if (held.item) held.item.setOpacity(layer.opacity);
    return;
  }
  // What it replaces stays until it is there, so that nothing flickers. Items are put in their place as they are added:
  // the navigator repeats a later move with items of its own, which may not have come yet, and fails.
  const old = held ? held.item : null;
  const replaced = old ? viewer.world.getIndexOfItem(old) : -1;
  const next = { from, side: layer.side, opacity: layer.opacity, item: old };
  pane.layers[name] = next;
  pane.coming += 1;
  viewer.addTiledImage({
    tileSource: source(wanted, layer.address, "png", layer.version, layer.query),
    x: 0,
    y: 0,
    width: 1,
    opacity: layer.opacity,
    index: replaced < 0 ? index : replaced,
    replace: replaced >= 0,
    error: () => came(pane),
    success: ({ item }) => {
      came(pane);
      if (pane.ended || pane.layers[name] !== next) return viewer.world.removeItem(item);
      next.item = item;
      item.setOpacity(next.opacity);
      pane.laid();
    },
  });
}

// OpenSeadragon goes on adding the layers that were on their way when it was destroyed, and fails over them: so wait.
export function end(pane) {
  pane.ended = true;
  if (!pane.coming) pane.viewer.destroy();
}

function came(pane) {
  pane.coming -= 1;
  if (pane.ended) setTimeout(() => end(pane));
}
