// Calls to the gateway: with the key, with errors in plain words, with streams as events.

import { askForKey, headers } from "./key.js";

// What went wrong, in words for the user; `reason` is without the advice when to try again.
export class Problem extends Error {
  constructor(reason, status = 0, retryAfterS = 0) {
    super(retryAfterS ? `${reason} Try again in about ${retryAfterS} s.` : reason);
    this.reason = reason;
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

// fetch that asks for the key when one is wanted. Throws Problem with words for the user.
export async function call(path, options = {}) {
  for (;;) {
    let answer;
    try {
      answer = await fetch(path, { ...options, headers: { ...options.headers, ...headers() } });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem("The server cannot be reached. Is it still running?");
    }
    if (answer.ok) return answer;
    if (answer.status !== 401) throw await problem(answer);
    await askForKey();
  }
}

async function problem(answer) {
  let reason = "";
  try {
    reason = (await answer.json()).error.message;
  } catch {
    reason = `The server answered with status ${answer.status}.`;
  }
  return new Problem(reason, answer.status, Number(answer.headers.get("Retry-After") ?? 0));
}

// Yields {event, data} of a server-sent event stream; data is the parsed JSON, or "[DONE]".
export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value;
    const blocks = buffer.split("\n\n");
    buffer = blocks.pop();
    for (const block of blocks) {
      const parsed = parseBlock(block);
      if (parsed) yield parsed;
    }
  }
}

function parseBlock(block) {
  let event = "message";
  let data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) event = line.slice(7);
    if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (!data) return null; // a comment that keeps the connection alive
  return { event, data: data === "[DONE]" ? data : JSON.parse(data) };
}
