// The slide viewer: OpenSeadragon in a Streamlit component. `data` describes what to show, see viewer.py; Streamlit
// calls this again with new data whenever the page runs, so unchanged parts are left alone.
// viewer.py joins the modules of the viewer into one, in the order of their imports.

import { cut, follow, holdSeam, link, place } from "./viewer_compare.js";
import { drawCrops, toggleCrop } from "./viewer_crops.js";
import { closePane, source, updateLayers } from "./viewer_layers.js";
import { holdOutlines, move, paint, pick } from "./viewer_outlines.js";
import { keepView, viewOf } from "./viewer_views.js";

const held = new WeakMap();
/** @type {Promise<unknown> | null} */
let library = null;

/** @type {(component: any) => () => void} */
export default function ({ data, parentElement, setStateValue }) {
  let state = held.get(parentElement);
  if (!state) {
    state = { wanted: data, panes: [], leads: null, seam: 50, outlines: {}, draws: false, jumped: "" };
    held.set(parentElement, state);
    load(data.library)
      .then(() => state.closed || start(state, parentElement, setStateValue))
      .catch(() => say(parentElement, "The viewer could not be loaded. Reload the page."));
  }
  state.wanted = data;
  if (state.panes.length) update(state);
  return () => {
    state.closed = true;
    clearTimeout(state.outlines.timer);
    if (state.panes.length) leave(state, state.panes[0]);
    state.panes.forEach(closePane);
    held.delete(parentElement);
  };
}

/** @type {(address: string) => Promise<unknown>} */
function load(address) {
  library ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = address;
    script.onload = resolve;
    script.onerror = () => {
      library = null;
      reject();
    };
    document.head.appendChild(script);
  });
  return library;
}

/** @type {(state: any, parent: any, setStateValue: (name: string, value: object) => void) => void} */
function start(state, parent, setStateValue) {
  const root = parent.querySelector(".sight");
  state.root = root;
  state.open = (/** @type {number} */ side) => openPane(state, side, parent, setStateValue);
  const pane = (state.leads = state.open(0));
  const { viewer } = pane;
  state.panes = [pane];
  root.viewer = viewer;
  const slide = () => viewer.world.getItemAt(0);
  viewer.addHandler("open", () => jump(state) || comeBack(state));
  viewer.addHandler("update-viewport", () => {
    if (!slide()) return;
    draw(state);
    move(state);
  });
  holdOutlines(state, viewer);
  viewer.addHandler("viewport-change", () => state.wanted.compare === "swipe" && cut(state));
  drawCrops(state, viewer, setStateValue, pane.at);
  holdSeam(state);
  /** @type {(factor: number) => void} */
  const zoom = (factor) => viewer.viewport.zoomBy(factor).applyConstraints();
  /** @type {Record<string, () => void>} */
  const acts = {
    nearer: () => zoom(1.6),
    farther: () => zoom(1 / 1.6),
    whole: () => viewer.viewport.goHome(),
    native: () => viewer.viewport.zoomTo(slide().imageToViewportZoom(1)),
    crop: () => toggleCrop(state),
    full: () => (document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen()),
  };
  for (const button of root.querySelectorAll("button")) {
    button.onclick = () => {
      state.leads = pane;
      acts[button.name]();
    };
  }
  update(state);
}

