// Conversations in this browser (IndexedDB), pictures included; nothing is kept at the server.
// Where a browser keeps nothing (private windows of some), they last as long as the page.

const DATABASE = "proxy-oai-compat";
const VERSION = 1;

export async function openStore() {
  try {
    return new Store(await opened());
  } catch {
    return new Store(null);
  }
}

class Store {
  constructor(database) {
    this.database = database;
    this.summaries = new Map();
    this.turns = new Map();
  }

  get keeps() {
    return this.database !== null;
  }

  // Every conversation as {id, title, leaf, updated}, the latest first.
  async list() {
    const all = this.database
      ? await done(this.at("conversations").getAll())
      : [...this.summaries.values()];
    return all.sort((one, other) => other.updated - one.updated);
  }

  async turnsOf(id) {
    if (!this.database) return [...this.turns.values()].filter((turn) => turn.conversation === id);
    const turns = await done(this.at("turns").index("conversation").getAll(id));
    return turns.sort((one, other) => one.created - other.created);
  }

  async save(summary, ...turns) {
    if (!this.database) {
      this.summaries.set(summary.id, summary);
      for (const turn of turns) this.turns.set(turn.id, turn);
      return;
    }
    const change = this.database.transaction(["conversations", "turns"], "readwrite");
    change.objectStore("conversations").put(summary);
    for (const turn of turns) change.objectStore("turns").put(turn);
    await ended(change);
  }

  async removeTurn(turn) {
    if (this.database) await done(this.at("turns", "readwrite").delete(turn.id));
    else this.turns.delete(turn.id);
  }

  async remove(id) {
    for (const turn of await this.turnsOf(id)) await this.removeTurn(turn);
    if (this.database) await done(this.at("conversations", "readwrite").delete(id));
    else this.summaries.delete(id);
  }

  // The ids of the conversations with these words in a turn.
  async having(words) {
    const found = new Set();
    const wanted = words.toLowerCase();
    const look = (turn) => {
      if (turn.text.toLowerCase().includes(wanted)) found.add(turn.conversation);
    };
    if (!this.database) {
      for (const turn of this.turns.values()) look(turn);
      return found;
    }
    // One at a time: pictures are large, and all at once might not fit.
    return new Promise((resolve, reject) => {
      const request = this.at("turns").openCursor();
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        if (!request.result) return resolve(found);
        look(request.result.value);
        request.result.continue();
      };
    });
  }

  at(name, mode = "readonly") {
    return this.database.transaction(name, mode).objectStore(name);
  }
}

function opened() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, VERSION);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("conversations", { keyPath: "id" });
      const turns = request.result.createObjectStore("turns", { keyPath: "id" });
      turns.createIndex("conversation", "conversation");
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("blocked"));
  });
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function ended(change) {
  return new Promise((resolve, reject) => {
    change.oncomplete = () => resolve();
    change.onerror = change.onabort = () => reject(change.error);
  });
}
