// What a model writes, as Markdown. Nothing in it becomes markup of its own: raw HTML is off, what
// is made is sanitised, and pictures from elsewhere stay links (one would tell their host who reads).

import { element } from "../../dom.js";
import { copyButton } from "../copying.js";
import { maths } from "./maths.js";

const LONGEST_COLOURED = 50_000;
const SANITISED = {
  USE_PROFILES: { html: true },
  FORBID_TAGS: ["style", "form", "input", "button", "textarea", "select", "img"],
  FORBID_ATTR: ["style", "id", "name"],
  RETURN_DOM_FRAGMENT: true,
};

const TEX = { output: "mathml", strict: "ignore", maxExpand: 500, maxSize: 20 };

const markdown = window.markdownit({ html: false, linkify: true, breaks: true }).use(maths, asPlaceholder);
markdown.renderer.rules.image = (tokens, at) => {
  const { content, attrs } = tokens[at];
  const [, address] = attrs.find(([name]) => name === "src");
  const escape = markdown.utils.escapeHtml;
  return `<a href="${escape(address)}">${escape(content || address)}</a>`;
};

export function showMarkdown(target, text) {
  const made = window.DOMPurify.sanitize(markdown.render(text), SANITISED);
  made.querySelectorAll("code[data-display]").forEach(showMaths);
  made.querySelectorAll("pre > code").forEach(showCode);
  for (const table of made.querySelectorAll("table")) {
    const box = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table" });
    table.replaceWith(box);
    box.append(table);
  }
  for (const link of made.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer";
  }
  target.replaceChildren(made);
}

// Markdown that grows. Rendering takes at most a fifth of the time, however long the text is.
export class GrowingMarkdown {
  constructor(target, onShown) {
    this.target = target;
    this.onShown = onShown;
    this.text = "";
    this.timer = null;
    this.tookMs = 0;
  }

  add(text) {
    this.text += text;
    this.timer ??= setTimeout(() => this.show(), Math.max(30, 4 * this.tookMs));
  }

  show() {
    clearTimeout(this.timer);
    this.timer = null;
    const startedAt = performance.now();
    showMarkdown(this.target, this.text);
    this.tookMs = performance.now() - startedAt;
    this.onShown();
  }
}

// Maths is set after sanitising, which knows no MathML.
function asPlaceholder(tex, display) {
  return `<code data-display="${display}">${markdown.utils.escapeHtml(tex)}</code>`;
}

function showMaths(code) {
  const display = code.dataset.display === "true";
  const box = element("span", { class: display ? "maths display" : "maths" });
  try {
    window.katex.render(code.textContent, box, { ...TEX, displayMode: display });
    code.replaceWith(box);
  } catch {
    delete code.dataset.display; // what cannot be read as maths stays as it was written
  }
}

function showCode(code) {
  const language = /language-([\w+#-]+)/.exec(code.className)?.[1] ?? "";
  const source = code.textContent;
  if (window.hljs.getLanguage(language) && source.length <= LONGEST_COLOURED) window.hljs.highlightElement(code);
  const head = element("div", { class: "code-head" }, element("span", {}, language), copyButton(() => source));
  const box = element("div", { class: "code" }, head);
  code.parentElement.replaceWith(box);
  box.append(element("pre", { tabindex: "0" }, code));
}
