// The list of models above the page: which is asked, which are loaded, and what memory they take.

import { element, setText } from "../dom.js";
import { memoryBar } from "./memory.js";
import { isLoaded, shortName, standing } from "./models.js";
import { ModelRow } from "./row.js";

const SEARCH_FROM = 9; // so many are easier searched than looked through
const byId = (id) => document.getElementById(id);

export function startPicker(models) {
  const picker = new Picker(models);
  models.follow(() => picker.show());
}

// What is being read stays so when nothing changed.
function replaceIfOther(target, children) {
  const made = element("div", {}, ...children);
  if (made.innerHTML !== target.innerHTML) target.replaceChildren(...children);
}

class Picker {
  constructor(models) {
    this.models = models;
    this.rows = new Map();
    this.panel = byId("models");
    this.panel.addEventListener("toggle", ({ newState }) => {
      if (newState !== "open") return;
      this.show();
      this.rows.get(models.chosen?.id)?.radio.focus();
    });
    byId("find-model").addEventListener("input", () => this.filter());
    byId("model-list").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.target.type !== "radio") return;
      event.preventDefault();
      this.panel.hidePopover();
      byId("question").focus();
    });
  }

  show() {
    const { models } = this;
    const { chosen } = models;
    byId("model").hidden = !models.areMany;
    byId("only-model").hidden = models.areMany || !chosen;
    setText("only-model", chosen?.id ?? "");
    setText("model-name", shortName(chosen?.id ?? "none"));
    byId("model").title = chosen?.id ?? "";
    setText("model-standing", chosen && !isLoaded(chosen) ? ` (${standing(chosen)})` : "");
    byId("model").dataset.loaded = Boolean(chosen && isLoaded(chosen));
    if (this.panel.matches(":popover-open")) this.showPanel();
  }

  showPanel() {
    const { models } = this;
    const { chosen } = models;
    const wanted = (host) => (chosen && !isLoaded(chosen) && chosen.hosts.includes(host.id) ? chosen : null);
    const bars = models.hosts.map((host) => memoryBar(host, (id) => models.placeOf(id), wanted(host)));
    replaceIfOther(byId("memory"), bars);
    const listed = models.all.map((model) => this.row(model.id));
    const list = byId("model-list");
    if (listed.length !== list.children.length || listed.some((row, at) => row.item !== list.children[at])) {
      list.replaceChildren(...listed.map((row) => row.item));
    }
    for (const model of models.all) this.row(model.id).show(model, model === chosen);
    byId("find-model").parentElement.hidden = listed.length < SEARCH_FROM;
    this.filter();
  }

  row(id) {
    if (!this.rows.has(id)) {
      const actions = {
        choose: () => this.models.choose(id),
        changed: () => this.show(),
        news: (words) => setText("models-news", words),
      };
      this.rows.set(id, new ModelRow(id, actions));
    }
    return this.rows.get(id);
  }

  filter() {
    const words = byId("find-model").parentElement.hidden ? "" : byId("find-model").value.trim().toLowerCase();
    const finds = ({ id, aliases }) => [id, ...aliases].join(" ").toLowerCase().includes(words);
    for (const model of this.models.all) this.row(model.id).item.hidden = !finds(model);
    byId("no-models").hidden = this.models.all.some(finds);
  }
}
