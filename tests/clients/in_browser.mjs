// The SDKs in a page: `ask(server, model, picture)` returns what they got, or how they failed.
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const CAPITAL = "What is the capital of France?";
const COUNT = "How many shapes are there?";

async function throughOpenAI(server, model, picture) {
  const api = new OpenAI({
    baseURL: `${server}/v1`,
    apiKey: "any",
    maxRetries: 0,
    dangerouslyAllowBrowser: true,
    defaultHeaders: { "X-Of-An-App": "1" },
  });
  const ask = (content, more = {}) =>
    api.chat.completions.create({ model, messages: [{ role: "user", content }], ...more });
  const seen = await ask([
    { type: "image_url", image_url: { url: picture } },
    { type: "text", text: COUNT },
  ]);
  let streamed = "";
  for await (const chunk of await ask(CAPITAL, { stream: true }))
    streamed += chunk.choices[0]?.delta?.content ?? "";
  const refused = await ask("Hi", { temperature: 9 }).catch((error) => error);
  return {
    seen: seen.choices[0].message.content,
    streamed,
    refused: refused.param ?? String(refused),
    named: Boolean(refused.requestID),
  };
}

async function throughAnthropic(server, model, picture) {
  const api = new Anthropic({
    baseURL: server,
    apiKey: "any",
    maxRetries: 0,
    dangerouslyAllowBrowser: true,
  });
  const asking = (content) => ({ model, max_tokens: 50, messages: [{ role: "user", content }] });
  const source = { type: "base64", media_type: "image/png", data: picture.split(",")[1] };
  const seen = await api.messages.create(
    asking([
      { type: "image", source },
      { type: "text", text: COUNT },
    ]),
  );
  const streamed = await api.messages.stream(asking(CAPITAL)).finalText();
  return { seen: seen.content[0].text, streamed };
}

window.ask = async (server, model, picture) => ({
  openai: await throughOpenAI(server, model, picture).catch(String),
  anthropic: await throughAnthropic(server, model, picture).catch(String),
});
