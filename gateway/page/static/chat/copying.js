// Copying to the clipboard, which browsers give only to pages on https or localhost.

import { element, setText } from "../dom.js";

const SHOWN_MS = 1500;

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    setText("notice", "The browser does not allow copying on this address; open the page by localhost.");
    return false;
  }
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
