// Paints classes over a picture. Python gives the picture and the ids and gets ids back when Save is pressed; all else
// happens here. What is not saved yet is kept in the browser tab, crop by crop, until Python says that it was saved.

const IGNORE = 255;
const STEPS = 40; // of undo
const MOST_ZOOM = 16;
const NEAR_PX = 8; // of the screen, to close a polygon
const DRAFT = "cytoseg draft ";
const editors = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".editor");
  let editor = editors.get(root);
  if (!editor) {
    editor = new Editor(root);
    editors.set(root, editor);
  }
  editor.send = (value) => setTriggerValue("saved", value);
  editor.show(data);
}

class Editor {
  constructor(root) {
    this.root = root;
    this.find = (name) => root.querySelector(`[data-part=${name}]`);
    this.canvas = this.find("canvas");
    this.above = this.find("above");
    this.tool = "brush";
    this.classId = null;
    this.polygon = [];
    this.zoom = null; // null fits the page
    this.mask = document.createElement("canvas");
    this.listen();
  }

  listen() {
    for (const button of this.root.querySelectorAll("[data-tool]"))
      button.onclick = () => this.choose(button.dataset.tool);
    this.find("undo").onclick = () => this.undo();
    this.find("redo").onclick = () => this.redo();
    this.find("closer").onclick = () => this.scale(this.factor() + 1);
    this.find("farther").onclick = () => this.scale(this.factor() - 1);
    this.find("fit").onclick = () => this.scale(null);
    this.find("save").onclick = () => this.save();
    this.find("opacity").oninput = () => this.draw();
    this.find("size").oninput = () => this.drawAbove();
    // An arrow on a slider moves the slider, and not the page to another crop.
    this.root.addEventListener("keydown", (event) => {
      if (event.target.type === "range" && event.key.startsWith("Arrow")) event.stopPropagation();
    });
    this.above.onpointerdown = (event) => this.press(event);
    this.above.onpointermove = (event) => this.move(event);
    this.above.onpointerup = this.above.onpointercancel = () => this.release();
    this.above.ondblclick = () => this.closePolygon();
    this.above.onpointerleave = () => {
      this.pointer = null;
      this.drawAbove();
    };
    const onKey = (event) => {
      if (this.root.isConnected) this.key(event);
      else document.removeEventListener("keydown", onKey);
    };
    document.addEventListener("keydown", onKey);
    new ResizeObserver(() => this.zoom === null && this.resize()).observe(this.root);
  }

  // What Python says.

  show(data) {
    const before = this.data;
    this.data = data;
    if (data.saved) forget(data.saved);
    if (before?.token !== data.token) this.open(data);
    this.report();
  }

  open(data) {
    this.start = unpacked(data.ids, data.width * data.height);
    this.ids = remembered(data.token, data.width * data.height) ?? this.start.slice();
    this.past = [];
    this.future = [];
    this.polygon = [];
    this.stroke = null;
    this.mask.width = data.width;
    this.mask.height = data.height;
    this.classButtons(data.classes);
    this.picture = null;
    this.root.dataset.token = data.token;
    this.root.setAttribute("aria-busy", "true"); // nothing can be painted until the picture is there
    const picture = new Image();
    picture.onload = () => {
      if (this.data.token !== data.token) return;
      this.picture = picture;
      this.root.setAttribute("aria-busy", "false");
      this.draw();
    };
    picture.src = data.picture;
    this.resize();
  }

  classButtons(classes) {
    const box = this.find("classes");
    if (classes.every((one) => one.id !== this.classId)) this.classId = classes.find((one) => one.id !== this.data.fill).id;
    box.replaceChildren(
      ...classes.map((one) => {
        const button = document.createElement("button");
        const swatch = document.createElement("span");
        swatch.className = one.id === IGNORE ? "swatch ignore" : "swatch";
        if (one.id !== IGNORE) swatch.style.background = `rgb(${one.colour.join(",")})`;
        button.append(swatch, one.name);
        if (one.key) button.append(Object.assign(document.createElement("kbd"), { textContent: one.key }));
        button.dataset.classId = one.id;
        button.onclick = () => this.chooseClass(one.id);
        return button;
      }),
    );
    this.mark();
  }

  // Choices.

  choose(tool) {
    this.tool = tool;
    this.polygon = [];
    this.mark();
    this.drawAbove();
  }

  chooseClass(id) {
    this.classId = id;
    if (this.tool === "eraser") this.tool = "brush";
    this.mark();
    this.drawAbove();
  }

  mark() {
    for (const button of this.root.querySelectorAll("[data-tool]"))
      button.setAttribute("aria-pressed", button.dataset.tool === this.tool);
    for (const button of this.root.querySelectorAll("[data-class-id]"))
      button.setAttribute("aria-pressed", Number(button.dataset.classId) === this.classId);
  }

  value() {
    return this.tool === "eraser" ? this.data.fill : this.classId;
  }

