// How to ask, kept in this browser.

const STORED = "settings";
const NUMBERS = { temperature: "temperature", "top-p": "top_p", seed: "seed", "max-tokens": "max_tokens" };
const TEXTS = ["system", "schema"];
const byId = (id) => document.getElementById(id);

export function keepSettings() {
  const kept = JSON.parse(localStorage.getItem(STORED) ?? "{}");
  for (const id of [...Object.keys(NUMBERS), ...TEXTS]) {
    byId(id).value = kept[id] ?? "";
    byId(id).addEventListener("input", () => {
      kept[id] = byId(id).value;
      localStorage.setItem(STORED, JSON.stringify(kept));
    });
  }
}

// The fields of a request. Throws an Error in the user's words.
export function settings() {
  const fields = {};
  for (const [id, name] of Object.entries(NUMBERS)) {
    if (byId(id).value) fields[name] = Number(byId(id).value);
  }
  const schema = byId("schema").value.trim();
  if (schema) fields.response_format = { type: "json_schema", json_schema: { name: "answer", schema: read(schema) } };
  return fields;
}

export function systemPrompt() {
  return byId("system").value.trim();
}

function read(schema) {
  try {
    return JSON.parse(schema);
  } catch (error) {
    throw new Error(`The schema in the settings is not JSON: ${error.message}`);
  }
}
