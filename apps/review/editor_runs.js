// Label maps as runs, and their drafts in the browser.

const DRAFT = "cytoseg draft ";

// Ids as runs: id, count, id, count ...

/** @type {(ids: Uint8Array) => number[]} */
export function packed(ids) {
  const runs = [];
  for (let i = 0; i < ids.length; ) {
    let end = i + 1;
    while (end < ids.length && ids[end] === ids[i]) end++;
    runs.push(ids[i], end - i);
    i = end;
  }
  return runs;
}

/** @type {(runs: number[], length: number) => Uint8Array<ArrayBuffer>} */
export function unpacked(runs, length) {
  const ids = new Uint8Array(length);
  let at = 0;
  for (let i = 0; i < runs.length; i += 2) {
    ids.fill(runs[i], at, at + runs[i + 1]);
    at += runs[i + 1];
  }
  return ids;
}

// Drafts, by the name of the work. A browser may refuse to store them; work then continues without them.

/** @typedef {{token: string, runs: number[], states: number[]}} Draft states: checksums of its ids, oldest first */

/** @type {(name: string, draft: Draft) => void} */
export function keep(name, draft) {
  try {
    sessionStorage.setItem(DRAFT + name, JSON.stringify(draft));
  } catch {}
}

/** @type {(name: string) => void} */
export function forget(name) {
  try {
    sessionStorage.removeItem(DRAFT + name);
  } catch {}
}

/**
 * The draft of some work, if it continues what Python has: the same work, or, after a restart of the server, work of
 * which Python has saved one of the states.
 *
 * @param {string} name
 * @param {string} token of the work
 * @param {Uint8Array} saved
 * @returns {Draft | null}
 */
export function remembered(name, token, saved) {
  try {
    const draft = JSON.parse(sessionStorage.getItem(DRAFT + name) ?? "null");
    return draft && (draft.token === token || draft.states.includes(checksum(saved))) ? draft : null;
  } catch {
    return null;
  }
}

// CRC-32.
/** @type {(ids: Uint8Array) => number} */
export function checksum(ids) {
  let rest = -1;
  for (const id of ids) {
    rest ^= id;
    for (let k = 0; k < 8; k++) rest = (rest >>> 1) ^ (0xedb88320 & -(rest & 1));
  }
  return (rest ^ -1) >>> 0;
}
