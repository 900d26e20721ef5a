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

  // Every conversation as {id, title, renamed, leaf, updated}, the latest first.
  async list() {
    const all = this.database
      ? await done(this.at("conversations").getAll())
      : [...this.summaries.values()];
    return all.sort((one, other) => other.updated - one.updated);
  }

  async turnsOf(id) {
    if (!this.database) return this.turnsHere(id);
    const turns = await done(this.at("turns").index("conversation").getAll(id));
    return turns.sort((one, other) => one.created - other.created);
  }

  // Keeps what is new of a conversation, {id, ...}, and some of its turns. Returns the whole of what is
  // kept of it; null where `isKnown` and there is none: it was deleted, in another tab perhaps, and
  // stays so.
  async save(changes, turns = [], { isKnown = false } = {}) {
    if (!this.database) {
      const kept = this.summaries.get(changes.id);
      if (isKnown && !kept) return null;
      this.summaries.set(changes.id, merged(kept, changes));
      for (const turn of turns) this.turns.set(turn.id, turn);
      return this.summaries.get(changes.id);
    }
    const change = this.changing();
    const conversations = change.objectStore("conversations");
    const kept = await done(conversations.get(changes.id));
    if (isKnown && !kept) return null;
    const whole = merged(kept, changes);
    conversations.put(whole);
    for (const turn of turns) change.objectStore("turns").put(turn);
    await ended(change);
    return whole;
  }

  async removeTurns(turns) {
    if (!this.database) return turns.forEach(({ id }) => this.turns.delete(id));
    const change = this.changing();
    for (const { id } of turns) change.objectStore("turns").delete(id);
    await ended(change);
  }

  async remove(id) {
    if (!this.database) {
      this.summaries.delete(id);
      return this.removeTurns(this.turnsHere(id));
    }
    const change = this.changing();
    change.objectStore("conversations").delete(id);
    const turns = change.objectStore("turns");
    for (const key of await done(turns.index("conversation").getAllKeys(id))) turns.delete(key);
    await ended(change);
  }

  turnsHere(id) {
    return [...this.turns.values()].filter((turn) => turn.conversation === id);
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

  at(name) {
    return this.database.transaction(name).objectStore(name);
  }

  // All in one, so that another tab sees all of it or nothing.
  changing() {
    return this.database.transaction(["conversations", "turns"], "readwrite");
  }
}

// The name that its user gave it stays, whatever it is called after its first question.
function merged(kept, changes) {
  const title = kept?.renamed && !changes.renamed ? kept.title : changes.title;
  return { renamed: false, ...kept, ...changes, title };
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
