// The chat: conversations about pictures, streamed, stoppable, kept in this browser.

import { element, setText } from "../dom.js";
import { isLoaded } from "../models/models.js";
import { Answer } from "./answer.js";
import { asMessage, Conversation } from "./conversation.js";
import { copy } from "./copying.js";
import { History } from "./history.js";
import { Pictures, receivePictures } from "./pictures.js";
import { keepSettings, settings, systemPrompt } from "./settings.js";
import { asCurl, asPython } from "./snippets.js";
import { openStore } from "./store.js";
import { AnswerView, askedTurn, button } from "./turns.js";

const SHOWN = "conversation";
const DRAFT = "draft";
const byId = (id) => document.getElementById(id);

export function startChat(models) {
  keepSettings();
  const chat = new Chat(openStore(), models);
  chat.restore();
}

class Chat {
  // `store`: a promise of it; who is quick asks before the browser has opened it.
  constructor(store, models) {
    this.store = store;
    this.models = models;
    this.conversation = new Conversation();
    this.running = null;
    this.answering = null; // {answer, model}
    models.follow(() => this.tellOfModel());
    this.pictures = new Pictures((words) => setText("notice", words));
    receivePictures(byId("chat"), this.pictures);
    new History(store, {
      open: (id) => this.open(id),
      renamed: (id, title) => {
        if (id === this.conversation.id) this.conversation.name = title;
      },
      deleted: (id) => {
        if (id !== this.conversation.id) return;
        this.conversation.deleted = true;
        this.begin();
      },
    });
    this.listen();
  }

  listen() {
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    // A page that is loaded again still has what was being written, or was not answered yet.
    byId("question").value = sessionStorage.getItem(DRAFT) ?? "";
    byId("question").addEventListener("input", () => sessionStorage.setItem(DRAFT, byId("question").value));
    byId("question").addEventListener("keydown", (event) => {
      // While an input method is composing, Enter chooses a word.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.send();
    });
    document.addEventListener("keydown", (event) => {
      // What is open above the page closes first.
      if (event.key === "Escape" && !document.querySelector(":popover-open, dialog[open]")) this.running?.abort();
    });
    byId("files").addEventListener("change", async (event) => {
      await this.pictures.add(event.target.files);
      event.target.value = "";
    });
    byId("stop").addEventListener("click", () => this.running?.abort());
    byId("clear").addEventListener("click", () => this.begin());
    byId("export").addEventListener("click", () => this.export());
    for (const [id, write] of [["copy-curl", asCurl], ["copy-python", asPython]]) {
      byId(id).addEventListener("click", async () => {
        if (await copy(write(this.body(this.draft())))) setText("copied", "Copied.");
      });
    }
  }

  // --- which conversation -------------------------------------------------------------------------

  begin() {
    this.replace(new Conversation());
    byId("question").focus();
  }

  async open(id) {
    const conversation = await this.kept(id);
    if (conversation) this.replace(conversation);
  }

  // What this tab showed before it was loaded again.
  async restore() {
    const { conversation: begun } = this;
    const conversation = await this.kept(sessionStorage.getItem(SHOWN));
    // Something was asked meanwhile, or another one begun or opened.
    if (this.conversation !== begun || begun.turns.size) return;
    this.replace(conversation ?? begun);
  }

  async kept(id) {
    const store = await this.store;
    const summary = (await store.list()).find((one) => one.id === id);
    if (!summary) return null;
    const conversation = new Conversation(id, await store.turnsOf(id), summary.leaf);
    if (summary.renamed) conversation.name = summary.title;
    return conversation;
  }

  replace(conversation) {
    this.running?.abort();
    this.setRunning(null);
    this.conversation = conversation;
    sessionStorage.setItem(SHOWN, conversation.id);
    setText("notice", "");
    this.show();
  }

  async save(conversation, ...turns) {
    if (conversation.deleted) return;
    const { id, title, name, leaf } = conversation;
    const summary = { id, title, renamed: name !== "", leaf, updated: Date.now() };
    try {
      await (await this.store).save(summary, ...turns);
    } catch {
      setText("notice", "This browser has no room to keep the conversation.");
    }
  }

