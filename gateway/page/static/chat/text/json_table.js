// An answer that is JSON, as a table.

import { element } from "../../dom.js";
import { parseAsWritten } from "./numbers.js";

const DEEPEST = 8; // tables in tables; a thousand of them end the tab

// A table for an object or a list of them; null for any other text.
export function jsonTable(text) {
  const value = parsed(text);
  if (value === null || typeof value !== "object" || !fits(value, DEEPEST)) return null;
  const box = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Answer as a table" });
  box.append(tableOf(value));
  return box;
}

function parsed(text) {
  try {
    return parseAsWritten(text);
  } catch {
    return null;
  }
}

function fits(value, levels) {
  if (value === null || typeof value !== "object") return true;
  return levels > 0 && Object.values(value).every((one) => fits(one, levels - 1));
}

function tableOf(value) {
  const body = element("tbody");
  const table = element("table", {}, body);
  if (Array.isArray(value) && value.length && value.every(isObject)) {
    const names = [...new Set(value.flatMap(Object.keys))];
    table.prepend(element("thead", {}, element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name)))));
    body.append(...value.map((row) => element("tr", {}, ...names.map((name) => cell(Object.hasOwn(row, name) ? row[name] : undefined)))));
    return table;
  }
  const rows = Array.isArray(value) ? value.map((one, at) => [String(at + 1), one]) : Object.entries(value);
  body.append(...rows.map(([name, one]) => element("tr", {}, element("th", { scope: "row" }, name), cell(one))));
  return table;
}

function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

function cell(value) {
  if (value === undefined) return element("td");
  if (value !== null && typeof value === "object") return element("td", {}, tableOf(value));
  return element("td", {}, String(value));
}
