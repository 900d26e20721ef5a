// Calls to the gateway: with the key, with errors in plain words, with streams as events.

import { apiKey } from "./key.js";

// What went wrong, in words for the user; `reason` is without the advice when to try again.
export class Problem extends Error {
  // `param`: which field of the request is wrong, as the API names it.
  constructor(reason, { status = 0, code = "", param = "", retryAfterS = 0 } = {}) {
    super(retryAfterS ? `${reason} Try again in about ${retryAfterS} s.` : reason);
    this.reason = reason;
    this.status = status;
    this.code = code;
    this.param = param ?? "";
    this.retryAfterS = retryAfterS;
  }
}

// fetch that asks for the key when one is wanted. Throws Problem with words for the user, AbortError
// when `options.signal` or the user does not want to go on.
export async function call(path, options = {}, key = apiKey) {
  for (;;) {
    let answer;
    try {
      answer = await fetch(path, { ...options, headers: { ...options.headers, ...key.headers() } });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem("The server cannot be reached. Is it still running?");
    }
    if (answer.ok) return answer;
    const wrong = await problem(answer);
    if (!key.isWanted(wrong)) throw wrong;
    await key.ask();
  }
}

async function problem(answer) {
  const { status } = answer;
  let error = { message: `The server answered with status ${status}.` };
  try {
    error = (await answer.json()).error ?? error;
  } catch {
    // It is no answer of ours: something between here and the gateway speaks.
  }
  const retryAfterS = Number(answer.headers.get("Retry-After") ?? 0);
  return new Problem(error.message, { status, code: error.code, param: error.param, retryAfterS });
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
