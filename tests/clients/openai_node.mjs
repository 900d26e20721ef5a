// Asks the server at argv[2] through `openai` for Node; prints what came back as one JSON object.
// argv[3] is the model, argv[4] a picture as a data URL, argv[5] the folder of the installed package.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [baseURL, model, picture, installed] = process.argv.slice(2);
const entry = createRequire(`${installed}/package.json`).resolve("openai");
const { default: OpenAI, BadRequestError } = await import(pathToFileURL(entry));

const api = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
const ask = (content, more = {}) =>
  api.chat.completions.create({ model, messages: [{ role: "user", content }], ...more });

const whole = await ask("What is the capital of France?");
const seen = await ask([
  { type: "image_url", image_url: { url: picture } },
  { type: "text", text: "How many shapes are there?" },
]);

const stream = await ask("What is the capital of France?", { stream: true });
let streamed = "";
for await (const chunk of stream) streamed += chunk.choices[0]?.delta?.content ?? "";

const response = await api.responses.create({ model, input: "What is the capital of France?" });
const refused = await ask("Hi", { temperature: 9 }).catch((error) => error);

console.log(
  JSON.stringify({
    whole: whole.choices[0].message.content,
    seen: seen.choices[0].message.content,
    streamed,
    response: response.output_text,
    refused: refused instanceof BadRequestError ? refused.param : String(refused),
    models: (await api.models.list()).data.map((entry) => entry.id),
  }),
);
