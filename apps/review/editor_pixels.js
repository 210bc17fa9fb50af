// Label maps as arrays of ids: strokes, polygons, rectangles, areas.

/** @typedef {{x: number, y: number}} Point in pixels of the crop */

export const IGNORE = 255;

/** @type {(ids: Uint8Array, width: number, height: number, from: Point, to: Point, size: number, id: number) => void} */
export function stroke(ids, width, height, from, to, size, id) {
  const radius = size / 2;
  const [x, y] = [to.x - from.x, to.y - from.y];
  const length = x * x + y * y;
  const rows = [Math.min(from.y, to.y) - radius, Math.max(from.y, to.y) + radius];
  const columns = [Math.min(from.x, to.x) - radius, Math.max(from.x, to.x) + radius];
  for (let row = Math.max(0, Math.floor(rows[0])); row <= Math.min(height - 1, rows[1]); row++)
    for (let column = Math.max(0, Math.floor(columns[0])); column <= Math.min(width - 1, columns[1]); column++) {
      const [px, py] = [column + 0.5 - from.x, row + 0.5 - from.y];
      const along = length ? Math.max(0, Math.min(1, (px * x + py * y) / length)) : 0;
      if (Math.hypot(px - along * x, py - along * y) <= radius) ids[row * width + column] = id;
    }
  // The finest brush may lie between the centres; it paints the pixel under it.
  const [column, row] = [Math.floor(to.x), Math.floor(to.y)];
  if (column >= 0 && column < width && row >= 0 && row < height) ids[row * width + column] = id;
}

/** @type {(ids: Uint8Array, width: number, height: number, point: Point, id: number) => void} */
export function flood(ids, width, height, point, id) {
  const [x, y] = [Math.floor(point.x), Math.floor(point.y)];
  if (x < 0 || y < 0 || x >= width || y >= height) return;
  const from = ids[y * width + x];
  if (from === id) return;
  const open = [y * width + x];
  ids[open[0]] = id;
  for (let i = open.pop(); i !== undefined; i = open.pop()) {
    const column = i % width;
    for (const next of [column > 0 ? i - 1 : -1, column < width - 1 ? i + 1 : -1, i - width, i + width])
      if (next >= 0 && next < ids.length && ids[next] === from) {
        ids[next] = id;
        open.push(next);
      }
  }
}

/** @type {(ids: Uint8Array, width: number, height: number, corners: Point[], id: number) => void} */
export function fillPolygon(ids, width, height, corners, id) {
  for (let row = 0; row < height; row++) {
    const y = row + 0.5;
    /** @type {number[]} */
    const crossings = [];
    corners.forEach((a, i) => {
      const b = corners[(i + 1) % corners.length];
      if (a.y <= y !== b.y <= y) crossings.push(a.x + ((y - a.y) * (b.x - a.x)) / (b.y - a.y));
    });
    crossings.sort((a, b) => a - b);
    for (let i = 0; i + 1 < crossings.length; i += 2) {
      const last = Math.min(width, Math.ceil(crossings[i + 1] - 0.5));
      for (let column = Math.max(0, Math.ceil(crossings[i] - 0.5)); column < last; column++) ids[row * width + column] = id;
    }
  }
}

/** @type {(a: Uint8Array, b: Uint8Array) => boolean} */
export function same(a, b) {
  return a.every((id, i) => id === b[i]);
}

/** @type {(ids: Uint8Array, width: number, height: number, from: Point, to: Point, id: number) => void} */
export function fillRectangle(ids, width, height, from, to, id) {
  const [left, right] = [Math.min(from.x, to.x), Math.max(from.x, to.x)];
  const [top, bottom] = [Math.min(from.y, to.y), Math.max(from.y, to.y)];
  const first = Math.max(0, Math.ceil(left - 0.5));
  const last = Math.min(width, Math.ceil(right - 0.5));
  for (let row = Math.max(0, Math.ceil(top - 0.5)); row < Math.min(height, Math.ceil(bottom - 0.5)); row++)
    if (first < last) ids.fill(id, row * width + first, row * width + last);
}

// The border pixels of a proposal's areas, with their ids; IGNORE elsewhere.
/** @type {(proposed: Uint8Array, width: number) => Uint8Array} */
export function edges(proposed, width) {
  const found = new Uint8Array(proposed.length).fill(IGNORE);
  for (let i = 0; i < proposed.length; i++) {
    if (proposed[i] === IGNORE) continue;
    const column = i % width;
    const beside = [column ? i - 1 : -1, column < width - 1 ? i + 1 : -1, i - width, i + width];
    if (beside.some((next) => proposed[next] !== proposed[i])) found[i] = proposed[i];
  }
  return found;
}
