// The chat: several turns about pictures, streamed, stoppable.

import { element, setText } from "./dom.js";
import { Pictures, receivePictures } from "./pictures.js";
import { call, events, Problem } from "./server.js";
import { asCurl, asPython } from "./snippets.js";

const byId = (id) => document.getElementById(id);

export function startChat() {
  const chat = new Chat();
  return { offerModels: (models) => chat.offerModels(models) };
}

class Chat {
  constructor() {
    this.messages = [];
    this.running = null;
    this.pictures = new Pictures((words) => setText("notice", words));
    receivePictures(byId("chat"), this.pictures);
    this.listen();
  }

  listen() {
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    byId("question").addEventListener("keydown", (event) => {
      // While an input method is composing, Enter chooses a word.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.send();
    });
    byId("files").addEventListener("change", async (event) => {
      await this.pictures.add(event.target.files);
      event.target.value = "";
    });
    byId("stop").addEventListener("click", () => this.running?.abort());
    byId("clear").addEventListener("click", () => this.clear());
    byId("copy-curl").addEventListener("click", () => copy(asCurl(this.body(this.draft()))));
    byId("copy-python").addEventListener("click", () => copy(asPython(this.body(this.draft()))));
  }

  offerModels(models) {
    const select = byId("model");
    const ids = models.map((model) => model.id);
    if ([...select.options].map((option) => option.value).join("\n") === ids.join("\n")) return;
    const before = select.value;
    select.replaceChildren(...ids.map((id) => element("option", { value: id }, id)));
    if (ids.includes(before)) select.value = before;
  }

  clear() {
    this.running?.abort();
    this.messages = [];
    byId("turns").replaceChildren();
    byId("invitation").hidden = false;
    setText("notice", "");
    byId("question").focus();
  }

  // The conversation with what is being written now.
  draft() {
    const text = byId("question").value.trim();
    const written = text || this.pictures.chosen.length;
    return written ? [...this.messages, userMessage(text, this.pictures.chosen)] : this.messages;
  }

  body(messages) {
    const system = byId("system").value.trim();
    const body = {
      messages: system ? [{ role: "system", content: system }, ...messages] : messages,
      stream: true,
      stream_options: { include_usage: true },
    };
    if (byId("model").value) body.model = byId("model").value;
    if (byId("temperature").value) body.temperature = Number(byId("temperature").value);
    if (byId("max-tokens").value) body.max_tokens = Number(byId("max-tokens").value);
    return body;
  }

  async send() {
    const text = byId("question").value.trim();
    if (this.running || (!text && !this.pictures.chosen.length)) return;
    setText("notice", "");
    const pictures = this.pictures.take();
    const asked = userMessage(text, pictures);
    const messages = [...this.messages, asked];
    byId("question").value = "";
    byId("invitation").hidden = true;
    const shown = [askedTurn(text, pictures), new AnswerTurn()];
    byId("turns").append(shown[0], shown[1].item);
    const answer = shown[1];
    const stop = new AbortController();
    this.setRunning(stop);
    await this.answer(messages, answer, stop);
    if (this.running !== stop) return; // a new chat was begun meanwhile
    this.setRunning(null);
    if (answer.text) this.messages = [...messages, { role: "assistant", content: answer.text }];
    else this.giveBack(shown, text, pictures, answer.problem);
    byId("question").focus();
  }

  async answer(messages, answer, stop) {
    try {
      const reply = await call("v1/chat/completions", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(this.body(messages)),
        signal: stop.signal,
      });
      let whole = false;
      for await (const { data } of events(reply)) {
        if (data === "[DONE]") whole = true;
        else answer.take(data);
      }
      if (!whole) throw new Problem("The connection broke before the answer was complete.");
      answer.finish();
    } catch (error) {
      if (error.name === "AbortError") answer.stopped();
      else answer.fail(error.message);
    }
  }

  // Nothing came: the question goes back to where it was written, so that nothing is lost.
  giveBack(shown, text, pictures, problem) {
    shown[0].remove();
    shown[1].item.remove();
    byId("question").value ||= text;
    if (!this.pictures.chosen.length) this.pictures.put(pictures);
    byId("invitation").hidden = byId("turns").children.length > 0;
    setText("notice", problem || "Stopped.");
  }

  setRunning(stop) {
    this.running = stop;
    byId("stop").hidden = stop === null;
    byId("send").hidden = stop !== null;
    // Screen readers wait with reading until the answer is whole.
    byId("turns").setAttribute("aria-busy", String(stop !== null));
  }
}

class AnswerTurn {
  constructor() {
    this.text = "";
    this.problem = "";
    this.usage = null;
    this.startedAt = performance.now();
    this.firstAt = null;
    this.thought = element("div", { class: "thought" });
    this.body = element("div", { class: "text" });
    this.note = element("div", { class: "hint" });
    const speaker = element("span", { class: "hidden" }, "Answer: ");
    this.item = element("li", { class: "turn assistant" }, speaker, this.thought, this.body, this.note);
  }

  take(chunk) {
    if (chunk.error) throw new Problem(chunk.error.message);
    if (chunk.usage) this.usage = chunk.usage;
    const delta = chunk.choices[0]?.delta ?? {};
    if (delta.reasoning_content) this.thought.append(delta.reasoning_content);
    if (!delta.content) return;
    this.firstAt ??= performance.now();
    this.text += delta.content;
    this.body.append(delta.content);
    this.item.scrollIntoView({ block: "nearest" });
  }

  finish() {
    const seconds = (performance.now() - this.startedAt) / 1000;
    const first = ((this.firstAt ?? performance.now()) - this.startedAt) / 1000;
    const tokens = this.usage ? `${this.usage.completion_tokens} tokens · ` : "";
    this.note.textContent = `${tokens}first after ${first.toFixed(2)} s · ${seconds.toFixed(2)} s in all`;
    if (!this.text) this.problem = "The model gave an empty answer.";
  }

  stopped() {
    this.note.textContent = "stopped";
  }

  fail(words) {
    this.problem = words;
    this.note.textContent = words;
    this.note.classList.add("problem");
  }
}

function userMessage(text, pictures) {
  if (!pictures.length) return { role: "user", content: text };
  const parts = pictures.map(({ url }) => ({ type: "image_url", image_url: { url } }));
  if (text) parts.push({ type: "text", text });
  return { role: "user", content: parts };
}

function askedTurn(text, pictures) {
  const images = pictures.map(({ url, name }) => element("img", { src: url, alt: name }));
  const speaker = element("span", { class: "hidden" }, "You: ");
  return element("li", { class: "turn user" }, speaker, ...images, element("div", { class: "text" }, text));
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    setText("copied", "Copied.");
  } catch {
    // Browsers give the clipboard only to pages on https or localhost.
    setText("copied", "The browser does not allow copying on this address; open the page by localhost.");
  }
}
