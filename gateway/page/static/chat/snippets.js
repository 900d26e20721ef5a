// The present conversation as a command or a program that somebody can run.

import { apiKey } from "../key.js";

function address(path) {
  return new URL(path, document.baseURI).href;
}

export function asCurl(body) {
  const key = apiKey.isSet ? ` \\\n  -H "Authorization: Bearer $OPENAI_API_KEY"` : "";
  // From standard input: a picture is longer than a command line may be.
  return (
    `curl -N ${address("v1/chat/completions")} -H 'Content-Type: application/json'${key} \\\n` +
    `  -d @- <<'BODY'\n${JSON.stringify(body)}\nBODY\n`
  );
}

export function asPython(body) {
  const key = apiKey.isSet ? `os.environ["OPENAI_API_KEY"]` : `"none"`;
  const { messages, stream_options: _, ...options } = body;
  const fields = Object.entries(options).map(([name, value]) => `    ${name}=${literal(value)},\n`);
  return (
    `${apiKey.isSet ? "import os\n" : ""}import json\n\nfrom openai import OpenAI\n\n` +
    `client = OpenAI(base_url=${literal(address("v1"))}, api_key=${key})\n` +
    `messages = ${literal(messages)}\n` +
    `stream = client.chat.completions.create(\n    messages=messages,\n${fields.join("")})\n` +
    `for chunk in stream:\n    if chunk.choices:\n` +
    `        print(chunk.choices[0].delta.content or "", end="", flush=True)\nprint()\n`
  );
}

function literal(value) {
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "object") return `json.loads(${literal(JSON.stringify(value))})`;
  return JSON.stringify(value); // JSON's strings and numbers are Python's too
}
