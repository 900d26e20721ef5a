// One answer from the server: waited for while the server is busy, then streamed.

import { call, events, Problem } from "../server.js";

const BUSY = [429, 503];

// Streams the answer to `body` into `sink`, which has text(piece), thought(piece), call(delta),
// usage(figures) and waiting(seconds, problem). Throws Problem, or AbortError when `signal` stops it.
export async function streamAnswer(body, sink, signal) {
  const reply = await untilTaken(body, sink, signal);
  let whole = false;
  for await (const { data } of events(reply)) {
    if (data === "[DONE]") {
      whole = true;
      continue;
    }
    if (data.error) throw new Problem(data.error.message);
    if (data.usage) sink.usage(data.usage);
    const delta = data.choices[0]?.delta ?? {};
    if (delta.reasoning_content) sink.thought(delta.reasoning_content);
    if (delta.content) sink.text(delta.content);
    for (const part of delta.tool_calls ?? []) sink.call(part);
  }
  if (!whole) throw new Problem("The connection broke before the answer was complete.");
}

// A server that is busy says when to come back.
async function untilTaken(body, sink, signal) {
  for (;;) {
    try {
      return await call("v1/chat/completions", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
        signal,
      });
    } catch (problem) {
      if (!BUSY.includes(problem.status) || !problem.retryAfterS) throw problem;
      for (let left = problem.retryAfterS; left > 0; left -= 1) {
        sink.waiting(left, problem);
        await pause(1000, signal);
      }
      sink.waiting(0, problem);
    }
  }
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
  });
}
