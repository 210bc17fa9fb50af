// Outlines of the objects in view, as vectors over the slide: fetched for the current view and a margin.

const SVG = "http://www.w3.org/2000/svg";
const BEYOND = 0.25; // fraction of the view, on each side
const REST_MS = 150;

/** @typedef {{x: number, y: number, width: number, height: number}} Region in pixels of the slide */

/** @type {(state: any, viewer: any) => void} */
export function holdOutlines(state, viewer) {
  for (const name of ["open", "animation-finish", "resize"]) {
    viewer.addHandler(name, () => {
      clearTimeout(state.outlines.timer);
      state.outlines.timer = setTimeout(() => ask(state), REST_MS);
    });
  }
}

// Transform the outlines from the slide's pixels to the screen.
/** @type {(state: any) => void} */
export function move(state) {
  const { OpenSeadragon } = /** @type {any} */ (window);
  const { viewport, world } = state.panes[0].viewer;
  const slide = world.getItemAt(0);
  const corner = viewport.pixelFromPoint(slide.imageToViewportCoordinates(new OpenSeadragon.Point(0, 0)), true);
  const zoom = slide.viewportToImageZoom(viewport.getZoom(true));
  const place = `translate(${corner.x} ${corner.y}) scale(${zoom})`;
  state.root.querySelector(".outlines g").setAttribute("transform", place);
}

// Show the wanted outlines that have loaded, and request the others.
/** @type {(state: any) => void} */
export function paint(state) {
  const { wanted, root, outlines } = state;
  const said = wanted.outlines;
  const name = said ? `${said.address}?${said.version}` : "";
  if (outlines.name !== name) {
    Object.assign(outlines, { name, region: null, chosen: null });
    root.querySelector(".outlines g").replaceChildren();
    root.querySelector(".drawn").textContent = "";
  }
  if (!said) return;
  const shown = new Set(said.shown);
  for (const path of root.querySelectorAll(".outlines path")) {
    path.style.display = shown.has(path.dataset.name) ? "" : "none";
    if (!path.matches(".casing")) path.style.stroke = said.colours[path.dataset.name];
  }
  ask(state);
}

/** @type {(state: any) => void} */
function ask(state) {
  const { wanted, outlines, panes } = state;
  const { viewport, world } = panes[0].viewer;
  const slide = world.getItemAt(0);
  if (!wanted.outlines || !slide || panes[0].shown !== `${wanted.slide}?${wanted.version}`) return;
  const view = slide.viewportToImageRectangle(viewport.getBounds(true));
  const pixel = 1 / slide.viewportToImageZoom(viewport.getZoom(true));
  if (outlines.region && covers(outlines.region, view) && outlines.pixel / pixel < 2 && pixel / outlines.pixel < 2) return;
  const [across, down] = [view.width * BEYOND, view.height * BEYOND];
  const region = {
    x: Math.floor(view.x - across),
    y: Math.floor(view.y - down),
    width: Math.ceil(view.width + 2 * across),
    height: Math.ceil(view.height + 2 * down),
  };
  Object.assign(outlines, { region, pixel });
  const place = Object.entries(region).map(([key, value]) => `${key}=${value}`);
  const name = outlines.name;
  fetch(`${wanted.outlines.address}?${place.join("&")}&pixel=${pixel.toFixed(6)}`)
    .then((answer) => (answer.ok ? answer.json() : Promise.reject(answer.status)))
    .then((found) => outlines.region === region && outlines.name === name && fill(state, found))
    .catch(() => {
      if (outlines.region === region) state.root.querySelector(".drawn").textContent = "The outlines cannot be shown.";
    });
}

/** @type {(region: Region, view: Region) => boolean} */
function covers(region, view) {
  const [right, lower] = [region.x + region.width, region.y + region.height];
  return region.x <= view.x && region.y <= view.y && right >= view.x + view.width && lower >= view.y + view.height;
}

/** @type {(state: any, found: any) => void} */
function fill(state, found) {
  const { root, outlines } = state;
  const group = root.querySelector(".outlines g");
  const parts = [];
  for (const { id, class: name, rings } of found.objects) parts.push(...pathsOf(id, name, rings.map(closed).join(""), ""));
  for (const { id, class: name, x, y } of found.dots) parts.push(...pathsOf(id, name, `M${x} ${y}h0`, " dot"));
  // The white edge of one object would cover a neighbouring object.
  group.replaceChildren(...parts.filter((one, i) => i % 2 === 0), ...parts.filter((one, i) => i % 2 === 1));
  const count = found.objects.length + found.dots.length;
  const some = `The largest ${count} of ${found.total} objects here; zoom in for the others.`;
  root.querySelector(".drawn").textContent = count < found.total ? some : "";
  choose(root, outlines.chosen);
  paint(state);
}

/** @type {(id: number, name: string, line: string, kind: string) => SVGElement[]} */
function pathsOf(id, name, line, kind) {
  return ["casing", "line"].map((which) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", line);
    path.setAttribute("class", `${which}${kind}`);
    Object.assign(path.dataset, { id, name });
    return path;
  });
}

/** @type {(ring: number[]) => string} */
function closed(ring) {
  let line = `M${ring[0]} ${ring[1]}`;
  for (let i = 2; i < ring.length; i += 2) line += `L${ring[i]} ${ring[i + 1]}`;
  return `${line}Z`;
}

// Mark the object at the clicked position; the page shows its measurements.
/** @type {(state: any, spot: {x: number, y: number}) => void} */
export function pick(state, spot) {
  const { root, outlines } = state;
  const lines = [...root.querySelectorAll(".outlines .line")];
  const point = new DOMPoint(spot.x, spot.y);
  const hit = lines.find((path) => path.style.display !== "none" && path.isPointInFill(point));
  outlines.chosen = hit ? hit.dataset.id : null;
  choose(root, outlines.chosen);
}

/** @type {(root: any, id: string | null) => void} */
function choose(root, id) {
  for (const path of root.querySelectorAll(".outlines .line")) path.classList.toggle("chosen", path.dataset.id === id);
}
