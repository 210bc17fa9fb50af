// Two predictions of a slide: one viewer with a prediction on each side of a seam, or two viewers that move together.

/** @type {Record<string, number>} */
const ENDS = { Home: 0, End: 100 };
/** @type {Record<string, number>} */
const KEYS = { ArrowLeft: -2, ArrowRight: 2, PageDown: -10, PageUp: 10, "[": -2, "]": 2 };

// The pane touched last leads, and the other follows at once.
/** @type {(state: any, one: any, two: any) => void} */
export function link(state, one, two) {
  for (const [from, to] of [
    [one, two],
    [two, one],
  ]) {
    const lead = () => (state.leads = from);
    for (const name of ["canvas-enter", "canvas-press", "canvas-scroll", "canvas-key"]) from.viewer.addHandler(name, lead);
    from.viewer.addHandler("viewport-change", () => {
      if (state.leads === from && state.panes.includes(to)) follow(from, to);
    });
  }
}

/** @type {(from: any, to: any) => void} */
export function follow(from, to) {
  to.viewer.viewport.zoomTo(from.viewer.viewport.getZoom(true), null, true);
  to.viewer.viewport.panTo(from.viewer.viewport.getCenter(true), true);
}

/** @type {(state: any) => void} */
export function holdSeam(state) {
  const { root } = state;
  const seam = root.querySelector(".seam");
  /** @type {(percent: number) => void} */
  const move = (percent) => {
    state.seam = Math.min(100, Math.max(0, percent));
    place(state);
  };
  seam.onpointerdown = (/** @type {PointerEvent} */ event) => {
    if (state.wanted.compare !== "swipe") return;
    seam.setPointerCapture(event.pointerId);
    seam.focus();
    event.preventDefault();
  };
  seam.onpointermove = (/** @type {PointerEvent} */ event) => {
    if (!seam.hasPointerCapture(event.pointerId)) return;
    const box = root.getBoundingClientRect();
    move((100 * (event.clientX - box.left)) / box.width);
  };
  root.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (state.wanted.compare !== "swipe" || event.ctrlKey || event.metaKey || event.altKey) return;
    const [step, ends] = [KEYS[event.key], ENDS[event.key]];
    // Elsewhere in the viewer, arrow keys move the slide.
    const own = event.target === seam || event.key === "[" || event.key === "]";
    if (!own || (step === undefined && ends === undefined)) return;
    event.preventDefault();
    move(ends ?? state.seam + step);
  });
}

// Show or hide the seam, and cut the layers at it.
/** @type {(state: any) => void} */
export function place(state) {
  const { root, wanted } = state;
  const seam = root.querySelector(".seam");
  const at = wanted.compare === "swipe" ? state.seam : 50;
  seam.hidden = !wanted.compare;
  seam.style.left = `${at}%`;
  seam.setAttribute("aria-valuenow", String(Math.round(at)));
  seam.setAttribute("aria-valuetext", `${Math.round(at)} % ${wanted.titles[0]}`);
  seam.tabIndex = wanted.compare === "swipe" ? 0 : -1;
  root.classList.toggle("side", wanted.compare === "side");
  ["one", "two"].forEach((name, side) => (seam.querySelector(`.${name}`).textContent = wanted.titles[side] || ""));
  root.querySelector(".outlines").style.clipPath = wanted.compare === "swipe" ? `inset(0 ${100 - at}% 0 0)` : "";
  cut(state);
}

/** @type {(state: any) => void} */
export function cut(state) {
  const { OpenSeadragon } = /** @type {any} */ (window);
  const { wanted } = state;
  const { viewer, layers } = state.panes[0];
  const slide = viewer.world.getItemAt(0);
  if (!slide) return;
  const swiped = wanted.compare === "swipe";
  const pixel = new OpenSeadragon.Point((viewer.viewport.getContainerSize().x * state.seam) / 100, 0);
  const x = slide.viewportToImageCoordinates(viewer.viewport.pointFromPixel(pixel, true)).x;
  const edge = Math.min(wanted.width, Math.max(0, x));
  const sides = [
    new OpenSeadragon.Rect(0, 0, edge, wanted.height),
    new OpenSeadragon.Rect(edge, 0, wanted.width - edge, wanted.height),
  ];
  for (const held of Object.values(layers)) if (held.item) held.item.setClip(swiped ? sides[held.side] : null);
}
