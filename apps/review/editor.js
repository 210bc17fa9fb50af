// Paints classes over an image. Python sends image and ids, and receives ids when Save is pressed or, if requested,
// after each stroke; everything else happens here. Unsaved work is kept in the browser tab, by crop, until Python
// confirms that it was saved.
//
// editor.py joins the modules of the editor into one, in the order of their imports.

import { EditorKeys } from "./editor_keys.js";
import { IGNORE, same } from "./editor_pixels.js";
import { Pointers } from "./editor_pointers.js";
import { readRegions } from "./editor_regions.js";
import { checksum, forget, keep, packed, remembered, unpacked } from "./editor_runs.js";
import { keepSettings, useSettings } from "./editor_settings.js";
import { ON_PROPOSAL } from "./editor_tools.js";

const editors = new WeakMap();

/** @type {(component: any) => () => void} */
export default function ({ data, parentElement, setTriggerValue, setStateValue }) {
  const root = parentElement.querySelector(".editor");
  let editor = editors.get(root);
  if (!editor) {
    editor = new Editor(root);
    useSettings(editor);
    editors.set(root, editor);
  }
  editor.send = (/** @type {object} */ value) => setTriggerValue("saved", value);
  editor.sendDrawn = (/** @type {object} */ value) => setStateValue("drawn", value);
  editor.show(data);
  return () => keepSettings(editor);
}

class Editor extends EditorKeys {
  /** @param {any} root the element of the component */
  constructor(root) {
    super(root);
    /** @type {(value: object) => void} */
    this.send = () => {};
    /** @type {(value: object) => void} */
    this.sendDrawn = () => {};
    this.start = this.ids; // as sent by Python
    /** @type {string | undefined} */
    this.proposalText = undefined;
    /** @type {string | null} */
    this.regionsUri = null;
    this.sent = 0; // when the last stroke was sent to Python
    /** @type {number[]} */
    this.states = []; // checksums of the marks, since Python has said that it saved them
    this.pointers = new Pointers();
    this.listen();
  }

