// Tool, class and sliders of the last editor, for the next one: a page that is left and opened again has a new editor.
// They last until the tab is loaded again.

const SLIDERS = ["size", "parts", "opacity", "veil", "brightness", "contrast"];
/** @type {{tool: string, classId: any, layer: string | null | undefined, sliders: string[]} | null} */
let lastSettings = null;

/** @type {(editor: any) => void} */
export function keepSettings(editor) {
  const { tool, classId, layer } = editor;
  lastSettings = { tool, classId, layer, sliders: SLIDERS.map((name) => editor.find(name).value) };
}

/** @type {(editor: any) => void} */
export function useSettings(editor) {
  if (!lastSettings) return;
  const { sliders, ...rest } = lastSettings;
  Object.assign(editor, rest);
  SLIDERS.forEach((name, i) => (editor.find(name).value = sliders[i]));
}
