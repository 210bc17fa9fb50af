// The slide viewer: OpenSeadragon in a Streamlit component. `data` says what to show, see viewer.py; Streamlit calls
// this again with new data whenever the page runs, so what has not changed is left alone.

const held = new WeakMap();
let library = null;

export default function ({ data, parentElement, setStateValue }) {
  let state = held.get(parentElement);
  if (!state) {
    state = { wanted: data, viewer: null, draws: false, shown: null, layers: {}, jumped: null };
    held.set(parentElement, state);
    load(data.library)
      .then(() => start(state, parentElement, setStateValue))
      .catch(() => say(parentElement, "The viewer could not be loaded. Reload the page."));
  }
  state.wanted = data;
  if (state.viewer) update(state);
  return () => {
    if (state.viewer) state.viewer.destroy();
    held.delete(parentElement);
  };
}

function load(address) {
  if (!library) {
    library = new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = address;
      script.onload = resolve;
      script.onerror = () => {
        library = null;
        reject();
      };
      document.head.appendChild(script);
    });
  }
  return library;
}

function start(state, parent, setStateValue) {
  const { OpenSeadragon } = /** @type {any} */ (window);
  const root = parent.querySelector(".sight");
  const viewer = OpenSeadragon({
    element: root.querySelector(".canvas"),
    drawer: "canvas",
    showNavigationControl: false,
    showNavigator: true,
    navigatorPosition: "TOP_RIGHT",
    navigatorSizeRatio: 0.15,
    navigatorAutoFade: false,
    animationTime: 0.4,
    blendTime: 0,
    immediateRender: true,
    maxZoomPixelRatio: 16,
    minZoomImageRatio: 0.7,
    visibilityRatio: 0.3,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
  });
  state.viewer = root.viewer = viewer;
  state.root = root;
  const slide = () => viewer.world.getItemAt(0);
  const at = (pixel) => slide().viewportToImageCoordinates(viewer.viewport.pointFromPixel(pixel, true));

  viewer.addHandler("update-viewport", () => slide() && draw(state));
  viewer.addHandler("open", () => jump(state));
  viewer.addHandler("tile-load-failed", () =>
    say(parent, "Some parts cannot be shown. The slide may have been moved, or the review has ended: reload the page."),
  );
  viewer.addHandler("canvas-click", (event) => {
    if (!event.quick || !slide()) return;
    const place = at(event.position);
    const width = slide().viewportToImageRectangle(viewer.viewport.getBounds(true)).width;
    setStateValue("clicked", { x: Math.floor(place.x), y: Math.floor(place.y), width: Math.round(width) });
  });
  drawCrops(state, setStateValue, at);
  new OpenSeadragon.MouseTracker({
    element: root.querySelector(".canvas"),
    moveHandler: (event) => slide() && point(state, at(event.position)),
    leaveHandler: () => (root.querySelector(".place").textContent = ""),
  });
  const zoom = (factor) => viewer.viewport.zoomBy(factor).applyConstraints();
  const acts = {
    nearer: () => zoom(1.6),
    farther: () => zoom(1 / 1.6),
    whole: () => viewer.viewport.goHome(),
    native: () => viewer.viewport.zoomTo(slide().imageToViewportZoom(1)),
    crop: () => toggleCrop(state),
    full: () => (document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen()),
  };
  for (const button of root.querySelectorAll("button")) button.onclick = acts[button.name];
  update(state);
}

// Drags draw a rectangle instead of moving the slide, as long as the button is pressed in.
function toggleCrop(state) {
  const button = state.root.querySelector("[name=crop]");
  state.draws = !state.draws;
  button.setAttribute("aria-pressed", state.draws);
  state.root.classList.toggle("draws", state.draws);
}

function drawCrops(state, setStateValue, at) {
  const { OpenSeadragon } = /** @type {any} */ (window);
  const { viewer } = state;
  const mark = document.createElement("div");
  mark.className = "crop";
  let from = null;
  const between = (place) => {
    const [x, y] = [Math.min(from.x, place.x), Math.min(from.y, place.y)].map(Math.floor);
    const [right, bottom] = [Math.max(from.x, place.x), Math.max(from.y, place.y)].map(Math.ceil);
    return { x, y, width: right - x, height: bottom - y };
  };
  viewer.addHandler("canvas-press", (event) => (from = state.draws ? at(event.position) : null));
  viewer.addHandler("canvas-drag", (event) => {
    if (!from) return;
    event.preventDefaultAction = true;
    const { x, y, width, height } = between(at(event.position));
    const place = viewer.world.getItemAt(0).imageToViewportRectangle(new OpenSeadragon.Rect(x, y, width, height));
    viewer.removeOverlay(mark);
    viewer.addOverlay({ element: mark, location: place });
  });
  viewer.addHandler("canvas-drag-end", (event) => {
    if (!from) return;
    event.preventDefaultAction = true;
    setStateValue("drawn", between(at(event.position)));
    from = null;
    toggleCrop(state);
  });
}

