// Vercel's AI SDK with its provider for servers like this one. As trials.py has it for Python:
// node use_ai_sdk.mjs BASE_URL MODEL PICTURE prints one JSON object, an entry for each trial.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, stepCountIs, streamText, tool as declare } from "ai";
import { readFileSync } from "node:fs";
import { z } from "zod";

const [baseURL, name, picturePath] = process.argv.slice(2);
const provider = createOpenAICompatible({
  name: "here",
  baseURL,
  apiKey: "any",
  supportsStructuredOutputs: true,
});
const model = provider(name);
const CAPITAL = "What is the capital of France?";
const COUNT = "How many shapes are there?";
const common = { model, maxOutputTokens: 120, maxRetries: 0 };

async function text() {
  return (await generateText({ ...common, prompt: CAPITAL })).text;
}

async function picture() {
  const content = [
    { type: "text", text: COUNT },
    { type: "file", mediaType: "image/png", data: readFileSync(picturePath) },
  ];
  return (await generateText({ ...common, messages: [{ role: "user", content }] })).text;
}

async function stream() {
  let streamed = "";
  for await (const piece of streamText({ ...common, prompt: CAPITAL }).textStream) streamed += piece;
  return streamed;
}

async function structured() {
  const schema = z.object({ kind: z.enum(["circle", "square"]), color: z.enum(["red", "blue"]) });
  const output = Output.object({ schema });
  return (await generateText({ ...common, prompt: CAPITAL, output })).output;
}

async function tool() {
  const called = [];
  const get_capital = declare({
    description: "Look up the capital of a country.",
    inputSchema: z.object({ country: z.enum(["France", "Japan"]) }),
    execute: async ({ country }) => {
      called.push(country);
      return "Paris";
    },
  });
  const { text: answer } = await generateText({
    ...common,
    prompt: CAPITAL,
    tools: { get_capital },
    providerOptions: { here: { parallel_tool_calls: false } },
    stopWhen: stepCountIs(2),
    prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber ? "none" : "required" }),
  });
  return { called, answer };
}

async function error() {
  return (await generateText({ ...common, prompt: CAPITAL, temperature: 9 })).text;
}

const told = {};
for (const trial of [text, picture, stream, structured, tool, error]) {
  told[trial.name] = await trial().catch((thrown) => ({
    raised: thrown.name,
    message: `${thrown.message} ${thrown.responseBody ?? ""}`,
  }));
}
console.log(JSON.stringify(told));
