// Turns as they stand on the page.

import { button, element } from "../dom.js";
import { copyButton } from "./copying.js";
import { editBox } from "./edits.js";
import { jsonTable } from "./text/json_table.js";
import { GrowingMarkdown, showMarkdown } from "./text/markdown.js";

// What the user asked. `actions`: {edit, changed, ask, close, branch}, each of this turn; `place`: {at, of}
// among its branches; `edited`: the words that it is being changed to, if it is.
export function askedTurn(turn, place, actions, edited) {
  const isEdited = edited !== undefined;
  const text = isEdited
    ? editBox(turn, edited, {
        changed: (words) => actions.changed(turn, words),
        ask: (words) => actions.ask(turn, words),
        close: () => actions.close(turn),
      })
    : element("div", { class: "text" }, turn.text);
  const edit = isEdited ? null : button("Edit", () => actions.edit(turn));
  const tools = element("div", { class: "tools" }, ...branchButtons(turn, place, actions), edit);
  tools.append(copyButton(() => turn.text));
  return element(
    "article",
    { class: "turn user", "data-turn": turn.id },
    element("span", { class: "hidden" }, "You: "),
    ...(turn.pictures ?? []).map(pictureButton),
    text,
    tools,
  );
}

// An answer, growing or whole. `actions`: {again, branch}.
export class AnswerView {
  constructor(turn, place, actions, onShown = () => {}) {
    this.turn = turn;
    this.place = place;
    this.actions = actions;
    this.thought = element("div", { class: "text" });
    this.thinking = element("details", { class: "thought", hidden: "" }, element("summary", {}, "Thinking …"), this.thought);
    this.body = element("div", { class: "text markdown" });
    this.calls = element("div");
    this.note = element("div", { class: "hint note" });
    this.tools = element("div", { class: "tools" });
    this.item = element(
      "article",
      { class: "turn assistant", "data-turn": turn.id },
      element("span", { class: "hidden" }, "Answer: "),
      this.thinking,
      this.body,
      this.calls,
      this.note,
      this.tools,
    );
    this.growing = new GrowingMarkdown(this.body, onShown);
  }

  addThought(text) {
    this.thinking.hidden = false;
    this.thought.append(text);
  }

  addText(text) {
    this.growing.add(text);
  }

  // A line below the answer: what it waits for and how far that is, how long it took, what went wrong.
  say(words, { problem = false, fraction = null } = {}) {
    // Whose value is missing only says that something goes on.
    const value = fraction || null;
    const done = fraction === null ? null : element("progress", { max: 1, value, "aria-label": words });
    this.note.replaceChildren(...[words, done].filter(Boolean));
    this.note.classList.toggle("problem", problem);
  }

  get isGrowing() {
    return this.item.classList.contains("growing");
  }

  // The whole of it, from what is kept.
  show() {
    const { text, thought, calls, note, problem } = this.turn;
    clearTimeout(this.growing.timer);
    const table = jsonTable(text);
    showMarkdown(this.body, table ? `\`\`\`json\n${text}\n\`\`\`` : text);
    if (table) this.body.prepend(table);
    this.thinking.hidden = !thought;
    this.thinking.firstChild.textContent = "Thoughts";
    this.thought.textContent = thought ?? "";
    this.calls.replaceChildren(...(calls ?? []).map(callItem));
    this.say(note ?? "", { problem });
    this.item.classList.remove("growing");
    this.tools.replaceChildren(
      ...branchButtons(this.turn, this.place, this.actions),
      copyButton(() => text || thought),
      button("Ask again", () => this.actions.again(this.turn)),
    );
  }
}

function branchButtons(turn, { at, of }, { branch }) {
  if (of < 2) return [];
  const before = button("‹", () => branch(turn, -1), "The version before");
  const after = button("›", () => branch(turn, 1), "The next version");
  before.disabled = at === 0;
  after.disabled = at === of - 1;
  return [before, element("span", { class: "place" }, `${at + 1}/${of}`), after];
}

function callItem({ name, arguments: given }) {
  return element("pre", { class: "call", tabindex: "0" }, `${name}(${given})`);
}

function pictureButton({ url, name }) {
  // What a browser cannot draw (a PDF, in most a HEIC picture) is shown by its name.
  const drawn = element("img", { src: url, alt: name });
  const made = element("button", { type: "button", class: "picture", "aria-label": `Enlarge ${name}` }, drawn);
  drawn.addEventListener("error", () => made.replaceWith(element("span", { class: "file" }, name)));
  made.addEventListener("click", () => {
    const dialog = document.getElementById("picture-dialog");
    dialog.querySelector("img").src = url;
    dialog.querySelector("img").alt = name;
    dialog.showModal();
  });
  if (url.startsWith("data:application/pdf")) return element("span", { class: "file" }, name);
  return made;
}
