// Keys for each tool, class and step; a cross moved by arrow keys, and text that describes its position, for work
// without a mouse or without sight.

import { EditorTools, ON_PROPOSAL } from "./editor_tools.js";

/** @type {Record<string, string>} */
const TOOLS = {
  b: "brush",
  e: "eraser",
  p: "polygon",
  r: "rectangle",
  f: "fill",
  s: "smart",
  t: "take",
  m: "move",
  d: "drop",
};
/** @type {Record<string, number[]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const FAR = 10; // pixels per arrow key with Shift
const MARGIN_PX = 24; // screen pixels that stay visible around the cross

export class EditorKeys extends EditorTools {
  save() {}

  /** @type {(event: KeyboardEvent) => void} */
  key(event) {
    const target = /** @type {any} */ (event.composedPath()[0]);
    const typing = target.isContentEditable || target.tagName === "TEXTAREA" || target.tagName === "SELECT";
    if (typing || (target.tagName === "INPUT" && !["range", "radio", "checkbox"].includes(target.type))) return;
    const action = this.actionOf(event, event.key.toLowerCase());
    if (!action) return;
    event.preventDefault();
    const before = this.words();
    action();
    if (this.isSteered) this.showPointer();
    this.tell(this.words().filter((word, i) => word !== before[i]));
  }

  /** @type {(event: KeyboardEvent, key: string) => (() => void) | undefined} */
  actionOf(event, key) {
    const typed = event.getModifierState("AltGraph"); // many keyboards type [ and ] with it
    if ((event.ctrlKey || event.metaKey) && !typed)
      return { z: () => (event.shiftKey ? this.redo() : this.undo()), y: () => this.redo(), s: () => this.save() }[key];
    if (event.altKey && !typed) return undefined;
    const tool = TOOLS[key];
    if (ON_PROPOSAL.includes(tool) && !this.proposed) return undefined;
    if (tool) return () => this.choose(tool);
    const found = this.data.classes.find((/** @type {any} */ one) => one.key === key);
    if (found) return () => this.chooseClass(found.id);
    return {
      "[": () => this.grow(-1),
      "]": () => this.grow(1),
      "+": () => this.scale(Math.floor(this.factor()) + 1),
      "-": () => this.scale(Math.ceil(this.factor()) - 1),
      "?": () => this.find("help").showModal(),
      g: () => this.goToCrop(),
      enter: this.polygon.length ? () => this.closePolygon() : undefined,
      escape: () => this.choose(this.tool),
      v: this.data.layers?.length ? () => this.nextLayer() : undefined,
    }[key];
  }

  goToCrop() {
    this.above.focus();
    this.steers(true); // it may already have the focus after a click
  }

  nextLayer() {
    const names = [...this.root.querySelectorAll("[data-layer]")].map((button) => button.dataset.layer);
    this.chooseLayer(names[(names.indexOf(this.layer) + 1) % names.length]);
  }

  // The state that keys change: tool with its size, class, zoom, result, and position of the cross.
  words() {
    /** @type {(name: string) => string} */
    const pressed = (name) => this.root.querySelector(`[data-${name}][aria-pressed=true]`)?.firstChild.textContent ?? "";
    const size = ["brush", "eraser", "smart"].includes(this.tool) ? this.sizeSlider().value : "";
    const id = ["eraser", ...ON_PROPOSAL].includes(this.tool) ? "" : this.nameOf(this.classId);
    return [`${pressed("tool")} ${size}`.trim(), id, `zoom ${this.factor()}`, pressed("layer"), this.place()];
  }

  // Position of the cross, and the class marked there.
  place() {
    if (!this.pointer || !this.isSteered) return "";
    const [x, y] = [Math.floor(this.pointer.x), Math.floor(this.pointer.y)];
    const i = y * this.data.width + x;
    const offered = this.proposed && this.proposed[i] !== this.data.fill ? `, proposed ${this.nameOf(this.proposed[i])}` : "";
    return `x ${x}, y ${y}: ${this.nameOf(this.ids[i])}${offered}`;
  }

  // What a press has begun, or has done to the proposal.
  doing() {
    if (this.held) return `moving ${this.nameOf(this.held.before[this.held.part[0]])}`;
    return this.stroke || this.corner ? "drawing" : this.deed;
  }

  // Shown, and read out by screen readers.
  /** @type {(words: string[]) => void} */
  tell(words) {
    const text = words.filter(Boolean).join("; ");
    if (text) this.find("told").textContent = text;
  }

  // Whether the crop has the keyboard focus by key. After a mere click, arrow keys open other crops.
  /** @type {(does: boolean) => void} */
  steers(does) {
    if (!does) this.lift();
    this.isSteered = does;
    this.above.classList.toggle("steered", does);
    if (does && this.picture) {
      this.pointer ??= { x: Math.floor(this.data.width / 2) + 0.5, y: Math.floor(this.data.height / 2) + 0.5 };
      this.find("scroll").scrollIntoView({ block: "nearest" });
      this.showPointer();
      this.tell(this.words());
    }
    this.drawAbove();
  }

  // Ends a stroke started by keys.
  lift() {
    if (this.isSteered && (this.stroke || this.held)) this.release();
  }

  // Arrow keys move the cross; Space and Enter press, and Enter holds the brush down until the next Enter.
  /** @type {(event: KeyboardEvent) => void} */
  steer(event) {
    if (!this.picture || !this.isSteered || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = ARROWS[event.key];
    const isDown = Boolean(this.stroke);
    if (isDown && !step && event.key !== "Shift") this.release();
    if (event.key === "Escape" && !isDown && !this.corner && !this.held && !this.polygon.length) return this.leave(event);
    const presses = event.key === " " || (event.key === "Enter" && !this.polygon.length);
    if (!step && !presses && !(isDown && event.key === "Escape")) return;
    event.preventDefault();
    event.stopPropagation(); // an arrow key would open another crop
    if (step) this.steerBy(step, event.shiftKey ? FAR : 1);
    else if (isDown) return this.tell(["lifted", this.place()]);
    else this.pressHere(event.key === "Enter");
    this.showPointer();
    this.tell([this.doing(), this.place()]);
  }

  /** @type {(step: number[], far: number) => void} */
  steerBy(step, far) {
    this.deed = "";
    this.moveBy(step, far);
    this.dragTo(this.pointer);
  }

  /** @type {(step: number[], far: number) => void} */
  moveBy([x, y], far) {
    const { width, height } = this.data;
    /** @type {(place: number, size: number) => number} */
    const within = (place, size) => Math.max(0.5, Math.min(size - 0.5, Math.floor(place) + 0.5));
    this.pointer = { x: within(this.pointer.x + x * far, width), y: within(this.pointer.y + y * far, height) };
    this.paintTo(this.pointer);
  }

  /** @type {(stays: boolean) => void} */
  pressHere(stays) {
    if (this.corner || this.held) return this.release();
    this.begin(this.pointer);
    if (this.stroke && !stays) this.release();
  }

  // Back to the tools: a crop must not trap the focus.
  /** @type {(event: KeyboardEvent) => void} */
  leave(event) {
    event.preventDefault();
    event.stopPropagation();
    this.root.querySelector(`[data-tool=${this.tool}]`).focus();
  }

  // Scrolls an enlarged crop until the cross is visible.
  showPointer() {
    if (!this.pointer) return;
    const [scroll, factor] = [this.find("scroll"), this.factor()];
    /** @type {(from: number, room: number, place: number) => number} */
    const seen = (from, room, place) => Math.max(place + MARGIN_PX - room, Math.min(from, place - MARGIN_PX));
    scroll.scrollLeft = seen(scroll.scrollLeft, scroll.clientWidth, this.pointer.x * factor);
    scroll.scrollTop = seen(scroll.scrollTop, scroll.clientHeight, this.pointer.y * factor);
    this.drawAbove();
  }

  /** @type {(event: WheelEvent) => void} */
  wheel(event) {
    if (this.tool !== "smart" || event.ctrlKey || !event.deltaY) return;
    event.preventDefault();
    this.grow(event.deltaY < 0 ? 1 : -1);
  }
}
