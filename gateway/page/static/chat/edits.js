// Questions that are changed where they stand. What was typed stays until it is asked or given up, also
// where the page is loaded again.

import { button, element } from "../dom.js";
import { inTab, textsIn } from "../kept.js";
import { isSending } from "./composer.js";

const EDITS = "edits";

export class Edits {
  constructor() {
    this.words = textsIn(inTab, EDITS); // by the turn's id
  }

  // Undefined where the turn is not being changed.
  of(turn) {
    return this.words[turn.id];
  }

  keep(turn, words) {
    this.words[turn.id] = words;
    inTab.set(EDITS, JSON.stringify(this.words));
  }

  drop(turn) {
    delete this.words[turn.id];
    inTab.set(EDITS, JSON.stringify(this.words));
  }
}

// `actions`: {changed(words), ask(words), close()}.
export function editBox(turn, words, { changed, ask, close }) {
  const field = element("textarea", { rows: 3, "aria-label": "Your question, edited" });
  field.value = words;
  const send = () => field.value.trim() && ask(field.value.trim());
  field.addEventListener("input", () => changed(field.value));
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.stopPropagation(); // no answer is meant
      if (field.value === turn.text) close();
    }
    if (!isSending(event)) return;
    event.preventDefault();
    send();
  });
  return element("div", { class: "edit" }, field, button("Cancel", close), button("Ask", send));
}
