// What a host's memory for models holds, as a bar, and what one more model would take of it.

import { element } from "../dom.js";
import { shortName } from "./models.js";
import { memorySize } from "./sizes.js";

// `host` as the feed has it; `placeOf(id)`: which colour is that model's; `wanted`: a model that is
// not loaded there, or null.
export function memoryBar(host, placeOf, wanted = null) {
  const { memory_budget_bytes: budget, memory_used_bytes: used } = host;
  const need = wanted?.memory_bytes ?? 0;
  const parts = partsOf(host, placeOf);
  const held = bytesOf(parts);
  if (used > held) parts.push({ kind: "kept", bytes: used - held, words: "set aside for their caches" });
  const free = budget - Math.max(used, held);
  if (need) parts.push({ kind: need > free ? "need over" : "need", bytes: need, words: `${wanted.id} would take` });
  const whole = Math.max(budget, bytesOf(parts));
  const bar = element("div", { class: "memory-bar", role: "img", "aria-label": inWords(host, parts) });
  bar.append(...parts.map((part) => segment(part, whole)));
  if (whole > budget) bar.append(limit(budget / whole));
  const here = host.state === "connected";
  const figures = here ? `${memorySize(used)} of ${memorySize(budget)}` : "not connected";
  const head = element("figcaption", {}, element("strong", {}, host.id), element("span", { class: "hint" }, figures));
  const verdict = wanted && element("p", { class: "hint" }, whatItTakes(wanted, host, free));
  return element("figure", { class: here ? "memory" : "memory away" }, head, bar, verdict);
}

function partsOf(host, placeOf) {
  return host.models
    .filter((model) => model.memory_bytes > 0)
    .map((model) => ({
      kind: `place-${placeOf(model.id) % 6}${model.status === "loaded" ? "" : " coming"}`,
      bytes: model.memory_bytes,
      words: model.id,
    }));
}

function bytesOf(parts) {
  return parts.reduce((sum, part) => sum + part.bytes, 0);
}

function segment({ kind, bytes, words }, whole) {
  const made = element("span", { class: `part ${kind}`, title: `${words}: ${memorySize(bytes)}` });
  if (kind.startsWith("place")) made.append(element("span", {}, shortName(words)));
  made.style.width = `${(100 * bytes) / whole}%`;
  return made;
}

function limit(share) {
  const made = element("i", { class: "limit", title: "what models may take here" });
  made.style.left = `${100 * share}%`;
  return made;
}

function inWords(host, parts) {
  const held = parts.map(({ words, bytes }) => `${words} ${memorySize(bytes)}`).join(", ");
  return `Memory for models on ${host.id}, ${memorySize(host.memory_budget_bytes)}: ${held || "empty"}`;
}

function whatItTakes(model, host, free) {
  const { memory_bytes: need, id } = model;
  if (!need) return `What ${id} takes is known when it has been loaded once.`;
  const takes = `${id} takes ${memorySize(need)}`;
  if (need <= free) return `${takes}, which is free.`;
  if (need > host.memory_budget_bytes) return `${takes}, more than models may take here together.`;
  const pinned = host.models.filter((one) => one.pinned).reduce((sum, one) => sum + one.memory_bytes, 0);
  if (need > host.memory_budget_bytes - pinned) return `${takes}, and pinned models hold the rest.`;
  return `${takes}; ${memorySize(Math.max(0, free))} are free. What was used least recently makes way for it.`;
}
