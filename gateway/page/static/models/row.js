// A model in the list: it can be chosen, loaded and unloaded. Changed in place, so that the keyboard's
// focus and a screen reader stay where they are.

import { element } from "../dom.js";
import { isListed, isLoaded, isOnTheWay, standing } from "./models.js";
import { memorySize } from "./sizes.js";
import { order } from "./orders.js";

let made = 0;

export class ModelRow {
  // `actions`: {choose(), changed(), news(words)}.
  constructor(id, actions) {
    this.id = id;
    this.actions = actions;
    this.running = null; // an order: {action, stop}
    this.refusal = "";
    const facts = `model-facts-${(made += 1)}`;
    this.radio = element("input", { type: "radio", name: "model", value: id, "aria-describedby": facts });
    this.radio.addEventListener("change", () => actions.choose());
    this.badges = element("span", { class: "badges" });
    this.state = element("span", { class: "state" });
    this.button = element("button", { type: "button", class: "small" });
    this.button.addEventListener("click", () => this.press());
    this.facts = element("div", { class: "hint facts", id: facts });
    this.progress = element("progress", { max: 1, "aria-label": `${id} on its way`, hidden: "" });
    this.problem = element("p", { class: "problem", role: "alert" });
    const name = element("span", {}, element("strong", {}, id), this.badges);
    const label = element("label", {}, this.radio, name);
    this.item = element("div", { class: "model-row", "data-model": id });
    this.item.append(label, this.button, this.facts, this.progress, this.problem);
  }

  show(model, chosen) {
    if (model.status !== this.model?.status) this.refusal = "";
    this.model = model;
    this.item.className = `model-row${chosen ? " chosen" : ""}`;
    this.radio.checked = chosen;
    const asked = this.running?.action === "load" && model.status === "unloaded";
    set(this.state, asked ? "asked for …" : standing(model));
    this.state.dataset.state = model.draining ? "draining" : STATES[model.status];
    this.button.hidden = !isListed(model);
    set(this.button, WORDS[this.action]);
    this.button.setAttribute("aria-label", `${WORDS[this.action]} ${this.id}`);
    this.button.disabled = this.running?.action === "unload";
    replace(this.facts, this.state, ...spans("fact", factsOf(model)));
    replace(this.badges, ...spans("badge", badgesOf(model)));
    this.progress.hidden = !isOnTheWay(model);
    if (model.fraction) this.progress.value = model.fraction;
    else this.progress.removeAttribute("value");
    set(this.problem, this.refusal || model.error);
  }

  // What its button does now.
  get action() {
    if (isLoaded(this.model)) return "unload";
    return this.running?.action === "load" || isOnTheWay(this.model) ? "stop" : "load";
  }

  async press() {
    const action = this.action === "load" ? "load" : "unload";
    this.running?.stop.abort();
    const running = (this.running = { action, stop: new AbortController() });
    this.refusal = "";
    this.actions.changed();
    try {
      const { status } = await order(action, this.id, running.stop.signal);
      this.actions.news(`${this.id} is ${status.value}.`);
    } catch (error) {
      if (error.name !== "AbortError") this.refusal = error.message;
    }
    if (this.running === running) this.running = null;
    this.actions.changed();
  }
}

const WORDS = { load: "Load", unload: "Unload", stop: "Cancel" };
const STATES = { loaded: "ready", loading: "loading", downloading: "loading", unloaded: "none", failed: "failed" };

// Untouched when nothing changed: what is selected or being read stays so.
function set(target, words) {
  if (target.textContent !== words) target.textContent = words;
}

function replace(target, ...children) {
  const words = (nodes) => [...nodes].map((node) => node.textContent).join("\n");
  if (words(target.childNodes) !== words(children)) target.replaceChildren(...children);
}

function spans(name, texts) {
  return texts.filter(Boolean).map((text) => element("span", { class: name }, text));
}

function factsOf(model) {
  return [
    model.memory_bytes ? memorySize(model.memory_bytes) : "",
    model.context ? `context of ${model.context.toLocaleString()} tokens` : "",
    model.aliases.length ? `also called ${model.aliases.join(", ")}` : "",
    model.hosts.length > 1 ? `listed by ${model.hosts.join(", ")}` : "",
  ];
}

function badgesOf(model) {
  const reads = { true: "pictures", false: "text only", null: "" }[model.vision];
  return [reads, model.pinned && isListed(model) ? "pinned" : ""];
}
