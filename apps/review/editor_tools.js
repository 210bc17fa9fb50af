// The editor's tools, and the steps that can be undone. A pixel is painted if its centre lies in the shape.

import { fillPolygon, fillRectangle, flood, IGNORE, same, stroke, takePart } from "./editor_pixels.js";
import { packed, unpacked } from "./editor_runs.js";
import { EditorView, NEAR_PX } from "./editor_view.js";

export class EditorTools extends EditorView {
  constructor(root) {
    super(root);
    this.before = this.ids; // as at the start of the step
    this.past = [];
    this.future = [];
  }

  changed() {} // said to whoever keeps the marks

  choose(tool) {
    this.tool = tool;
    this.polygon = [];
    this.corner = null;
    this.mark();
    this.drawAbove();
  }

  chooseClass(id) {
    this.classId = id;
    this.region = null;
    if (this.tool === "eraser" || this.tool === "take") this.tool = "brush";
    this.mark();
    this.drawAbove();
  }

  chooseLayer(name) {
    this.layer = name;
    this.mark();
    this.draw();
  }

  mark() {
    const press = (name, isOn) => {
      for (const button of this.root.querySelectorAll(`[data-${name}]`))
        button.setAttribute("aria-pressed", isOn(button.getAttribute(`data-${name}`)));
    };
    press("tool", (tool) => tool === this.tool);
    press("class-id", (id) => Number(id) === this.classId);
    press("layer", (layer) => layer === this.layer);
    for (const part of this.root.querySelectorAll("[data-of]"))
      part.hidden = !part.getAttribute("data-of").split(" ").includes(this.tool);
  }

  value() {
    return this.tool === "eraser" ? this.data.fill : this.classId;
  }

  press(event) {
    if (event.button !== 0 || !this.picture) return;
    this.pointer = this.at(event);
    if (["brush", "eraser", "rectangle"].includes(this.tool)) this.above.setPointerCapture(event.pointerId);
    this.begin(this.pointer);
  }

  begin(point) {
    if (this.tool === "polygon") return this.addCorner(point);
    this.remember();
    const { width, height } = this.data;
    if (this.tool === "rectangle") this.corner = point;
    else if (this.tool === "brush" || this.tool === "eraser") {
      this.stroke = point;
      this.brush(point, point);
    } else {
      if (this.tool === "fill") flood(this.ids, width, height, point, this.classId);
      if (this.tool === "take") takePart(this.ids, this.proposed, width, height, point);
      if (this.tool === "smart") this.takeRegion(point);
      this.settle();
    }
  }

  takeRegion(point) {
    for (const i of this.regions?.at(point, Number(this.find("parts").value)) ?? []) this.ids[i] = this.classId;
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

  sizeSlider() {
    return this.find(this.tool === "smart" ? "parts" : "size");
  }

  // Enlarges or shrinks the brush, or the selection of smart select.
  grow(by) {
    const slider = this.sizeSlider();
    slider.value = Number(slider.value) + by;
    this.drawAbove();
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
      this.past.push(packed(this.before)); // as runs, so that all steps fit in memory
      this.future = [];
      this.changed();
    }
    this.draw();
  }

  undo() {
    if (this.polygon.length) this.polygon.pop();
    else if (this.past.length && !this.stroke) {
      this.future.push(packed(this.ids));
      this.put(unpacked(this.past.pop(), this.ids.length));
      this.changed();
    }
    this.draw();
  }

  redo() {
    if (!this.future.length || this.stroke) return;
    this.past.push(packed(this.ids));
    this.put(unpacked(this.future.pop(), this.ids.length));
    this.changed();
    this.draw();
  }
}
