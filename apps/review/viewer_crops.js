// Crops drawn on the slide: while the button is pressed in, dragging draws a rectangle instead of moving the slide.

/** @type {(state: any) => void} */
export function toggleCrop(state) {
  const button = state.root.querySelector("[name=crop]");
  state.draws = !state.draws;
  button.setAttribute("aria-pressed", state.draws);
  state.root.classList.toggle("draws", state.draws);
}

/** @type {(state: any, viewer: any, setStateValue: (name: string, value: object) => void, at: (pixel: any) => {x: number, y: number}) => void} */
export function drawCrops(state, viewer, setStateValue, at) {
  const { OpenSeadragon } = /** @type {any} */ (window);
  const mark = document.createElement("div");
  mark.className = "crop";
  /** @type {{x: number, y: number} | null} */
  let from = null;
  /** @type {(from: {x: number, y: number}, place: {x: number, y: number}) => {x: number, y: number, width: number, height: number}} */
  const between = (from, place) => {
    const [x, y] = [Math.min(from.x, place.x), Math.min(from.y, place.y)].map(Math.floor);
    const [right, bottom] = [Math.max(from.x, place.x), Math.max(from.y, place.y)].map(Math.ceil);
    return { x, y, width: right - x, height: bottom - y };
  };
  viewer.addHandler("canvas-press", (/** @type {any} */ event) => (from = state.draws ? at(event.position) : null));
  viewer.addHandler("canvas-drag", (/** @type {any} */ event) => {
    if (!from) return;
    event.preventDefaultAction = true;
    const { x, y, width, height } = between(from, at(event.position));
    const place = viewer.world.getItemAt(0).imageToViewportRectangle(new OpenSeadragon.Rect(x, y, width, height));
    viewer.removeOverlay(mark);
    viewer.addOverlay({ element: mark, location: place });
  });
  viewer.addHandler("canvas-drag-end", (/** @type {any} */ event) => {
    if (!from) return;
    event.preventDefaultAction = true;
    setStateValue("drawn", between(from, at(event.position)));
    from = null;
    toggleCrop(state);
  });
}
