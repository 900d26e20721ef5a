// Keys: asked for when the server wants one, kept for this tab only.

import { inTab } from "./kept.js";

const byId = (id) => document.getElementById(id);

class Key {
  // `prefix`: of the ids of its dialog. `without`: the key that is sent for want of this one; who has
  // none of either kind may go on without.
  constructor(prefix, { stored, without = null, wanted }) {
    this.prefix = prefix;
    this.stored = stored;
    this.without = without;
    this.isWanted = wanted;
    this.waiting = [];
  }

  headers() {
    const key = inTab.get(this.stored);
    if (key) return { Authorization: `Bearer ${key}` };
    return this.without?.headers() ?? {};
  }

  get isSet() {
    return inTab.get(this.stored) !== null;
  }

  // Resolves when the user has given a key. Throws AbortError when there will be none.
  ask() {
    byId(`${this.prefix}-problem`).textContent = this.isSet
      ? "The server did not accept that key. Please check it and try again."
      : "";
    if (!this.dialog.open) this.open();
    return new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
  }

  open() {
    this.dialog.returnValue = "";
    this.dialog.showModal();
  }

  get dialog() {
    return byId(`${this.prefix}-dialog`);
  }

  start() {
    // Without an API key nothing on the page works, so Escape does not lead anywhere.
    if (!this.without) this.dialog.addEventListener("cancel", (event) => event.preventDefault());
    this.dialog.addEventListener("close", () => this.closed(byId(this.prefix)));
  }

  closed(field) {
    const key = this.dialog.returnValue === "given" ? field.value.trim() : "";
    field.value = "";
    if (!key && !this.without) return this.open();
    if (key) inTab.set(this.stored, key);
    for (const { resolve, reject } of this.waiting.splice(0)) {
      key ? resolve() : reject(new DOMException("no key", "AbortError"));
    }
  }
}

export const apiKey = new Key("key", {
  stored: "api-key",
  wanted: ({ status }) => status === 401,
});

// For orders: an API key may do, or none.
export const adminKey = new Key("admin-key", {
  stored: "admin-key",
  without: apiKey,
  wanted: ({ status, code }) => status === 401 || code === "admin_key_required",
});

export function startKeyDialogs() {
  apiKey.start();
  adminKey.start();
}
