// What the base model proposes, part by part. A part is a connected area of one class; IGNORE is where nothing is
// proposed.

import { flood, IGNORE } from "./editor_pixels.js";

/**
 * The pixels of the part under a point; none where nothing is proposed.
 *
 * @param {Uint8Array} proposed
 * @param {number} width
 * @param {number} height
 * @param {{x: number, y: number}} point
 * @returns {number[]}
 */
export function partAt(proposed, width, height, point) {
  const [x, y] = [Math.floor(point.x), Math.floor(point.y)];
  if (x < 0 || y < 0 || x >= width || y >= height || proposed[y * width + x] === IGNORE) return [];
  const rest = proposed.slice();
  flood(rest, width, height, point, IGNORE);
  /** @type {number[]} */
  const part = [];
  rest.forEach((id, i) => {
    if (id !== proposed[i]) part.push(i);
  });
  return part;
}

/**
 * The proposal without a part.
 *
 * @param {Uint8Array} proposed
 * @param {number[]} part
 */
export function without(proposed, part) {
  const rest = proposed.slice();
  for (const i of part) rest[i] = IGNORE;
  return rest;
}

/**
 * The proposal with a part moved over the rest of it; what leaves the crop is lost.
 *
 * @param {Uint8Array} proposed
 * @param {number} width
 * @param {number[]} part
 * @param {number} right in pixels
 * @param {number} down in pixels
 */
export function moved(proposed, width, part, right, down) {
  const found = without(proposed, part);
  const height = proposed.length / width;
  for (const i of part) {
    const [x, y] = [(i % width) + right, Math.floor(i / width) + down];
    if (x >= 0 && x < width && y >= 0 && y < height) found[y * width + x] = proposed[i];
  }
  return found;
}
