// An answer on its way: into its turn, onto the page, and now and then into the store.

import { isLoaded, isOnTheWay, standing } from "../models/models.js";
import { streamAnswer } from "./answering.js";
import { AnswerView } from "./turns.js";

const SAVE_EVERY_MS = 500;
const END_PX = 40;
const LOOKS_UNTIL_IT_LOADS = 3; // the feed tells of each second

export class Answer {
  // `named`: the model's name, where it is worth a word. `pictureName(message, part)`: what the user
  // calls a picture of the request.
  constructor(turn, place, actions, { save, named, pictureName }) {
    this.turn = turn;
    this.save = save;
    this.named = named;
    this.pictureName = pictureName;
    this.isRetrying = false;
    this.looks = 0;
    this.startedAt = performance.now();
    this.firstAt = null;
    this.savedAt = performance.now();
    this.figures = null;
    this.view = new AnswerView(turn, place, actions, () => this.follow());
    this.view.item.classList.add("growing");
    this.atEnd = true;
    this.turns = document.getElementById("turns");
    this.followedTo = this.turns.scrollTop;
    // Who scrolls up to read stays there.
    this.onScroll = () => {
      if (this.isShown) this.atEnd = this.toEnd() < END_PX;
    };
    this.turns.addEventListener("scroll", this.onScroll);
  }

  // Returns null when something came, else what was wrong.
  async stream(body, signal) {
    let problem = null;
    try {
      await streamAnswer(body, this, signal);
      const isAnswer = this.turn.text || this.turn.calls.length;
      this.turn.note = isAnswer ? this.took() : `${this.took()} · It thought, and gave no answer.`;
      if (!this.came) problem = this.turn.note = "The model gave an empty answer.";
    } catch (error) {
      const stopped = error.name === "AbortError";
      this.turn.note = stopped ? "stopped" : this.inWords(error);
      this.turn.problem = !stopped;
      if (!this.came) problem = stopped ? "Stopped." : this.turn.note;
    } finally {
      this.turns.removeEventListener("scroll", this.onScroll);
    }
    this.view.show();
    this.follow();
    return problem;
  }

  // For who does not know how a request is written.
  inWords({ message, param }) {
    const [, at, part] = /^messages\[(\d+)\]\.content\[(\d+)\]/.exec(param) ?? [];
    if (at === undefined) return message;
    const reason = message.replace(`${param}: `, "");
    const name = this.pictureName(at, part);
    return name ? `${name}: ${reason}` : reason;
  }

  // Whether its conversation is; it goes on while another one is.
  get isShown() {
    return this.view.item.isConnected;
  }

  // It is shown from its end.
  shown() {
    this.atEnd = true;
  }

  get came() {
    return Boolean(this.turn.text || this.turn.thought || this.turn.calls.length);
  }

  waiting(seconds, problem) {
    this.isRetrying = seconds > 0;
    this.view.say(seconds ? `${problem.reason} Trying again in ${seconds} s.` : "Trying again …");
    this.follow();
    this.startedAt = performance.now();
  }

  // How the model that is asked is, until it says something.
  modelIs(model) {
    if (this.firstAt !== null || this.isRetrying || !this.view.isGrowing) return;
    if (isLoaded(model)) this.view.say("");
    else if (isOnTheWay(model)) this.view.say(`${model.id} is ${standing(model)}`, { fraction: model.fraction });
    else if (this.looks < LOOKS_UNTIL_IT_LOADS) this.view.say(`${model.id} is loaded first …`, { fraction: 0 });
    else this.view.say(`${model.id} is not loaded yet and waits for memory that others use.`);
    this.looks += 1;
    this.follow();
  }

  thought(piece) {
    this.turn.thought += piece;
    this.begun();
    this.view.addThought(piece);
    this.follow();
    this.saveNowAndThen();
  }

  text(piece) {
    this.turn.text += piece;
    this.begun();
    this.view.addText(piece);
    this.saveNowAndThen();
  }

  saveNowAndThen() {
    if (performance.now() - this.savedAt < SAVE_EVERY_MS) return;
    this.savedAt = performance.now();
    this.save();
  }

  call({ index, function: { name = "", arguments: given = "" } }) {
    this.begun();
    const made = (this.turn.calls[index] ??= { name: "", arguments: "" });
    made.name += name;
    made.arguments += given;
  }

  usage(figures) {
    this.figures = figures;
  }

  begun() {
    if (this.firstAt !== null) return;
    this.firstAt = performance.now();
    this.view.say("");
    this.save();
  }

  follow() {
    if (!this.isShown) return;
    // The browser tells of scrolling with its next frame: more of the answer may come before.
    const wentUp = this.turns.scrollTop < this.followedTo && this.toEnd() >= END_PX;
    if (wentUp) this.atEnd = false;
    if (this.atEnd) this.turns.scrollTop = this.turns.scrollHeight;
    this.followedTo = this.turns.scrollTop;
  }

  toEnd() {
    return this.turns.scrollHeight - this.turns.scrollTop - this.turns.clientHeight;
  }

  took() {
    const seconds = (performance.now() - this.startedAt) / 1000;
    const first = ((this.firstAt ?? performance.now()) - this.startedAt) / 1000;
    const named = this.named ? `${this.named} · ` : "";
    const tokens = this.figures ? `${this.figures.completion_tokens} tokens · ` : "";
    return `${named}${tokens}first after ${first.toFixed(2)} s · ${seconds.toFixed(2)} s in all`;
  }
}
