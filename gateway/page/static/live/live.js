// The live figures: one event stream, connected again when it breaks, and let go while nobody looks:
// a browser has six connections to a server, and pages that it only remembers would hold them.

import { element, setText } from "../dom.js";
import { memoryBar } from "../models/memory.js";
import { memorySize } from "../models/sizes.js";
import { Plots } from "./plots.js";
import { requestRows } from "./requests.js";
import { call, events } from "../server.js";

const RECONNECT_MS = 2000;

export async function startLive(models) {
  const plots = new Plots();
  for (;;) {
    await seen();
    let why = "The gateway has stopped sending figures.";
    const leave = new AbortController();
    const { signal } = leave;
    addEventListener("pagehide", () => leave.abort(), { signal });
    document.addEventListener("visibilitychange", () => document.hidden && leave.abort(), { signal });
    try {
      for await (const { event, data } of events(await call("v1/status/stream", { signal }))) {
        if (event === "history") plots.restart(data.points);
        else plots.add(data.point);
        models.show(data);
        show(data, event === "sample" ? data.point.rate : (data.points.at(-1)?.rate ?? 0), models);
      }
    } catch (error) {
      if (signal.aborted) continue;
      why = error.message;
    }
    leave.abort();
    setState("away", "not connected");
    document.getElementById("status").classList.add("stale");
    plots.freeze();
    setText("missing", why);
    await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS));
  }
}

function seen() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}

function show(data, rate, models) {
  document.getElementById("status").classList.remove("stale");
  const queue = data.queue_stats;
  setText("figure-active", queue.active_requests);
  setText("slots", slotsOf(data.workers));
  setText("figure-waiting", queue.queue_size);
  setText("figure-rate", rate >= 100 ? Math.round(rate) : rate.toFixed(1));
  setText("figure-total", data.metrics.total_requests);
  showReadiness(data.ready);
  const bars = models.hosts.map((host) => memoryBar(host, (id) => models.placeOf(id)));
  document.getElementById("hosts").replaceChildren(...bars);
  document.getElementById("workers").replaceChildren(...data.workers.map(workerItem));
  document.getElementById("recent").replaceChildren(...data.recent.flatMap(requestRows));
  document.getElementById("no-recent").hidden = data.recent.length > 0;
}

function many(count, what) {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

function showReadiness(ready) {
  if (ready.ready) setState("ready", "ready");
  else if (ready.loaded_fraction !== null) {
    setState("loading", `loading ${Math.round(ready.loaded_fraction * 100)} %`);
  } else setState("away", "no worker");
  setText("missing", ready.ready ? "" : ready.reason);
}

function setState(state, words) {
  document.getElementById("state").dataset.state = state;
  setText("state", words);
}

function slotsOf(workers) {
  const sum = (field) => workers.reduce((all, worker) => all + (worker[field] ?? 0), 0);
  return `of ${sum("slots") + sum("stream_slots")}`;
}

function workerItem(worker) {
  const item = element(
    "li",
    { "data-worker": worker.id },
    element(
      "div",
      { class: "name" },
      element("strong", {}, worker.model),
      element("span", { class: "state", "data-state": worker.state }, worker.state),
    ),
    element("div", { class: "hint" }, workerFacts(worker)),
  );
  if (worker.state === "loading") {
    const label = `Loading ${worker.model}`;
    item.append(element("progress", { max: 1, value: worker.loaded_fraction ?? 0, "aria-label": label }));
  }
  return item;
}

function workerFacts(worker) {
  if (worker.slots === undefined) return `${worker.id} · its slots are kept while it restarts`;
  const facts = [
    worker.id,
    worker.device,
    `${worker.active} running; room for ${many(worker.slots, "whole answer")} and ${many(worker.stream_slots, "stream")}`,
    worker.memory_bytes ? `${memorySize(worker.memory_bytes)} memory` : "",
    `${(worker.tokens_per_second ?? 0).toFixed(1)} tokens/s`,
  ];
  return facts.filter(Boolean).join(" · ");
}

export function size(bytes) {
  const units = ["B", "KB", "MB", "GB"];
  let step = 0;
  while (bytes >= 1000 && step < units.length - 1) {
    bytes /= 1000;
    step += 1;
  }
  return `${bytes >= 100 || step === 0 ? Math.round(bytes) : bytes.toFixed(1)} ${units[step]}`;
}
