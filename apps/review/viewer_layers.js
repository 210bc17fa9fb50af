// The layers drawn above the slide in one pane of the viewer.

/** @type {(data: any, address: string, suffix: string, version: string, query: string) => object} */
export function source(data, address, suffix, version, query) {
  return {
    width: data.width,
    height: data.height,
    tileSize: data.tile,
    tileOverlap: 0,
    minLevel: 0,
    maxLevel: data.finest,
    getTileUrl: (/** @type {number} */ step, /** @type {number} */ x, /** @type {number} */ y) => `${address}/${step}/${x}_${y}.${suffix}?v=${version}${query}`,
  };
}

// With two panes, each shows the layers of its side; a single pane shows all.
/** @type {(wanted: any, side: number) => any[]} */
export function layersOf(wanted, side) {
  return wanted.layers.filter((/** @type {any} */ layer) => wanted.compare !== "side" || layer.side === side);
}

/** @type {(layer: {side: number, name: string}) => string} */
const nameOf = (layer) => `${layer.side} ${layer.name}`;

// Add, replace and remove layers until the pane shows the wanted ones.
/** @type {(pane: any, wanted: any) => void} */
export function updateLayers(pane, wanted) {
  const { viewer } = pane;
  const layers = layersOf(wanted, pane.side);
  const names = new Set(layers.map(nameOf));
  for (const [name, held] of Object.entries(pane.layers)) {
    if (names.has(name)) continue;
    if (held.item) viewer.world.removeItem(held.item);
    delete pane.layers[name];
  }
  layers.forEach((layer, above) => updateLayer(pane, wanted, layer, above + 1));
}

/** @type {(pane: any, wanted: any, layer: any, index: number) => void} */
function updateLayer(pane, wanted, layer, index) {
  const { viewer } = pane;
  const name = nameOf(layer);
  const held = pane.layers[name];
  const from = `${layer.address}?${layer.version}${layer.query}`;
  if (held && held.from === from) {
    held.opacity = layer.opacity;
    if (held.item) held.item.setOpacity(layer.opacity);
    return;
  }
  // The replaced item stays until the new one has loaded, to avoid flicker. Items get their index when they are added:
  // the navigator repeats a later move on its own items, which may not have loaded yet, and fails.
  const old = held ? held.item : null;
  const replaced = old ? viewer.world.getIndexOfItem(old) : -1;
  const next = { from, side: layer.side, opacity: layer.opacity, item: old };
  pane.layers[name] = next;
  pane.loading += 1;
  viewer.addTiledImage({
    tileSource: source(wanted, layer.address, "png", layer.version, layer.query),
    x: 0,
    y: 0,
    width: 1,
    opacity: layer.opacity,
    index: replaced < 0 ? index : replaced,
    replace: replaced >= 0,
    error: () => settled(pane),
    success: (/** @type {any} */ { item }) => {
      settled(pane);
      if (pane.closed || pane.layers[name] !== next) return viewer.world.removeItem(item);
      next.item = item;
      item.setOpacity(next.opacity);
      pane.layersChanged();
    },
  });
}

// A destroyed OpenSeadragon viewer still adds layers that were loading, and fails: so destroy it after the last one.
/** @type {(pane: any) => void} */
export function closePane(pane) {
  pane.closed = true;
  if (!pane.loading) pane.viewer.destroy();
}

/** @type {(pane: any) => void} */
function settled(pane) {
  pane.loading -= 1;
  if (pane.closed) setTimeout(() => closePane(pane));
}
