// Keys for each tool, class and step; and a pointer that arrows move, for work without a mouse.

import { EditorTools } from "./editor_tools.js";

const TOOLS = { b: "brush", e: "eraser", p: "polygon", r: "rectangle", f: "fill", s: "smart", t: "take" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const FAR = 10; // pixels that an arrow goes with Shift

export class EditorKeys extends EditorTools {
  save() {}

  key(event) {
    const target = event.composedPath()[0];
    const typing = target.isContentEditable || target.tagName === "TEXTAREA" || target.tagName === "SELECT";
    if (typing || (target.tagName === "INPUT" && !["range", "radio", "checkbox"].includes(target.type))) return;
    const action = this.actionOf(event, event.key.toLowerCase());
    if (!action) return;
    event.preventDefault();
    action();
  }

  actionOf(event, key) {
    if (event.ctrlKey || event.metaKey)
      return { z: () => (event.shiftKey ? this.redo() : this.undo()), y: () => this.redo(), s: () => this.save() }[key];
    if (event.altKey) return undefined;
    const tool = TOOLS[key];
    if (tool === "take" && !this.proposed) return undefined;
    if (tool) return () => this.choose(tool);
    const found = this.data.classes.find((one) => one.key === key);
    if (found) return () => this.chooseClass(found.id);
    return {
      "[": () => this.grow(-1),
      "]": () => this.grow(1),
      "+": () => this.scale(this.factor() + 1),
      "-": () => this.scale(this.factor() - 1),
      enter: this.polygon.length ? () => this.closePolygon() : undefined,
      escape: () => this.choose(this.tool),
      v: this.data.layers?.length ? () => this.nextLayer() : undefined,
    }[key];
  }

  nextLayer() {
    const names = [...this.root.querySelectorAll("[data-layer]")].map((button) => button.dataset.layer);
    this.chooseLayer(names[(names.indexOf(this.layer) + 1) % names.length]);
  }

  // The crop has the keyboard, and was not merely clicked: then arrows lead to other crops.
  steers(does) {
    this.isSteered = does;
    this.above.classList.toggle("steered", does);
    this.drawAbove();
  }

  // Arrows move the pointer, Space presses, and a second Space ends a rectangle.
  steer(event) {
    if (!this.picture || !this.isSteered || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = ARROWS[event.key];
    if (!step && event.key !== " ") return;
    event.preventDefault();
    event.stopPropagation(); // an arrow would lead to another crop
    const { width, height } = this.data;
    const from = this.pointer ?? { x: width / 2, y: height / 2 };
    const far = event.shiftKey ? FAR : 1;
    const within = (place, size) => Math.max(0.5, Math.min(size - 0.5, Math.floor(place) + 0.5));
    const [x, y] = step ?? [0, 0];
    this.pointer = { x: within(from.x + x * far, width), y: within(from.y + y * far, height) };
    if (!step && this.corner) this.release();
    else if (!step) {
      this.begin(this.pointer);
      if (this.stroke) this.release();
    }
    this.drawAbove();
  }

  wheel(event) {
    if (this.tool !== "smart" || event.ctrlKey || !event.deltaY) return;
    event.preventDefault();
    this.grow(event.deltaY < 0 ? 1 : -1);
  }
}