  key(event) {
    const target = event.composedPath()[0];
    const typing = target.isContentEditable || target.tagName === "TEXTAREA" || target.tagName === "SELECT";
    if (typing || (target.tagName === "INPUT" && !["range", "radio", "checkbox"].includes(target.type))) return;
    const key = event.key.toLowerCase();
    let action;
    if (event.ctrlKey || event.metaKey)
      action = { z: () => (event.shiftKey ? this.redo() : this.undo()), y: () => this.redo(), s: () => this.save() }[key];
    else if (!event.altKey) {
      const tool = { b: "brush", e: "eraser", p: "polygon", f: "fill" }[key];
      const found = this.data.classes.find((one) => one.key === key);
      if (tool) action = () => this.choose(tool);
      else if (found) action = () => this.chooseClass(found.id);
      else
        action = {
          "[": () => this.grow(-1),
          "]": () => this.grow(1),
          "+": () => this.scale(this.factor() + 1),
          "-": () => this.scale(this.factor() - 1),
          enter: this.polygon.length ? () => this.closePolygon() : undefined,
          escape: () => this.choose(this.tool),
        }[key];
    }
    if (!action) return;
    event.preventDefault();
    action();
  }

  grow(by) {
    const slider = this.find("size");
    slider.value = Number(slider.value) + by;
    this.drawAbove();
  }

  // Painting. A pixel is painted if its centre lies in the shape.

  press(event) {
    if (event.button !== 0 || !this.picture) return;
    const point = this.at(event);
    if (this.tool === "polygon") return this.addCorner(point);
    this.remember();
    if (this.tool === "fill") {
      flood(this.ids, this.data.width, this.data.height, point, this.classId);
      return this.settle();
    }
    this.above.setPointerCapture(event.pointerId);
    this.stroke = point;
    this.brush(point, point);
  }

  move(event) {
    this.pointer = this.at(event);
    if (this.stroke) {
      this.brush(this.stroke, this.pointer);
      this.stroke = this.pointer;
    }
    this.drawAbove();
  }

  release() {
    if (!this.stroke) return;
    this.stroke = null;
    this.settle();
  }

  brush(from, to) {
    stroke(this.ids, this.data.width, this.data.height, from, to, Number(this.find("size").value), this.value());
    this.draw();
  }

  addCorner(point) {
    const [first] = this.polygon;
    const near = first && Math.hypot(first.x - point.x, first.y - point.y) * this.factor() < NEAR_PX;
    if (near && this.polygon.length > 2) return this.closePolygon();
    this.polygon.push(point);
    this.drawAbove();
  }

  closePolygon() {
    if (this.polygon.length > 2) {
      this.remember();
      fillPolygon(this.ids, this.data.width, this.data.height, this.polygon, this.classId);
      this.settle();
    }
    this.polygon = [];
    this.drawAbove();
  }

  remember() {
    this.before = this.ids.slice();
  }

  settle() {
    if (!same(this.before, this.ids)) {
      this.past = [...this.past.slice(1 - STEPS), this.before];
      this.future = [];
      this.changed();
    }
    this.draw();
  }

  undo() {
    if (this.polygon.length) this.polygon.pop();
    else if (this.past.length && !this.stroke) {
      this.future.push(this.ids);
      this.ids = this.past.pop();
      this.changed();
    }
    this.draw();
  }

  redo() {
    if (!this.future.length || this.stroke) return;
    this.past.push(this.ids);
    this.ids = this.future.pop();
    this.changed();
    this.draw();
  }

  changed() {
    if (this.isChanged()) keep(this.data.token, packed(this.ids));
    else forget(this.data.token);
    this.report();
  }

  isChanged() {
    return !same(this.ids, this.start);
  }

  save() {
    if (!this.data.may_save || this.stroke) return;
    this.find("save").disabled = true;
    this.find("said").textContent = "Saving ...";
    this.send({ token: this.data.token, ids: packed(this.ids) });
  }

  report() {
    this.find("undo").disabled = !this.past.length;
    this.find("redo").disabled = !this.future.length;
    this.find("save").disabled = !this.data.may_save;
    const saving = this.data.may_save ? "" : " Type your name to save.";
    this.find("said").textContent = (this.isChanged() ? "Not saved yet." : "No changes.") + saving;
  }

  // Drawing.

  factor() {
    const room = Math.floor(this.find("scroll").clientWidth / this.data.width);
    return Math.max(1, Math.min(MOST_ZOOM, this.zoom ?? room));
  }

  scale(zoom) {
    this.zoom = zoom === null ? null : Math.max(1, Math.min(MOST_ZOOM, zoom));
    this.resize();
  }

  resize() {
    if (!this.data) return;
    const factor = this.factor();
    const scroll = this.find("scroll");
    const share = (scroll.scrollTop + scroll.clientHeight / 2) / Math.max(1, scroll.scrollHeight);
    const across = (scroll.scrollLeft + scroll.clientWidth / 2) / Math.max(1, scroll.scrollWidth);
    for (const canvas of [this.canvas, this.above]) {
      canvas.width = this.data.width * factor;
      canvas.height = this.data.height * factor;
    }
    scroll.scrollTop = share * scroll.scrollHeight - scroll.clientHeight / 2;
    scroll.scrollLeft = across * scroll.scrollWidth - scroll.clientWidth / 2;
    this.find("factor").textContent = `×${factor}`;
    this.draw();
  }