function source(data, address, suffix, query) {
  return {
    width: data.width,
    height: data.height,
    tileSize: data.tile,
    tileOverlap: 0,
    minLevel: 0,
    maxLevel: data.finest,
    getTileUrl: (step, x, y) => `${address}/${step}/${x}_${y}.${suffix}?v=${data.version}${query}`,
  };
}

function update(state) {
  const { viewer, wanted } = state;
  const name = `${wanted.slide}?${wanted.version}`;
  if (state.shown !== name) {
    state.shown = name;
    state.layers = {};
    state.jumped = null;
    say(state.root.parentNode, "");
    viewer.open(source(wanted, wanted.slide, "jpg", ""));
    viewer.addOnceHandler("open", () => lay(state));
  } else if (viewer.world.getItemCount()) {
    lay(state);
    jump(state);
  }
}

// Put the layers on the slide as they are wanted now.
function lay(state) {
  const { viewer, wanted } = state;
  for (const layer of wanted.layers) {
    const held = state.layers[layer.name];
    if (held && held.query === layer.query) {
      held.opacity = layer.opacity;
      if (held.item) held.item.setOpacity(layer.opacity);
      continue;
    }
    // What it replaces stays until it is there, so that nothing flickers.
    const next = { query: layer.query, opacity: layer.opacity, item: held ? held.item : null };
    state.layers[layer.name] = next;
    viewer.addTiledImage({
      tileSource: source(wanted, layer.address, "png", layer.query),
      x: 0,
      y: 0,
      width: 1,
      opacity: layer.opacity,
      success: ({ item }) => {
        if (state.layers[layer.name] !== next) return viewer.world.removeItem(item);
        if (next.item) viewer.world.removeItem(next.item);
        next.item = item;
        item.setOpacity(next.opacity);
        stack(state);
      },
    });
  }
}

// Layers come in any order, and lie in the one that was asked for.
function stack(state) {
  const items = state.wanted.layers.map((layer) => state.layers[layer.name].item).filter(Boolean);
  items.forEach((item, above) => state.viewer.world.setItemIndex(item, above + 1));
}

function jump(state) {
  const { viewer, wanted } = state;
  const item = viewer.world.getItemAt(0);
  if (!wanted.jump || !item || state.jumped === wanted.jump.number) return;
  state.jumped = wanted.jump.number;
  const { x, y, width } = wanted.jump;
  viewer.viewport.fitBounds(item.imageToViewportRectangle(x, y, width, width), true);
}

// The scale bar, and how large the slide's pixels are now.
function draw(state) {
  const { viewer, wanted, root } = state;
  const zoom = viewer.world.getItemAt(0).viewportToImageZoom(viewer.viewport.getZoom(true));
  // Beyond its own pixels the slide shows them as they are; a layer's edges stay where they were predicted.
  viewer.drawer.setImageSmoothingEnabled(zoom <= 1);
  const unit = wanted.mpp || 1;
  const most = (160 / zoom) * unit;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].map((n) => n * power).find((n) => n <= most);
  root.querySelector(".bar").style.width = `${(length / unit) * zoom}px`;
  const text = !wanted.mpp ? `${tidy(length)} px` : length >= 1000 ? `${tidy(length / 1000)} mm` : `${tidy(length)} µm`;
  root.querySelector(".length").textContent = text;
  root.querySelector(".zoom").textContent = `${tidy(zoom * 100)} %`;
}

function point(state, place) {
  const { wanted, root } = state;
  const x = Math.floor(place.x);
  const y = Math.floor(place.y);
  const inside = x >= 0 && y >= 0 && x < wanted.width && y < wanted.height;
  const um = wanted.mpp ? ` (${(x * wanted.mpp).toFixed(1)}, ${(y * wanted.mpp).toFixed(1)} µm)` : "";
  root.querySelector(".place").textContent = inside ? `x ${x}, y ${y} px${um}` : "";
}

function say(parent, text) {
  parent.querySelector(".said").textContent = text;
}

function tidy(number) {
  return String(Number(number.toPrecision(3)));
}
