// The editor's tools, and the steps that can be undone. A pixel is painted if its centre lies in the shape.

import { fillPolygon, fillRectangle, flood, IGNORE, same, stroke } from "./editor_pixels.js";
import { moved, partAt, without } from "./editor_proposal.js";
import { packed, unpacked } from "./editor_runs.js";
import { EditorView, NEAR_PX } from "./editor_view.js";

export const ON_PROPOSAL = ["take", "move", "drop"]; // tools for what the base model proposes

export class EditorTools extends EditorView {
  /** @param {any} root the element of the component */
  constructor(root) {
    super(root);
    this.before = this.ids; // as at the start of the step
    /** @type {{ids?: number[], proposed?: number[]}[]} a step changes the marks or the proposal, as runs */
    this.past = [];
    /** @type {{ids?: number[], proposed?: number[]}[]} */
    this.future = [];
    /** @type {{part: number[], from: {x: number, y: number}, before: Uint8Array} | null} a proposed part that moves */
    this.held = null;
    this.deed = ""; // what the last press did to the proposal, in words
    this.pressed = { steps: 0, corners: 0 }; // steps and corners of the polygon before the last press
  }

  changed() {} // said to whoever keeps the marks

  report() {}

  /** @param {number} id */
  nameOf(id) {
    return this.data.classes.find((/** @type {{id: number}} */ one) => one.id === id)?.name ?? "unmarked";
  }

  /** @type {(tool: string) => void} */
  choose(tool) {
    this.tool = tool;
    if (this.held) this.putProposed(this.held.before); // given up
    this.held = null;
    this.polygon = [];
    this.corner = null;
    this.mark();
    this.drawAbove();
  }

  /** @type {(id: number) => void} */
  chooseClass(id) {
    this.classId = id;
    this.region = null;
    if (this.tool === "eraser" || ON_PROPOSAL.includes(this.tool)) this.tool = "brush";
    this.mark();
    this.drawAbove();
  }

  /** @type {(name: string | undefined) => void} */
  chooseLayer(name) {
    this.layer = name;
    this.mark();
    this.draw();
  }

  mark() {
    /** @type {(name: string, isOn: (value: string) => boolean) => void} */
    const press = (name, isOn) => {
      for (const button of this.root.querySelectorAll(`[data-${name}]`))
        button.setAttribute("aria-pressed", isOn(button.getAttribute(`data-${name}`)));
    };
    press("tool", (tool) => tool === this.tool);
    press("class-id", (id) => Number(id) === this.classId);
    press("layer", (layer) => layer === this.layer);
    // One size is always shown, though some tools have none, so that the buttons and the crop stay where they are.
    for (const part of this.root.querySelectorAll("[data-of]")) {
      const tools = part.getAttribute("data-of").split(" ");
      part.hidden = (tools[0] === "smart") !== (this.tool === "smart");
      part.querySelector("input").disabled = !tools.includes(this.tool);
    }
  }

  value() {
    return this.tool === "eraser" ? this.data.fill : this.classId;
  }

  /** @type {(event: PointerEvent) => void} */
  press(event) {
    if (event.button !== 0 || !this.picture) return;
    this.pointer = this.at(event);
    this.pressed = { steps: this.past.length, corners: this.polygon.length };
    if (["brush", "eraser", "rectangle", "move"].includes(this.tool)) this.above.setPointerCapture(event.pointerId);
    this.begin(this.pointer);
  }

  /** @type {(point: import("./editor_pixels.js").Point) => void} */
  begin(point) {
    this.deed = "";
    if (this.tool === "polygon") return this.addCorner(point);
    if (ON_PROPOSAL.includes(this.tool)) return this.beginPart(point);
    this.remember();
    const { width, height } = this.data;
    if (this.tool === "rectangle") this.corner = point;
    else if (this.tool === "brush" || this.tool === "eraser") {
      this.stroke = point;
      this.brush(point, point);
    } else {
      if (this.tool === "fill") flood(this.ids, width, height, point, this.classId);
      if (this.tool === "smart") this.takeRegion(point);
      this.settle();
    }
  }

  /** @param {{x: number, y: number}} point */
  beginPart(point) {
    const before = this.proposed;
    const part = before ? partAt(before, this.data.width, this.data.height, point) : [];
    if (!before || !part.length) {
      this.deed = "nothing proposed here";
    } else if (this.tool === "move") {
      this.held = { part, from: point, before };
    } else if (this.tool === "drop") {
      this.deed = `deleted ${this.nameOf(before[part[0]])}`;
      this.putProposed(without(before, part));
      this.settleProposal(before);
    } else {
      this.remember();
      for (const i of part) this.ids[i] = before[i];
      this.settle();
    }
  }

