// The chat: conversations about pictures, streamed, stoppable, kept in this browser.

import { element, setText } from "../dom.js";
import { inTab } from "../kept.js";
import { Answer } from "./answer.js";
import { Composer } from "./composer.js";
import { asMessage, Conversation } from "./conversation.js";
import { copy } from "./copying.js";
import { Edits } from "./edits.js";
import { History } from "./history.js";
import { Runs } from "./runs.js";
import { keepSettings, settings, systemPrompt } from "./settings.js";
import { asCurl, asPython } from "./snippets.js";
import { openStore } from "./store.js";
import { AnswerView, askedTurn } from "./turns.js";

const SHOWN = "conversation";
const LEFT = "The page was left during this answer.";
const DELETED = "This conversation was deleted in another tab: what stands here is no longer kept.";
const BUSY = "An answer is on its way here. Stop it first, or wait for its end.";
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
    this.runs = new Runs(models);
    this.edits = new Edits();
    this.saved = Promise.resolve(); // when all that was to be saved until now is
    const tell = (words) => setText("notice", words);
    this.composer = new Composer({ send: () => this.send(), stop: () => this.stop(), tell });
    this.history = new History(store, {
      open: (id) => this.open(id),
      renamed: (id, title) => {
        if (id === this.conversation.id) this.conversation.name = title;
      },
      deleted: (id) => this.deleted(id),
      isAnswered: (id) => this.runs.of({ id }) !== null,
    });
    this.listen();
  }

  listen() {
    document.addEventListener("keydown", (event) => {
      // What is open above the page closes first.
      if (event.key === "Escape" && !document.querySelector(":popover-open, dialog[open]")) this.stop();
    });
    byId("clear").addEventListener("click", () => this.begin());
    byId("export").addEventListener("click", () => this.export());
    byId("copy-curl").addEventListener("click", () => this.copy(asCurl));
    byId("copy-python").addEventListener("click", () => this.copy(asPython));
  }

  // --- which conversation -------------------------------------------------------------------------

  begin() {
    this.replace(new Conversation());
    this.composer.focus();
  }

  async open(id) {
    const conversation = this.runs.of({ id })?.conversation ?? (await this.kept(id));
    if (conversation) this.replace(conversation);
  }

  // What this tab showed before it was loaded again.
  async restore() {
    const { conversation: begun } = this;
    const conversation = await this.kept(inTab.get(SHOWN));
    // Something was asked meanwhile, or another one begun or opened.
    if (this.conversation !== begun || begun.turns.size) return;
    this.replace(conversation ?? begun);
  }

  async kept(id) {
    const store = await this.store;
    await this.saved;
    const summary = (await store.list()).find((one) => one.id === id);
    if (!summary) return null;
    const conversation = new Conversation(id, await store.turnsOf(id), summary.leaf);
    conversation.isKept = true;
    if (summary.renamed) conversation.name = summary.title;
    return conversation;
  }

  // What is answered in the one before goes on.
  replace(conversation) {
    this.conversation = conversation;
    inTab.set(SHOWN, conversation.id);
    setText("notice", "");
    this.show();
  }

  save(conversation, ...turns) {
    this.saved = this.saved.then(() => this.keep(conversation, turns));
    return this.saved;
  }

  async keep(conversation, turns) {
    if (conversation.deleted) return this.lost(conversation);
    const { id, title, leaf, isKept } = conversation;
    try {
      const changes = { id, title, leaf, updated: Date.now() };
      const kept = await (await this.store).save(changes, turns, { isKnown: isKept });
      if (kept === null) return this.lost(conversation);
      conversation.isKept = true;
      if (kept.renamed) conversation.name = kept.title;
    } catch {
      setText("notice", "This browser has no room to keep the conversation.");
    }
  }

  // It was deleted where this page did not see it.
  lost(conversation) {
    conversation.deleted = true;
    if (conversation === this.conversation) setText("notice", DELETED);
    else this.runs.of(conversation)?.stop.abort();
  }

  deleted(id) {
    const conversation = this.runs.of({ id })?.conversation ?? this.conversation;
    if (conversation.id !== id) return;
    conversation.deleted = true;
    this.runs.of({ id })?.stop.abort();
    if (conversation === this.conversation) this.begin();
  }

  export() {
    const { id, leaf } = this.conversation;
    const turns = [...this.conversation.turns.values()];
    const content = { title: this.conversation.title, id, leaf, turns };
    const url = URL.createObjectURL(new Blob([JSON.stringify(content, null, 2)], { type: "application/json" }));
    element("a", { href: url, download: `${content.title.replace(/[^\p{L}\p{N}]+/gu, "-") || "chat"}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  async copy(write) {
    try {
      if (await copy(write(this.body(this.draft())))) setText("copied", "Copied.");
    } catch (error) {
      setText("copied", error.message);
    }
  }

  // --- what is shown --------------------------------------------------------------------------------

  show({ toEnd = true } = {}) {
    const path = this.conversation.path();
    const { scrollTop } = byId("turns");
    byId("turns").replaceChildren(...path.map((turn) => this.item(turn)));
    byId("invitation").hidden = path.length > 0;
    byId("turns").scrollTop = toEnd ? byId("turns").scrollHeight : scrollTop;
    this.runs.of(this.conversation)?.answer.shown();
    this.showRunning();
  }

  showRunning() {
    const run = this.runs.of(this.conversation);
    this.composer.showRunning(run !== null);
    // Screen readers wait with reading until the answer is whole.
    byId("turns").setAttribute("aria-busy", String(run !== null));
  }

  item(turn) {
    if (turn.role === "user") return askedTurn(turn, this.place(turn), this.actions(), this.edits.of(turn));
    const run = this.runs.of(this.conversation);
    if (run?.answer.turn === turn) return run.answer.view.item;
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
      edit: (turn) => this.edit(turn, this.edits.of(turn) ?? turn.text),
      changed: (turn, words) => this.edits.keep(turn, words),
      close: (turn) => this.edit(turn, null),
      ask: (turn, words) => this.askEdited(turn, words),
      again: (turn) => this.again(turn),
      branch: (turn, step) => {
        if (this.runs.of(this.conversation)) return setText("notice", BUSY);
        const siblings = this.conversation.siblings(turn);
        this.conversation.choose(siblings[siblings.indexOf(turn) + step]);
        this.save(this.conversation);
        this.show({ toEnd: false });
      },
    };
  }

  // Opens a question to be changed, with these words, or closes it.
  edit(turn, words) {
    if (words === null) this.edits.drop(turn);
    else this.edits.keep(turn, words);
    const item = this.item(turn);
    byId("turns").querySelector(`[data-turn="${turn.id}"]`).replaceWith(item);
    item.querySelector("textarea, .tools button").focus();
  }

  // --- asking ---------------------------------------------------------------------------------------

  // The conversation with what is being written now.
  draft() {
    const { question } = this.composer;
    const messages = this.conversation.messages();
    return question ? [...messages, asMessage({ role: "user", ...question })] : messages;
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

  stop() {
    this.runs.of(this.conversation)?.stop.abort();
  }

  // Says why nothing can be asked now, where that is so.
  isRefused() {
    let reason = this.runs.of(this.conversation) ? BUSY : "";
    try {
      settings();
    } catch (error) {
      reason ||= error.message;
    }
    setText("notice", reason);
    return reason !== "";
  }

  async send() {
    const { question } = this.composer;
    if (!question || this.isRefused()) return;
    this.composer.clear();
    const problem = await this.ask(this.conversation.leaf, question);
    if (problem === null) return;
    this.composer.giveBack(question);
    setText("notice", problem);
  }

  async askEdited(turn, text) {
    if (this.isRefused()) return;
    this.edits.drop(turn);
    const problem = await this.ask(turn.parent, { text, pictures: turn.pictures ?? [] });
    if (problem === null) return;
    this.edits.keep(turn, text);
    this.show();
    setText("notice", problem);
  }

  // Asks below `parent`. Resolves with null, or with why the question was taken back.
  ask(parent, question) {
    const { conversation } = this;
    const { leaf } = conversation;
    const asked = conversation.add(parent, { role: "user", ...question, created: Date.now() });
    return this.answer(conversation, asked, [asked], leaf);
  }

  async again(turn) {
    if (this.isRefused()) return;
    const { conversation } = this;
    const asked = conversation.turns.get(turn.parent);
    const problem = await this.answer(conversation, asked, [], conversation.leaf);
    if (problem !== null) setText("notice", problem);
  }

  // Answers a question in a turn below it. Where nothing comes and the conversation is still shown, that
  // turn and those that are `added` with it are taken back, `leaf` is shown again, and this resolves with
  // the reason; else with null.
  async answer(conversation, asked, added, leaf) {
    inTab.set(SHOWN, conversation.id);
    const body = this.body(conversation.messages(asked.id));
    const fields = { role: "assistant", text: "", thought: "", calls: [], note: LEFT, created: Date.now() };
    const turn = conversation.add(asked.id, fields);
    const run = this.runs.begin(conversation, this.answerOf(conversation, asked, turn, body), body.model);
    // At once: a page that is loaded again, or shows another one meanwhile, has what was asked.
    this.save(conversation, ...added, turn);
    this.show();
    const problem = await this.runs.stream(run, body);
    if (problem !== null && conversation === this.conversation) {
      await this.takeBack(conversation, [...added, turn], leaf);
      return problem;
    }
    if (conversation === this.conversation) this.showRunning();
    await this.save(conversation, turn);
    return null;
  }

  answerOf(conversation, asked, turn, body) {
    const save = () => this.save(conversation, turn);
    const named = this.models.all.length > 1 ? body.model : "";
    const sent = conversation.sent(asked.id);
    const pictureName = (message, part) => sent.at(message - body.messages.length)?.pictures?.[part]?.name;
    return new Answer(turn, this.place(turn), this.actions(), { save, named, pictureName });
  }

  async takeBack(conversation, turns, leaf) {
    conversation.takeBack(turns, leaf);
    this.show();
    await this.saved;
    const store = await this.store;
    if (conversation.turns.size) {
      await store.removeTurns(turns);
      await this.save(conversation);
    } else {
      conversation.isKept = false;
      await store.remove(conversation.id);
    }
  }
}
