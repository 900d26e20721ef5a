// How to ask, kept in this browser.

import { inBrowser, textsIn } from "../kept.js";
import { changedNumber } from "./text/numbers.js";

const STORED = "settings";
const NUMBERS = { temperature: "temperature", "top-p": "top_p", seed: "seed", "max-tokens": "max_tokens" };
const TEXTS = ["system", "schema"];
const byId = (id) => document.getElementById(id);

export function keepSettings() {
  const kept = textsIn(inBrowser, STORED);
  for (const id of [...Object.keys(NUMBERS), ...TEXTS]) {
    byId(id).value = kept[id] ?? "";
    byId(id).addEventListener("input", () => {
      kept[id] = byId(id).value;
      inBrowser.set(STORED, JSON.stringify(kept));
    });
  }
}

// The fields of a request. Throws an Error in the user's words.
export function settings() {
  const fields = {};
  for (const [id, name] of Object.entries(NUMBERS)) {
    const field = byId(id);
    if (field.validity.badInput) throw new Error(`${labelOf(field)} in the settings is no number.`);
    if (field.value) fields[name] = Number(exact(field.value, labelOf(field)));
  }
  const schema = byId("schema").value.trim();
  if (schema) fields.response_format = { type: "json_schema", json_schema: { name: "answer", schema: read(schema) } };
  return fields;
}

export function systemPrompt() {
  return byId("system").value.trim();
}

function labelOf(field) {
  return field.labels[0].textContent.trim();
}

// Throws where another number would be sent than the one that was typed.
function exact(json, what) {
  const number = changedNumber(json);
  if (number !== undefined) {
    throw new Error(`${what} in the settings: a browser cannot send ${number} exactly; take another number.`);
  }
  return json;
}

function read(schema) {
  let value;
  try {
    value = JSON.parse(schema);
  } catch (error) {
    throw new Error(`The schema in the settings is not JSON: ${error.message}`);
  }
  exact(schema, "The schema");
  return value;
}
