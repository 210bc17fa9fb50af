// Where each slide was looked at last. The page Slides has a new viewer whenever it is opened; views last until the tab
// is loaded again.

/** @type {Map<string, {bounds: any, jumped: string}>} */
const views = new Map();

/** @type {(name: string | null, viewer: any, jumped: string) => void} */
export function keepView(name, viewer, jumped) {
  if (name && viewer.world.getItemCount()) views.set(name, { bounds: viewer.viewport.getBounds(), jumped });
}

/** @type {(name: string) => {bounds: any, jumped: string} | undefined} */
export function viewOf(name) {
  return views.get(name);
}