  listen() {
    for (const button of this.root.querySelectorAll("[data-tool]"))
      button.onclick = () => this.choose(button.dataset.tool);
    const clicks = {
      undo: () => this.undo(),
      redo: () => this.redo(),
      closer: () => this.scale(Math.floor(this.factor()) + 1),
      farther: () => this.scale(Math.ceil(this.factor()) - 1),
      fit: () => this.scale(null),
      save: () => this.save(),
      takeall: () => this.takeAll(),
      relight: () => this.relight(),
      keys: () => this.find("help").showModal(),
    };
    for (const [name, act] of Object.entries(clicks)) this.find(name).onclick = act;
    for (const name of ["opacity", "veil", "brightness", "contrast"]) this.find(name).oninput = () => this.draw();
    for (const name of ["size", "parts"]) this.find(name).oninput = () => this.drawAbove();
    // An arrow key on a slider moves the slider instead of opening another crop.
    this.root.addEventListener("keydown", (/** @type {any} */ event) => {
      if (event.target.type === "range" && event.key.startsWith("Arrow")) event.stopPropagation();
    });
    this.find("help").addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => event.stopPropagation()); // keys in the help do not act on the crop
    this.listenToPointer();
    /** @type {(event: KeyboardEvent) => void} */
    const onKey = (event) => {
      if (this.root.isConnected) this.key(event);
      else document.removeEventListener("keydown", onKey);
    };
    document.addEventListener("keydown", onKey);
    const onSize = () => {
      if (this.root.isConnected) this.resize();
      else window.removeEventListener("resize", onSize);
    };
    window.addEventListener("resize", onSize);
    new ResizeObserver(() => this.zoom === null && this.resize()).observe(this.root);
  }

  listenToPointer() {
    this.above.onpointerdown = (/** @type {PointerEvent} */ event) => {
      const { draws, givesUp } = this.pointers.down(event);
      if (givesUp) this.giveUp();
      if (!draws) return;
      this.isPressed = true;
      this.steers(false);
      this.press(event);
    };
    this.above.onpointermove = (/** @type {PointerEvent} */ event) => {
      if (this.pointers.leads(event)) this.move(event);
    };
    this.above.onpointerup = (/** @type {PointerEvent} */ event) => {
      if (!this.pointers.up(event)) return;
      this.isPressed = false;
      this.release();
    };
    this.above.onpointercancel = (/** @type {PointerEvent} */ event) => {
      if (!this.pointers.up(event)) return;
      this.isPressed = false;
      this.giveUp(); // the browser has taken the pointer for a gesture of its own
    };
    this.above.ondblclick = () => this.closePolygon();
    this.above.onkeydown = (/** @type {KeyboardEvent} */ event) => this.steer(event);
    this.above.onfocus = () => this.steers(!this.isPressed);
    this.above.onblur = () => this.steers(false);
    this.above.addEventListener("wheel", (/** @type {WheelEvent} */ event) => this.wheel(event), { passive: false });
    this.above.onpointerleave = () => {
      if (!this.isSteered) this.pointer = null;
      this.drawAbove();
    };
  }

  /** @type {(data: any) => void} */
  show(data) {
    const before = this.data;
    this.data = data;
    if (data.saved) forget(data.saved);
    if (before?.token === data.token && this.states.length > 1 && this.sent && data.saved_stroke >= this.sent) {
      this.states = this.states.slice(-1); // Python has them all
      this.keepDraft();
    }
    if (before?.token !== data.token) this.open(data);
    this.showResults(data.layers ?? []);
    this.propose(data.proposal);
    this.readRegions(data.superpixels);
    this.listKeys(data.keys);
    if (data.autosave && data.may_save && !before?.may_save && this.isChanged()) this.handOver(); // a name was typed
    this.report();
  }

  // Keys of the page, after those of the editor.
  /** @type {(keys: string[][]) => void} */
  listKeys(keys) {
    this.find("pagekeys").replaceChildren(
      ...keys.map((words) => {
        const row = document.createElement("tr");
        row.append(
          ...words.map((text, i) => Object.assign(document.createElement(i ? "td" : "th"), { textContent: text })),
        );
        return row;
      }),
    );
  }

  /** @type {(layers: any[]) => void} */
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

  /** @type {(runs: number[] | undefined) => void} */
  propose(runs) {
    const text = JSON.stringify(runs ?? null);
    if (text === this.proposalText) return;
    this.proposalText = text;
    const { width, height } = this.data;
    const proposed = runs ? unpacked(runs, width * height) : null;
    this.held = null;
    for (const steps of [this.past, this.future]) steps.splice(0, steps.length, ...steps.filter((step) => step.ids));
    for (const part of this.root.querySelectorAll("[data-needs=proposal]")) part.hidden = !proposed;
    if (ON_PROPOSAL.includes(this.tool) && !proposed) this.choose("brush");
    this.putProposed(proposed);
  }

  /** @type {(said: {uri: string, colours: number[]} | undefined) => void} */
  readRegions(said) {
    if (!said || said.uri === this.regionsUri) return;
    this.regionsUri = said.uri;
    this.regions = null;
    readRegions(said, (regions) => {
      if (this.data.superpixels?.uri === said.uri) this.regions = regions;
      this.root.dataset.smart = "ready";
    });
  }

  /** @type {(data: any) => void} */
  open(data) {
    this.start = unpacked(data.ids, data.width * data.height);
    const draft = remembered(data.draft ?? data.token, data.token, this.start);
    this.ids = draft ? unpacked(draft.runs, this.start.length) : this.start.slice();
    this.states = draft?.states ?? [checksum(this.start)];
    this.layers.clear();
    this.proposalText = undefined;
    this.sent = 0;
    this.past = [];
    this.future = [];
    this.polygon = [];
    this.stroke = null;
    this.corner = null;
    this.held = null;
    this.region = null;
    this.pointer = null;
    this.mask.width = data.width;
    this.mask.height = data.height;
    this.classButtons(data.classes);
    this.picture = null;
    this.root.dataset.token = data.token;
    this.root.setAttribute("aria-busy", "true"); // painting starts when the image has loaded
    const picture = new Image();
    picture.onload = () => {
      if (this.data.token !== data.token) return;
      this.picture = picture;
      this.root.setAttribute("aria-busy", "false");
      this.draw();
      if (this.isSteered) this.steers(true); // the focus stays on the crop; the cross starts at its centre
    };
    picture.src = data.picture;
    this.resize();
    if (data.autosave && data.may_save && this.isChanged()) this.handOver(); // strokes kept during a broken connection
  }

  /** @type {(classes: any[]) => void} */
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

  changed() {
    this.states.push(checksum(this.ids));
    this.keepDraft();
    if (this.data.autosave && this.data.may_save) this.handOver();
    this.report();
  }

  keepDraft() {
    const { token, draft = token, autosave } = this.data;
    if (this.isChanged() || autosave) keep(draft, { token, runs: packed(this.ids), states: this.states });
    else forget(draft);
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
}
