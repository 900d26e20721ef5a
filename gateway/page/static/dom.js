// Elements from plain values. Text only ever becomes text: what a model writes is never markup.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

export function setText(id, text) {
  const target = document.getElementById(id);
  // Untouched when nothing changed: screen readers read live regions again on every change.
  if (target.textContent !== String(text)) target.textContent = text;
}

// `label`: what a screen reader says instead of the words.
export function button(words, onClick, label = null) {
  const made = element("button", { type: "button", class: "small", "aria-label": label }, words);
  made.addEventListener("click", onClick);
  return made;
}
