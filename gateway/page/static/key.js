// The API key: asked for when the server wants one, kept for this tab only.

const STORED = "api-key";
const dialog = document.getElementById("key-dialog");
let waiting = [];

export function headers() {
  const key = sessionStorage.getItem(STORED);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

export function keyIsSet() {
  return sessionStorage.getItem(STORED) !== null;
}

// Resolves when the user has given a key.
export function askForKey() {
  document.getElementById("key-problem").textContent = keyIsSet()
    ? "The server did not accept that key. Please check it and try again."
    : "";
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => waiting.push(resolve));
}

export function startKeyDialog() {
  const field = document.getElementById("key");
  // Without a key nothing on the page works, so Escape does not lead anywhere.
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  dialog.addEventListener("close", () => {
    if (!field.value.trim()) return dialog.showModal();
    sessionStorage.setItem(STORED, field.value.trim());
    field.value = "";
    const resolved = waiting;
    waiting = [];
    for (const resolve of resolved) resolve();
  });
}
