// The requests that have ended: what became of each, and where its time went.

import { element } from "../dom.js";

const OUTCOMES = { finished: "finished", failed: "failed", cancelled: "stopped", timed_out: "timed out" };

// Two rows: figures, and under them a bar of the request's phases.
export function requestRows(request) {
  const outcome = OUTCOMES[request.outcome] ?? request.outcome;
  const words = request.error_code ? `${outcome}: ${request.error_code}` : outcome;
  const title = `request ${request.request_id}`;
  const figures = element(
    "tr",
    { title },
    element("td", {}, new Date(request.ended * 1000).toLocaleTimeString()),
    element("td", { class: "spare" }, request.kind.replace("_", ", ")),
    element("td", { "data-state": request.outcome }, words),
    element("td", { class: "number", title: drafts(request) }, String(request.completion_tokens)),
    element("td", { class: "number spare" }, seconds(request.first_token_s)),
    element("td", { class: "number" }, seconds(request.total_s)),
    element("td", { class: "number spare" }, rate(request)),
  );
  const bar = element("td", { colspan: 7 }, phaseBar(request));
  return [figures, element("tr", { class: "where" }, bar)];
}

// What the gateway saw of it, one after the other; a phase that it did not come to has no time.
function phases(request) {
  const { queue_s: queue, decode_s: decode, total_s: total } = request;
  const fetch = request.fetch_s ?? total - queue;
  return [
    ["queue", queue],
    ["fetch", fetch],
    ["prefill", Math.max(0, total - queue - fetch - decode)],
    ["decode", decode],
  ];
}

function phaseBar(request) {
  const shown = phases(request).filter(([, time]) => time > 0);
  const words = shown.map(([name, time]) => `${name} ${seconds(time)}`).join(", ");
  const parts = shown.map(([name, time]) => {
    const part = element("i", { class: `phase ${name}` });
    part.style.flexGrow = time / request.total_s;
    return part;
  });
  return element("div", { class: "phases", role: "img", "aria-label": words, title: words }, ...parts);
}

// How many of its tokens were computed together, before they were known.
function drafts({ drafted_tokens: drafted, accepted_draft_tokens: accepted }) {
  return `drafted: ${drafted}, accepted: ${accepted}, rejected: ${drafted - accepted}`;
}

// Over all the time since the request had its slot: a short answer that arrives in one piece would
// seem endlessly fast from its first token on.
function rate(request) {
  const held = request.total_s - request.queue_s;
  return held > 0 ? (request.completion_tokens / held).toFixed(1) : "–";
}

function seconds(value) {
  if (value === null) return "–";
  return value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`;
}
