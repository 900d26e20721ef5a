// Where a question is written: its words, its pictures, and the buttons that send and stop it.

import { inTab } from "../kept.js";
import { Pictures, receivePictures } from "./pictures.js";

const DRAFT = "draft";
const byId = (id) => document.getElementById(id);

export class Composer {
  // `actions`: {send(), stop(), tell(words)}.
  constructor({ send, stop, tell }) {
    this.field = byId("question");
    this.pictures = new Pictures(tell);
    receivePictures(byId("chat"), this.pictures);
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      send();
    });
    // A page that is loaded again still has what was being written.
    this.field.value = inTab.get(DRAFT) ?? "";
    this.field.addEventListener("input", () => this.keep());
    this.field.addEventListener("keydown", (event) => {
      if (!isSending(event)) return;
      event.preventDefault();
      send();
    });
    byId("stop").addEventListener("click", stop);
    byId("files").addEventListener("change", async (event) => {
      await this.pictures.add(event.target.files);
      event.target.value = "";
    });
  }

  // What is written now, as {text, pictures}; null where that is nothing.
  get question() {
    const text = this.field.value.trim();
    const pictures = this.pictures.chosen;
    return text || pictures.length ? { text, pictures } : null;
  }

  clear() {
    this.write("");
    this.pictures.put([]);
  }

  // Before what has been written meanwhile: nothing is lost.
  giveBack({ text, pictures }) {
    this.write([text, this.field.value].filter(Boolean).join("\n\n"));
    this.pictures.put([...pictures, ...this.pictures.chosen]);
  }

  write(text) {
    this.field.value = text;
    this.keep();
  }

  keep() {
    if (this.field.value) inTab.set(DRAFT, this.field.value);
    else inTab.remove(DRAFT);
  }

  // Whether an answer is on its way that can be stopped.
  showRunning(isRunning) {
    const lost = document.activeElement === byId(isRunning ? "send" : "stop");
    byId("stop").hidden = !isRunning;
    byId("send").hidden = isRunning;
    if (lost) this.focus();
  }

  focus() {
    this.field.focus();
  }
}

// While an input method is composing, Enter chooses a word.
export function isSending(event) {
  return event.key === "Enter" && !event.shiftKey && !event.isComposing;
}