  /** @param {{x: number, y: number}} point */
  dragTo(point) {
    if (!this.held) return;
    const { part, from, before } = this.held;
    const [right, down] = [Math.floor(point.x) - Math.floor(from.x), Math.floor(point.y) - Math.floor(from.y)];
    this.putProposed(moved(before, this.data.width, part, right, down));
  }

  /** @type {(point: import("./editor_pixels.js").Point) => void} */
  takeRegion(point) {
    for (const i of this.regions?.at(point, Number(this.find("parts").value)) ?? []) this.ids[i] = this.classId;
  }

  /** @type {(event: PointerEvent) => void} */
  move(event) {
    this.pointer = this.at(event);
    this.paintTo(this.pointer);
    this.dragTo(this.pointer);
    this.drawAbove();
  }

  /** @type {(point: import("./editor_pixels.js").Point) => void} */
  paintTo(point) {
    if (!this.stroke) return;
    this.brush(this.stroke, point);
    this.stroke = point;
  }

  release() {
    if (this.held) {
      const { part, before } = this.held;
      this.held = null;
      this.deed = `moved ${this.nameOf(before[part[0]])}`;
      return this.settleProposal(before);
    }
    if (this.corner) {
      fillRectangle(this.ids, this.data.width, this.data.height, this.corner, this.pointer ?? this.corner, this.classId);
      this.corner = null;
      return this.settle();
    }
    if (!this.stroke) return;
    this.stroke = null;
    this.settle();
  }

  // Takes back what the press has done so far.
  giveUp() {
    const { steps, corners } = this.pressed;
    if (this.stroke) this.put(this.before.slice());
    if (this.held) this.putProposed(this.held.before);
    this.stroke = this.corner = this.held = this.pointer = null;
    this.polygon.splice(corners);
    if (this.past.length > steps) this.step(this.past, []);
    this.draw();
  }

  /** @type {(from: import("./editor_pixels.js").Point, to: import("./editor_pixels.js").Point) => void} */
  brush(from, to) {
    stroke(this.ids, this.data.width, this.data.height, from, to, Number(this.find("size").value), this.value());
    this.draw();
  }

  sizeSlider() {
    return this.find(this.tool === "smart" ? "parts" : "size");
  }

  // Enlarges or shrinks the brush, or the selection of smart select.
  /** @type {(by: number) => void} */
  grow(by) {
    const slider = this.sizeSlider();
    slider.value = Number(slider.value) + by;
    this.drawAbove();
  }

  /** @type {(point: import("./editor_pixels.js").Point) => void} */
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
    const { proposed } = this;
    if (!proposed) return;
    this.remember();
    for (let i = 0; i < this.ids.length; i++) if (proposed[i] !== IGNORE) this.ids[i] = proposed[i];
    this.settle();
  }

  remember() {
    this.before = this.ids.slice();
  }

  settle() {
    if (!same(this.before, this.ids)) {
      this.past.push({ ids: packed(this.before) }); // as runs, so that all steps fit in memory
      this.future = [];
      this.changed();
    }
    this.draw();
  }

  /** @param {Uint8Array} before */
  settleProposal(before) {
    if (!this.proposed || same(before, this.proposed)) return;
    this.past.push({ proposed: packed(before) });
    this.future = [];
    this.report();
  }

  undo() {
    if (this.polygon.length) this.polygon.pop();
    else this.step(this.past, this.future);
    this.draw();
  }

  redo() {
    this.step(this.future, this.past);
    this.draw();
  }

  /**
   * Goes back to the last of some steps; the others then lead here again.
   *
   * @param {{ids?: number[], proposed?: number[]}[]} steps
   * @param {{ids?: number[], proposed?: number[]}[]} others
   */
  step(steps, others) {
    const step = this.stroke || this.held ? undefined : steps.pop();
    if (step?.proposed && this.proposed) {
      others.push({ proposed: packed(this.proposed) });
      this.putProposed(unpacked(step.proposed, this.ids.length));
      this.report();
    } else if (step) {
      others.push({ ids: packed(this.ids) });
      this.put(unpacked(/** @type {number[]} */ (step.ids), this.ids.length));
      this.changed();
    }
  }
}
