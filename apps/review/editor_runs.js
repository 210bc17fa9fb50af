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

// Drafts. A browser may refuse to store them; work then continues without them.

/** @type {(token: string, runs: number[]) => void} */
export function keep(token, runs) {
  try {
    sessionStorage.setItem(DRAFT + token, JSON.stringify(runs));
  } catch {}
}

/** @type {(token: string) => void} */
export function forget(token) {
  try {
    sessionStorage.removeItem(DRAFT + token);
  } catch {}
}

/** @type {(token: string, length: number) => Uint8Array<ArrayBuffer> | null} */
export function remembered(token, length) {
  try {
    const runs = JSON.parse(sessionStorage.getItem(DRAFT + token) ?? "null");
    return runs && unpacked(runs, length);
  } catch {
    return null;
  }
}
