// State and drawing of the editor: image, result, marks, outlines, zoom.

import { edges, IGNORE } from "./editor_pixels.js";

const MOST_DRAWN_PX = 4096; // larger canvases take seconds for each stroke, and beyond 32767 they stay empty
const CROSS_PX = [4, 14]; // screen pixels at which the arms of the cross begin and end
const BELOW_REM = 2.25; // for the line below the crop
export const NEAR_PX = 8; // screen pixels, to close a polygon

/**
 * The zoom at which a crop is as large as a room allows: in quarters, or in sixteenths where the crop is reduced.
 *
 * @param {{width: number, height: number}} crop in pixels
 * @param {number} across in screen pixels
 * @param {number} down in screen pixels
 */
export function fitting({ width, height }, across, down) {
  const zoom = Math.min(across / width, down / height);
  const parts = zoom < 1 ? 16 : 4;
  return Math.max(1, Math.floor(parts * zoom)) / parts;
}

/**
 * The largest zoom: a pixel of the crop becomes as large as a letter of the page, which grows with the screen.
 *
 * @param {number} fit zoom at which the whole crop is seen
 * @param {number} rem size of letters in screen pixels
 */
export function largest(fit, rem) {
  return Math.max(fit, rem);
}

/**
 * The canvas pixels per pixel of a crop; the browser enlarges them to the zoom, square by square.
 *
 * @param {{width: number, height: number}} crop in pixels
 * @param {number} zoom
 */
export function drawnAt({ width, height }, zoom) {
  return Math.min(zoom, Math.max(1, Math.floor(MOST_DRAWN_PX / Math.max(width, height))));
}

/**
 * The screen pixels between the top of the crop and the line below it at the bottom of the window. Where that is less
 * than a third of the window, the page must be scrolled to the crop, which then gets most of the window.
 *
 * @param {number} top of the crop while the page is not scrolled
 * @param {number} inner height of the window
 * @param {number} rem size of letters in screen pixels
 */
export function roomBelow(top, inner, rem) {
  const left = Math.floor(inner - top - BELOW_REM * rem);
  return left < inner / 3 ? Math.floor(0.82 * inner) : left;
}

/** @param {Element} part */
function topInPage(part) {
  let top = part.getBoundingClientRect().top;
  for (let at = /** @type {any} */ (part).parentNode; at; at = at.parentNode ?? at.host) top += at.scrollTop ?? 0;
  return top;
}

/** @type {(x: number, y: number) => Path2D} */
function cross(x, y) {
  const path = new Path2D();
  for (const [across, down] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    path.moveTo(x + across * CROSS_PX[0], y + down * CROSS_PX[0]);
    path.lineTo(x + across * CROSS_PX[1], y + down * CROSS_PX[1]);
  }
  return path;
}

export class EditorView {
  /** @param {any} root the element of the component */
  constructor(root) {
    this.root = root;
    /** @type {(name: string) => any} */
    this.find = (name) => root.querySelector(`[data-part=${name}]`);
    this.canvas = this.find("canvas");
    this.above = this.find("above");
    /** @type {any} */
    this.data = null; // latest data from Python
    this.ids = new Uint8Array(); // as painted so far
    this.tool = "brush";
    /** @type {any} */
    this.classId = null;
    /** @type {any} */
    this.pointer = null; // position on the crop
    this.isPressed = false;
    this.isSteered = false; // whether arrow keys move the cross
    /** @type {import("./editor_pixels.js").Point[]} */
    this.polygon = [];
    /** @type {import("./editor_pixels.js").Point | null} */
    this.stroke = null; // last position of the current stroke
    /** @type {any} */
    this.corner = null; // first corner of a rectangle
    /** @type {number | null} */
    this.zoom = null; // null fits the page
    this.shown = 1; // screen pixels per pixel of the crop
    /** @type {HTMLImageElement | null} */
    this.picture = null;
    this.mask = document.createElement("canvas");
    this.hints = document.createElement("canvas");
    /** @type {any} */
    this.proposed = null;
    /** @type {string | null | undefined} */
    this.layer = null; // name of the result shown over the image
    this.layers = new Map(); // by name: its image and URI
    /** @type {import("./editor_regions.js").Regions | null} */
    this.regions = null; // superpixels, once loaded
    /** @type {number[] | null} */
    this.region = null; // the current selection of smart select
    this.regionHint = document.createElement("canvas");
  }

  /** @type {(ids: Uint8Array<ArrayBuffer>) => void} */
  put(ids) {
    this.ids = ids;
  }

  /** @param {Uint8Array | null} proposed */
  putProposed(proposed) {
    const { width, height } = this.data;
    this.proposed = proposed;
    Object.assign(this.hints, { width, height });
    if (proposed) this.colour(this.hints, edges(proposed, width), IGNORE);
    this.draw();
  }

  factor() {
    return this.shown;
  }

  /** @type {(zoom: number | null) => void} */
  scale(zoom) {
    this.zoom = zoom === null ? null : Math.max(1, zoom);
    this.resize();
  }

  resize() {
    if (!this.data) return;
    const scroll = this.find("scroll");
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const room = roomBelow(topInPage(scroll), window.innerHeight, rem);
    const fit = fitting(this.data, scroll.clientWidth, room);
    const factor = Math.min(largest(fit, rem), this.zoom ?? fit);
    const drawn = drawnAt(this.data, factor);
    this.shown = factor;
    const share = (scroll.scrollTop + scroll.clientHeight / 2) / Math.max(1, scroll.scrollHeight);
    const across = (scroll.scrollLeft + scroll.clientWidth / 2) / Math.max(1, scroll.scrollWidth);
    scroll.style.maxHeight = `${room}px`;
    for (const canvas of [this.canvas, this.above]) {
      canvas.width = Math.round(this.data.width * drawn);
      canvas.height = Math.round(this.data.height * drawn);
      canvas.style.width = `${Math.round(this.data.width * factor)}px`;
      canvas.style.height = `${Math.round(this.data.height * factor)}px`;
    }
    scroll.scrollTop = share * scroll.scrollHeight - scroll.clientHeight / 2;
    scroll.scrollLeft = across * scroll.scrollWidth - scroll.clientWidth / 2;
    this.find("factor").textContent = `×${Number(factor.toFixed(2))}`;
    this.draw();
  }

