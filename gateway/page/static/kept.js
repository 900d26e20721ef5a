// Small things that are kept: in this browser, or in this tab until it is closed. Where a browser keeps
// nothing for a page (it may be told so), they last as long as the page.

class Kept {
  // `name`: of the browser's own place for them, which some refuse even to name.
  constructor(name) {
    this.name = name;
    this.here = new Map();
  }

  // Null where there is none.
  get(key) {
    if (this.here.has(key)) return this.here.get(key);
    try {
      return window[this.name].getItem(key);
    } catch {
      return null;
    }
  }

  set(key, text) {
    try {
      window[this.name].setItem(key, text);
      this.here.delete(key);
    } catch {
      this.here.set(key, text);
    }
  }

  remove(key) {
    this.here.delete(key);
    try {
      window[this.name].removeItem(key);
    } catch {
      // Nothing was kept there.
    }
  }
}

export const inBrowser = new Kept("localStorage");
export const inTab = new Kept("sessionStorage");

// Texts by their names, as JSON; {} where what is kept is nothing of the kind, whoever has written it.
export function textsIn(kept, key) {
  let found;
  try {
    found = JSON.parse(kept.get(key)) ?? {};
  } catch {
    return {};
  }
  return Object.fromEntries(Object.entries(found).filter(([, text]) => typeof text === "string"));
}
