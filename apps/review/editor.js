// Paints classes over a picture. Python gives the picture and the ids and gets ids back when Save is pressed, or after
// each stroke where it asks for that; all else happens here. What is not saved yet is kept in the browser tab, crop by
// crop, until Python says that it was saved.

const IGNORE = 255;
const MOST_ZOOM = 16;
const NEAR_PX = 8; // of the screen, to close a polygon
const DRAFT = "cytoseg draft ";
const editors = new WeakMap();

export default function ({ data, parentElement, setTriggerValue, setStateValue }) {
  const root = parentElement.querySelector(".editor");
  let editor = editors.get(root);
  if (!editor) {
    editor = new Editor(root);
    editors.set(root, editor);
  }
  editor.send = (value) => setTriggerValue("saved", value);
  editor.sendDrawn = (value) => setStateValue("drawn", value);
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
    this.hints = document.createElement("canvas");
    this.layer = null; // name of the result that lies over the picture
    this.layers = new Map(); // by name: its picture, and from where
    this.sent = 0; // when the last stroke was handed to Python
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
    this.find("veil").oninput = () => this.draw();
    this.find("takeall").onclick = () => this.takeAll();
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
    this.showResults(data.layers ?? []);
    this.propose(data.proposal);
    if (data.autosave && data.may_save && !before?.may_save && this.isChanged()) this.handOver(); // a name was typed
    this.report();
  }

  showResults(layers) {
    this.find("results").hidden = !layers.length;
    for (const { name, uri } of layers) {
      if (this.layers.get(name)?.uri === uri) continue;
      const picture = new Image();
      picture.onload = () => {
        this.layers.set(name, { uri, picture });
        this.root.dataset[`drawn${name}`] = String(Number(this.root.dataset[`drawn${name}`] ?? 0) + 1);
        this.draw();
      };
      picture.src = uri;
    }
    for (const name of this.layers.keys()) if (layers.every((one) => one.name !== name)) this.layers.delete(name);
    if (layers.length && layers.every((one) => one.name !== this.layer)) this.layer = layers[0].name;
    const names = layers.length ? [...layers, { name: "none", title: "Off" }] : [];
    this.find("layers").replaceChildren(
      ...names.map(({ name, title }) => {
        const button = Object.assign(document.createElement("button"), { textContent: title });
        button.dataset.layer = name;
        button.onclick = () => this.chooseLayer(name);
        return button;
      }),
    );
    this.mark();
    this.draw();
  }

  chooseLayer(name) {
    this.layer = name;
    this.mark();
    this.draw();
  }

  propose(runs) {
    const text = JSON.stringify(runs ?? null);
    if (text === this.proposalText) return;
    this.proposalText = text;
    const { width, height } = this.data;
    this.proposed = runs ? unpacked(runs, width * height) : null;
    for (const part of this.root.querySelectorAll("[data-needs=proposal]")) part.hidden = !this.proposed;
    if (this.tool === "take" && !this.proposed) this.choose("brush");
    Object.assign(this.hints, { width, height });
    if (this.proposed) this.colour(this.hints, edges(this.proposed, width, height), IGNORE);
    this.draw();
  }

  open(data) {
    this.start = unpacked(data.ids, data.width * data.height);
    this.ids = remembered(data.token, data.width * data.height) ?? this.start.slice();
    this.layers.clear();
    this.proposalText = undefined;
    this.sent = 0;
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
    if (data.autosave && data.may_save && this.isChanged()) this.handOver(); // what a broken connection held back
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
    if (this.tool === "eraser" || this.tool === "take") this.tool = "brush";
    this.mark();
    this.drawAbove();
  }

  mark() {
    for (const button of this.root.querySelectorAll("[data-tool]"))
      button.setAttribute("aria-pressed", button.dataset.tool === this.tool);
    for (const button of this.root.querySelectorAll("[data-class-id]"))
      button.setAttribute("aria-pressed", Number(button.dataset.classId) === this.classId);
    for (const button of this.root.querySelectorAll("[data-layer]"))
      button.setAttribute("aria-pressed", button.dataset.layer === this.layer);
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
      const tool = { b: "brush", e: "eraser", p: "polygon", r: "rectangle", f: "fill", t: "take" }[key];
      const found = this.data.classes.find((one) => one.key === key);
      if (tool === "take" && !this.proposed) return;
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
          v: this.data.layers?.length ? () => this.nextLayer() : undefined,
        }[key];
    }
    if (!action) return;
    event.preventDefault();
    action();
  }

  nextLayer() {
    const names = [...this.root.querySelectorAll("[data-layer]")].map((button) => button.dataset.layer);
    this.chooseLayer(names[(names.indexOf(this.layer) + 1) % names.length]);
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
    if (this.tool === "take") {
      takePart(this.ids, this.proposed, this.data.width, this.data.height, point);
      return this.settle();
    }
    if (this.tool === "rectangle") {
      this.above.setPointerCapture(event.pointerId);
      this.corner = point;
      return;
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
    if (this.corner) {
      fillRectangle(this.ids, this.data.width, this.data.height, this.corner, this.pointer ?? this.corner, this.classId);
      this.corner = null;
      return this.settle();
    }
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

  takeAll() {
    this.remember();
    for (let i = 0; i < this.ids.length; i++) if (this.proposed[i] !== IGNORE) this.ids[i] = this.proposed[i];
    this.settle();
  }

  remember() {
    this.before = this.ids.slice();
  }

  settle() {
    if (!same(this.before, this.ids)) {
      this.past.push(packed(this.before)); // as runs, so that there is room for all steps
      this.future = [];
      this.changed();
    }
    this.draw();
  }

  undo() {
    if (this.polygon.length) this.polygon.pop();
    else if (this.past.length && !this.stroke) {
      this.future.push(packed(this.ids));
      this.ids = unpacked(this.past.pop(), this.ids.length);
      this.changed();
    }
    this.draw();
  }

  redo() {
    if (!this.future.length || this.stroke) return;
    this.past.push(packed(this.ids));
    this.ids = unpacked(this.future.pop(), this.ids.length);
    this.changed();
    this.draw();
  }

  changed() {
    if (this.isChanged()) keep(this.data.token, packed(this.ids));
    else forget(this.data.token);
    if (this.data.autosave && this.data.may_save) this.handOver();
    this.report();
  }

  handOver() {
    this.sent = Math.max(Date.now(), this.sent + 1);
    this.sendDrawn({ token: this.data.token, ids: packed(this.ids), stroke: this.sent });
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
    this.find("save").hidden = Boolean(this.data.autosave);
    if (this.data.autosave && this.data.may_save) {
      const waits = this.sent > (this.data.saved_stroke ?? 0);
      this.find("said").textContent = waits ? "Saving ..." : this.sent ? "Saved." : "Each stroke is saved.";
      return;
    }
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
    pen.imageSmoothingEnabled = false;
    const result = this.layers.get(this.layer);
    pen.globalAlpha = Number(this.find("veil").value) / 100;
    if (result) pen.drawImage(result.picture, 0, 0, width, height);
    this.colour(this.mask, this.ids, this.data.fill);
    pen.globalAlpha = Number(this.find("opacity").value) / 100;
    pen.drawImage(this.mask, 0, 0, width, height);
    pen.globalAlpha = 1;
    if (this.proposed) pen.drawImage(this.hints, 0, 0, width, height);
    this.drawAbove();
  }

  colour(canvas, ids, fill) {
    const { width, height } = canvas;
    const pen = canvas.getContext("2d");
    const pixels = pen.createImageData(width, height);
    const words = new Uint32Array(pixels.data.buffer); // a pixel each, its bytes red, green, blue and opacity
    const word = (bytes) => new Uint32Array(new Uint8Array([...bytes, 255]).buffer)[0];
    const table = new Uint32Array(256).fill(word([0, 0, 0]));
    for (const one of this.data.classes) table[one.id] = word(one.colour);
    table[fill] = 0; // unmarked pixels show the picture
    for (let i = 0; i < words.length; i++) words[i] = table[ids[i]];
    if (fill !== IGNORE) {
      const light = word([90, 90, 90]);
      for (let i = ids.indexOf(IGNORE); i >= 0; i = ids.indexOf(IGNORE, i + 1))
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
    if (this.corner && this.pointer) {
      const box = new Path2D();
      const [x, y] = [this.corner.x * factor, this.corner.y * factor];
      box.rect(x, y, this.pointer.x * factor - x, this.pointer.y * factor - y);
      lines(box);
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
