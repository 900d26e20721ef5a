// The list of kept conversations: search, open, rename, delete.

import { button, element } from "../dom.js";

const byId = (id) => document.getElementById(id);

export class History {
  // `store`: a promise of it. `actions`: {open(id), renamed(id, title), deleted(id), isAnswered(id)}.
  constructor(store, actions) {
    this.store = store;
    this.actions = actions;
    this.asked = 0;
    byId("search").addEventListener("input", () => this.show());
    byId("history").addEventListener("beforetoggle", ({ newState }) => {
      if (newState === "open") this.show();
    });
    store.then(({ keeps }) => (byId("not-kept").hidden = keeps));
  }

  async show() {
    const asked = (this.asked += 1);
    const words = byId("search").value.trim();
    const store = await this.store;
    let summaries = await store.list();
    if (words) {
      const found = await store.having(words);
      const wanted = words.toLowerCase();
      summaries = summaries.filter(({ id, title }) => found.has(id) || title.toLowerCase().includes(wanted));
    }
    if (asked !== this.asked) return; // other words are being looked for by now
    byId("conversations").replaceChildren(...summaries.map((summary) => this.item(summary)));
    byId("no-conversations").hidden = summaries.length > 0;
  }

  item(summary) {
    const open = button(summary.title, () => {
      byId("history").hidePopover();
      this.actions.open(summary.id);
    });
    open.className = "title";
    const now = this.actions.isAnswered(summary.id) ? "answering …" : "";
    const when = element("span", { class: "hint" }, now || new Date(summary.updated).toLocaleString());
    const item = element("li", {}, open, when);
    item.append(
      button("Rename", () => this.rename(summary, open), `Rename ${summary.title}`),
      button("Delete", () => this.remove(summary), `Delete ${summary.title}`),
    );
    return item;
  }

  rename(summary, open) {
    const field = element("input", { value: summary.title, "aria-label": "Name of the conversation" });
    open.replaceWith(field);
    field.focus();
    field.select();
    const end = async (keep) => {
      field.onblur = null;
      const title = field.value.trim();
      if (keep && title) {
        const changes = { id: summary.id, title, renamed: true };
        if (await (await this.store).save(changes, [], { isKnown: true })) this.actions.renamed(summary.id, title);
      }
      await this.show();
    };
    field.onblur = () => end(true);
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") end(true);
      if (event.key !== "Escape") return;
      event.preventDefault(); // it would close the list
      end(false);
    });
  }

  async remove(summary) {
    if (!confirm(`Delete "${summary.title}"? It cannot be brought back.`)) return;
    await (await this.store).remove(summary.id);
    this.actions.deleted(summary.id);
    await this.show();
  }
}