  draw() {
    if (!this.picture) return;
    const { width, height } = this.canvas;
    const pen = this.canvas.getContext("2d");
    pen.globalAlpha = 1;
    pen.imageSmoothingEnabled = true;
    pen.drawImage(this.picture, 0, 0, width, height);
    this.colour();
    pen.globalAlpha = Number(this.find("opacity").value) / 100;
    pen.imageSmoothingEnabled = false;
    pen.drawImage(this.mask, 0, 0, width, height);
    this.drawAbove();
  }

  colour() {
    const { width, height } = this.mask;
    const pen = this.mask.getContext("2d");
    const pixels = pen.createImageData(width, height);
    const words = new Uint32Array(pixels.data.buffer); // a pixel each, its bytes red, green, blue and opacity
    const word = (bytes) => new Uint32Array(new Uint8Array([...bytes, 255]).buffer)[0];
    const table = new Uint32Array(256).fill(word([0, 0, 0]));
    for (const one of this.data.classes) table[one.id] = word(one.colour);
    table[this.data.fill] = 0; // unmarked pixels show the picture
    for (let i = 0; i < words.length; i++) words[i] = table[this.ids[i]];
    if (this.data.fill !== IGNORE) {
      const light = word([90, 90, 90]);
      for (let i = this.ids.indexOf(IGNORE); i >= 0; i = this.ids.indexOf(IGNORE, i + 1))
        if (((i % width) + Math.floor(i / width)) % 2) words[i] = light;
    }
    pen.putImageData(pixels, 0, 0);
  }

  drawAbove() {
    const pen = this.above.getContext("2d");
    const factor = this.factor();
    pen.clearRect(0, 0, this.above.width, this.above.height);
    const lines = (path) => {
      for (const [colour, width] of [["#000", 3], ["#fff", 1.2]]) {
        pen.strokeStyle = colour;
        pen.lineWidth = width;
        pen.stroke(path);
      }
    };
    if (this.pointer && (this.tool === "brush" || this.tool === "eraser")) {
      const ring = new Path2D();
      const radius = Math.max(1, Number(this.find("size").value)) / 2;
      ring.arc(this.pointer.x * factor, this.pointer.y * factor, radius * factor, 0, 2 * Math.PI);
      lines(ring);
    }
    if (this.polygon.length) {
      const path = new Path2D();
      for (const point of [...this.polygon, this.pointer ?? this.polygon[0]]) path.lineTo(point.x * factor, point.y * factor);
      lines(path);
      const first = new Path2D();
      first.arc(this.polygon[0].x * factor, this.polygon[0].y * factor, NEAR_PX / 2, 0, 2 * Math.PI);
      lines(first);
    }
  }

  at(event) {
    const box = this.above.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) * this.data.width) / box.width,
      y: ((event.clientY - box.top) * this.data.height) / box.height,
    };
  }
}

// Pixels.

function stroke(ids, width, height, from, to, size, id) {
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

function flood(ids, width, height, point, id) {
  const [x, y] = [Math.floor(point.x), Math.floor(point.y)];
  if (x < 0 || y < 0 || x >= width || y >= height) return;
  const from = ids[y * width + x];
  if (from === id) return;
  const open = [y * width + x];
  ids[open[0]] = id;
  while (open.length) {
    const i = open.pop();
    const column = i % width;
    for (const next of [column > 0 ? i - 1 : -1, column < width - 1 ? i + 1 : -1, i - width, i + width])
      if (next >= 0 && next < ids.length && ids[next] === from) {
        ids[next] = id;
        open.push(next);
      }
  }
}

function fillPolygon(ids, width, height, corners, id) {
  for (let row = 0; row < height; row++) {
    const y = row + 0.5;
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

function same(a, b) {
  return a.every((id, i) => id === b[i]);
}

// Ids as runs: id, how often, id, how often ...

function packed(ids) {
  const runs = [];
  for (let i = 0; i < ids.length; ) {
    let end = i + 1;
    while (end < ids.length && ids[end] === ids[i]) end++;
    runs.push(ids[i], end - i);
    i = end;
  }
  return runs;
}

function unpacked(runs, length) {
  const ids = new Uint8Array(length);
  let at = 0;
  for (let i = 0; i < runs.length; i += 2) {
    ids.fill(runs[i], at, at + runs[i + 1]);
    at += runs[i + 1];
  }
  return ids;
}

// Drafts. A browser may refuse to store them; the work then goes on without.

function keep(token, runs) {
  try {
    sessionStorage.setItem(DRAFT + token, JSON.stringify(runs));
  } catch {}
}

function forget(token) {
  try {
    sessionStorage.removeItem(DRAFT + token);
  } catch {}
}

function remembered(token, length) {
  try {
    const runs = JSON.parse(sessionStorage.getItem(DRAFT + token));
    return runs && unpacked(runs, length);
  } catch {
    return null;
  }
}