// A pane is one OpenSeadragon viewer; the right one exists only for side by side.
/** @type {(state: any, side: number, parent: any, setStateValue: (name: string, value: object) => void) => any} */
function openPane(state, side, parent, setStateValue) {
  const { OpenSeadragon } = /** @type {any} */ (window);
  const element = parent.querySelectorAll(".canvas")[side];
  const viewer = OpenSeadragon({
    element,
    drawer: "canvas",
    showNavigationControl: false,
    showNavigator: side === 0,
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
  const slide = () => viewer.world.getItemAt(0);
  /** @type {(pixel: any) => {x: number, y: number}} */
  const at = (pixel) => slide().viewportToImageCoordinates(viewer.viewport.pointFromPixel(pixel, true));
  viewer.addHandler("tile-load-failed", () =>
    say(parent, "Some parts cannot be shown. The slide may have been moved, or the review has ended: reload the page."),
  );
  viewer.addHandler("canvas-click", (/** @type {any} */ event) => {
    if (!event.quick || !slide()) return;
    const spot = at(event.position);
    const width = slide().viewportToImageRectangle(viewer.viewport.getBounds(true)).width;
    if (side === 0) pick(state, spot);
    setStateValue("clicked", { x: Math.floor(spot.x), y: Math.floor(spot.y), width: Math.round(width) });
  });
  new OpenSeadragon.MouseTracker({
    element,
    moveHandler: (/** @type {any} */ event) => slide() && point(state, at(event.position)),
    leaveHandler: () => (state.root.querySelector(".place").textContent = ""),
  });
  const empty = { shown: null, layers: {}, loading: 0, closed: false };
  return { viewer, side, at, ...empty, layersChanged: () => cut(state) };
}

/** @type {(state: any) => void} */
function update(state) {
  const { wanted, panes } = state;
  if (wanted.compare === "side" && panes.length === 1) {
    panes.push(state.open(1));
    link(state, panes[0], panes[1]);
    state.leads = panes[0];
  }
  if (wanted.compare !== "side" && panes.length === 2) closePane(panes.pop());
  place(state);
  paint(state);
  for (const pane of panes) show(state, pane);
}

/** @type {(state: any, pane: any) => void} */
function show(state, pane) {
  const { wanted } = state;
  const { viewer } = pane;
  const name = `${wanted.slide}?${wanted.version}`;
  if (pane.shown !== name) {
    if (pane.side === 0) {
      leave(state, pane);
      state.jumped = viewOf(name)?.jumped ?? "";
    }
    pane.shown = name;
    pane.layers = {};
    say(state.root.parentNode, "");
    viewer.open(source(wanted, wanted.slide, "jpg", wanted.version, ""));
    viewer.addOnceHandler("open", () => {
      if (pane.closed) return;
      updateLayers(pane, state.wanted);
      if (pane.side === 1) follow(state.panes[0], pane);
    });
  } else if (viewer.world.getItemCount()) {
    updateLayers(pane, wanted);
    if (pane.side === 0) jump(state);
  }
}

/** @type {(state: any, pane: any) => void} */
function leave(state, pane) {
  keepView(pane.shown, pane.viewer, state.jumped);
}

// Show the slide where it was looked at last.
/** @type {(state: any) => void} */
function comeBack(state) {
  const { shown, viewer } = state.panes[0];
  const view = viewOf(shown);
  if (view) viewer.viewport.fitBounds(view.bounds, true);
}

/** @type {(state: any) => boolean} whether it has moved */
function jump(state) {
  const { wanted } = state;
  const { viewer } = state.panes[0];
  const item = viewer.world.getItemAt(0);
  const asked = JSON.stringify(wanted.jump);
  if (!wanted.jump || !item || state.jumped === asked) return false;
  state.jumped = asked;
  state.leads = state.panes[0];
  const { x, y, width } = wanted.jump;
  viewer.viewport.fitBounds(item.imageToViewportRectangle(x, y, width, width), true);
  return true;
}

// The scale bar, and how large the slide's pixels are now.
/** @type {(state: any) => void} */
function draw(state) {
  const { wanted, root, panes } = state;
  const { viewer } = panes[0];
  const zoom = viewer.world.getItemAt(0).viewportToImageZoom(viewer.viewport.getZoom(true));
  // Zoomed in further, the slide's pixels are shown unsmoothed; a layer's edges stay where they were predicted.
  for (const pane of panes) pane.viewer.drawer.setImageSmoothingEnabled(zoom <= 1);
  const unit = wanted.mpp || 1;
  const most = (160 / zoom) * unit;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].map((n) => n * power).find((n) => n <= most) ?? power;
  root.querySelector(".bar").style.width = `${(length / unit) * zoom}px`;
  const text = !wanted.mpp ? `${tidy(length)} px` : length >= 1000 ? `${tidy(length / 1000)} mm` : `${tidy(length)} µm`;
  root.querySelector(".length").textContent = text;
  root.querySelector(".zoom").textContent = `${tidy(zoom * 100)} %`;
}

/** @type {(state: any, place: {x: number, y: number}) => void} */
function point(state, place) {
  const { wanted, root } = state;
  const x = Math.floor(place.x);
  const y = Math.floor(place.y);
  const inside = x >= 0 && y >= 0 && x < wanted.width && y < wanted.height;
  const um = wanted.mpp ? ` (${(x * wanted.mpp).toFixed(1)}, ${(y * wanted.mpp).toFixed(1)} µm)` : "";
  root.querySelector(".place").textContent = inside ? `x ${x}, y ${y} px${um}` : "";
}

/** @type {(parent: any, text: string) => void} */
function say(parent, text) {
  parent.querySelector(".said").textContent = text;
}

/** @type {(number: number) => string} */
function tidy(number) {
  return String(Number(number.toPrecision(3)));
}
