// A conversation is a tree of turns: an edited question, or another answer, is a branch beside the
// first. What is shown is the path from the first turn to the chosen leaf.

export class Conversation {
  constructor(id = crypto.randomUUID?.() ?? String(Math.random()).slice(2), turns = [], leaf = null) {
    this.id = id;
    this.name = ""; // the user's; else the first question's words stand for it
    this.isKept = false; // in the store
    this.deleted = false; // what is still answered in it is not kept
    this.turns = new Map(turns.map((turn) => [turn.id, turn]));
    this.leaf = leaf;
  }

  get title() {
    if (this.name) return this.name;
    const first = this.path()[0];
    if (!first) return "";
    return first.text.split("\n")[0].slice(0, 80) || first.pictures?.[0]?.name || "A picture";
  }

  // The turns from the first one to `leaf`.
  path(leaf = this.leaf) {
    const turns = [];
    for (let turn = this.turns.get(leaf); turn; turn = this.turns.get(turn.parent)) turns.unshift(turn);
    return turns;
  }

  // Adds a turn below `parent` (an id; null begins) and shows it.
  add(parent, fields) {
    const turn = { id: `${this.id}/${this.turns.size}-${Date.now()}`, conversation: this.id, parent, ...fields };
    this.turns.set(turn.id, turn);
    this.leaf = turn.id;
    return turn;
  }

  // Takes turns back that nothing has come of, and shows what was shown before.
  takeBack(turns, leaf) {
    for (const turn of turns) this.turns.delete(turn.id);
    this.leaf = leaf;
  }

  // The turns that stand in the same place, oldest first.
  siblings(turn) {
    return [...this.turns.values()].filter((one) => one.parent === turn.parent);
  }

  // Shows another of them, and what followed it last.
  choose(turn) {
    this.leaf = this.lastBelow(turn.id) ?? turn.id;
  }

  lastBelow(parent) {
    const below = [...this.turns.values()].filter((turn) => turn.parent === parent).at(-1);
    return below ? (this.lastBelow(below.id) ?? below.id) : null;
  }

  // The turns that are sent when it goes on below `leaf`.
  sent(leaf = this.leaf) {
    return this.path(leaf).filter((turn) => turn.role === "user" || turn.text);
  }

  // As the API takes them.
  messages(leaf = this.leaf) {
    return this.sent(leaf).map(asMessage);
  }
}

export function asMessage({ role, text, pictures = [] }) {
  if (!pictures.length) return { role, content: text };
  const parts = pictures.map(asPart);
  if (text) parts.push({ type: "text", text });
  return { role, content: parts };
}

function asPart({ name, url }) {
  if (url.startsWith("data:application/pdf")) return { type: "file", file: { filename: name, file_data: url } };
  return { type: "image_url", image_url: { url } };
}
