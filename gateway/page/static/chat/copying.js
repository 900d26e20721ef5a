// Copying: browsers give the clipboard to pages on https or localhost alone, and let others copy what
// is selected.

import { element, setText } from "../dom.js";

const SHOWN_MS = 1500;

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    if (copySelected(text)) return true;
    setText("notice", "The browser does not allow copying on this address; open the page by localhost.");
    return false;
  }
}

function copySelected(text) {
  const before = document.activeElement;
  const field = element("textarea", { class: "hidden", "aria-hidden": "true" });
  field.value = text;
  // What lies outside an open dialog cannot be selected.
  (before.closest("dialog, .panel") ?? document.body).append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  before.focus();
  return copied;
}

export function copyButton(text) {
  const button = element("button", { type: "button", class: "small" }, "Copy");
  button.addEventListener("click", async () => {
    if (!(await copy(text()))) return;
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), SHOWN_MS);
  });
  return button;
}