  export() {
    const { id, leaf } = this.conversation;
    const turns = [...this.conversation.turns.values()];
    const content = { title: this.conversation.title, id, leaf, turns };
    const url = URL.createObjectURL(new Blob([JSON.stringify(content, null, 2)], { type: "application/json" }));
    element("a", { href: url, download: `${content.title.replace(/[^\p{L}\p{N}]+/gu, "-") || "chat"}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  // --- what is shown --------------------------------------------------------------------------------

  show() {
    const path = this.conversation.path();
    byId("turns").replaceChildren(...path.map((turn) => this.item(turn)));
    byId("invitation").hidden = path.length > 0;
    byId("turns").scrollTop = byId("turns").scrollHeight;
  }

  item(turn) {
    if (turn.role === "user") return askedTurn(turn, this.place(turn), this.actions());
    const view = new AnswerView(turn, this.place(turn), this.actions());
    view.show();
    return view.item;
  }

  place(turn) {
    const siblings = this.conversation.siblings(turn);
    return { at: siblings.indexOf(turn), of: siblings.length };
  }

  actions() {
    return {
      edit: (turn, text) => this.edit(turn, text),
      again: (turn) => this.again(turn),
      branch: (turn, step) => {
        if (this.running) return;
        const siblings = this.conversation.siblings(turn);
        this.conversation.choose(siblings[siblings.indexOf(turn) + step]);
        this.save(this.conversation);
        this.show();
      },
    };
  }

  // --- asking ---------------------------------------------------------------------------------------

  // The conversation with what is being written now.
  draft() {
    const text = byId("question").value.trim();
    const pictures = this.pictures.chosen;
    const messages = this.conversation.messages();
    return text || pictures.length ? [...messages, asMessage({ role: "user", text, pictures })] : messages;
  }

  body(messages) {
    const system = systemPrompt();
    const body = {
      messages: system ? [{ role: "system", content: system }, ...messages] : messages,
      stream: true,
      stream_options: { include_usage: true },
      ...settings(),
    };
    if (this.models.asked) body.model = this.models.asked;
    return body;
  }

  async send() {
    const text = byId("question").value.trim();
    if (this.running || (!text && !this.pictures.chosen.length)) return;
    const pictures = this.pictures.take();
    byId("question").value = "";
    const problem = await this.ask(this.conversation.leaf, text, pictures);
    if (problem !== null) {
      // Nothing came: the question goes back to where it was written, so that nothing is lost.
      byId("question").value ||= text;
      if (!this.pictures.chosen.length) this.pictures.put(pictures);
      setText("notice", problem);
    }
    byId("question").focus();
  }

  // Asks below `parent`. Returns null, or why nothing came.
  async ask(parent, text, pictures) {
    const { conversation } = this;
    const before = conversation.leaf;
    sessionStorage.setItem(SHOWN, conversation.id);
    const asked = conversation.add(parent, { role: "user", text, pictures, created: Date.now() });
    const problem = await this.answer(asked);
    if (problem === null) return null;
    conversation.remove(asked);
    conversation.leaf = before;
    if (conversation === this.conversation) this.show();
    return conversation === this.conversation ? problem : null;
  }

  edit(turn, text) {
    if (this.running) return;
    const field = element("textarea", { rows: 3, "aria-label": "Your question, edited" });
    field.value = turn.text;
    const box = element("div", { class: "edit" }, field);
    const back = () => box.replaceWith(text);
    const ask = async () => {
      const words = field.value.trim();
      if (!words) return;
      const problem = await this.ask(turn.parent, words, turn.pictures ?? []);
      if (problem !== null) setText("notice", problem);
    };
    box.append(button("Cancel", back), button("Ask", ask));
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") back();
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      ask();
    });
    text.replaceWith(box);
    field.focus();
  }

  async again(turn) {
    if (this.running) return;
    const before = this.conversation.leaf;
    const problem = await this.answer(this.conversation.turns.get(turn.parent));
    if (problem === null) return;
    this.conversation.leaf = before;
    this.show();
    setText("notice", problem);
  }

  // Answers a question in a turn below it. Returns null, or why nothing came (the turn is gone then).
  async answer(asked) {
    setText("notice", "");
    const { conversation } = this;
    let body;
    try {
      body = this.body(conversation.messages(asked.id));
    } catch (error) {
      return error.message;
    }
    const turn = conversation.add(asked.id, { role: "assistant", text: "", thought: "", calls: [], created: Date.now() });
    turn.note = "The page was left during this answer.";
    this.show();
    const save = () => {
      if (!byId("question").value) sessionStorage.removeItem(DRAFT);
      this.save(conversation, asked, turn);
    };
    const named = this.models.all.length > 1 ? body.model : "";
    const sent = conversation.sent(asked.id);
    const pictureName = (message, part) => sent.at(message - body.messages.length)?.pictures?.[part]?.name;
    const answer = new Answer(turn, this.place(turn), this.actions(), { save, named, pictureName });
    byId("turns").lastChild.replaceWith(answer.view.item);
    byId("turns").scrollTop = byId("turns").scrollHeight;
    const stop = new AbortController();
    this.setRunning(stop);
    this.answering = { answer, model: body.model };
    this.tellOfModel({ asked: true });
    const problem = await answer.stream(body, stop.signal);
    if (this.answering?.answer === answer) this.answering = null;
    if (this.running === stop) this.setRunning(null);
    if (problem === null) {
      await this.save(conversation, asked, turn);
      return null;
    }
    conversation.remove(turn);
    return problem;
  }

  // While its answer is awaited. Screen readers are told once, not of every step of the way.
  tellOfModel({ asked = false } = {}) {
    const model = this.models.find(this.answering?.model);
    if (!model) return;
    this.answering.answer.modelIs(model);
    if (asked && !isLoaded(model)) setText("models-news", `${model.id} is loaded first.`);
  }

  setRunning(stop) {
    this.running = stop;
    byId("stop").hidden = stop === null;
    byId("send").hidden = stop !== null;
    // Screen readers wait with reading until the answer is whole.
    byId("turns").setAttribute("aria-busy", String(stop !== null));
  }
}