  relight() {
    for (const name of ["brightness", "contrast"]) this.find(name).value = 100;
    this.draw();
  }

  draw() {
    if (!this.picture) return;
    const { width, height } = this.canvas;
    const pen = this.canvas.getContext("2d");
    /** @type {(name: string) => number} */
    const percent = (name) => Number(this.find(name).value);
    pen.globalAlpha = 1;
    pen.imageSmoothingEnabled = true;
    pen.filter = `brightness(${percent("brightness")}%) contrast(${percent("contrast")}%)`;
    pen.drawImage(this.picture, 0, 0, width, height);
    pen.filter = "none";
    pen.imageSmoothingEnabled = this.factor() < 1; // a thin mark would vanish between the pixels of a reduced crop
    const result = this.layers.get(this.layer);
    pen.globalAlpha = percent("veil") / 100;
    if (result) pen.drawImage(result.picture, 0, 0, width, height);
    this.colour(this.mask, this.ids, this.data.fill);
    pen.globalAlpha = percent("opacity") / 100;
    pen.drawImage(this.mask, 0, 0, width, height);
    pen.globalAlpha = 1;
    if (this.proposed) pen.drawImage(this.hints, 0, 0, width, height);
    this.drawAbove();
  }

  /** @type {(canvas: HTMLCanvasElement, ids: Uint8Array, fill: number) => void} */
  colour(canvas, ids, fill) {
    const { width, height } = canvas;
    const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const pixels = pen.createImageData(width, height);
    const words = new Uint32Array(pixels.data.buffer); // one per pixel: bytes red, green, blue and opacity
    /** @type {(bytes: number[]) => number} */
    const word = (bytes) => new Uint32Array(new Uint8Array([...bytes, 255]).buffer)[0];
    const table = new Uint32Array(256).fill(word([0, 0, 0]));
    for (const one of this.data.classes) table[one.id] = word(one.colour);
    table[fill] = 0; // unmarked pixels show the image
    for (let i = 0; i < words.length; i++) words[i] = table[ids[i]];
    if (fill !== IGNORE) {
      const light = word([90, 90, 90]);
      for (let i = ids.indexOf(IGNORE); i >= 0; i = ids.indexOf(IGNORE, i + 1))
        if (((i % width) + Math.floor(i / width)) % 2) words[i] = light;
    }
    pen.putImageData(pixels, 0, 0);
  }

  drawAbove() {
    if (!this.data) return;
    const pen = this.above.getContext("2d");
    pen.resetTransform();
    pen.clearRect(0, 0, this.above.width, this.above.height);
    if (this.tool === "smart" && this.pointer) this.drawRegion(pen);
    const shrunk = drawnAt(this.data, this.factor()) / this.factor();
    pen.scale(shrunk, shrunk);
    for (const path of this.paths())
      for (const [colour, width] of [["#000", 3], ["#fff", 1.2]]) {
        pen.strokeStyle = String(colour);
        pen.lineWidth = Number(width);
        pen.stroke(path);
      }
  }

  // Outlines of the effect of a press now.
  paths() {
    const factor = this.factor();
    const paths = [];
    /** @type {(point: import("./editor_pixels.js").Point, radius: number) => void} */
    const ring = (point, radius) => {
      const path = new Path2D();
      path.arc(point.x * factor, point.y * factor, radius, 0, 2 * Math.PI);
      paths.push(path);
    };
    if (this.pointer && (this.tool === "brush" || this.tool === "eraser"))
      ring(this.pointer, (Math.max(1, Number(this.find("size").value)) / 2) * factor);
    if (this.pointer && this.isSteered) paths.push(cross(this.pointer.x * factor, this.pointer.y * factor));
    if (this.corner && this.pointer) {
      const box = new Path2D();
      const [x, y] = [this.corner.x * factor, this.corner.y * factor];
      box.rect(x, y, this.pointer.x * factor - x, this.pointer.y * factor - y);
      paths.push(box);
    }
    if (this.polygon.length) {
      const path = new Path2D();
      for (const point of [...this.polygon, this.pointer ?? this.polygon[0]]) path.lineTo(point.x * factor, point.y * factor);
      paths.push(path);
      ring(this.polygon[0], NEAR_PX / 2);
    }
    return paths;
  }

  /** @type {(pen: CanvasRenderingContext2D) => void} */
  drawRegion(pen) {
    const region = this.regions?.at(this.pointer, Number(this.find("parts").value));
    if (!region) return;
    const { width, height } = this.data;
    if (region !== this.region) {
      this.region = region;
      Object.assign(this.regionHint, { width, height });
      const marked = new Uint8Array(width * height).fill(IGNORE);
      for (const i of region) marked[i] = this.classId;
      this.colour(this.regionHint, edges(marked, width), IGNORE);
    }
    pen.imageSmoothingEnabled = false;
    pen.drawImage(this.regionHint, 0, 0, this.above.width, this.above.height);
  }

  /** @type {(event: PointerEvent) => import("./editor_pixels.js").Point} */
  at(event) {
    const box = this.above.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) * this.data.width) / box.width,
      y: ((event.clientY - box.top) * this.data.height) / box.height,
    };
  }
}
