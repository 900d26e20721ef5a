// The API's description where the server wants a key: a link cannot show one, so the page fetches it.

import { element, setText } from "./dom.js";
import { apiKey } from "./key.js";
import { call } from "./server.js";

export function startDocs() {
  document.querySelector("nav a[href=docs]").addEventListener("click", async (event) => {
    if (!apiKey.isSet) return;
    event.preventDefault();
    try {
      show(await (await call("docs")).text());
    } catch (error) {
      setText("notice", error.message);
    }
  });
}

function show(html) {
  const { body } = new DOMParser().parseFromString(html, "text/html");
  for (const link of body.querySelectorAll("a")) link.replaceWith(element("code", {}, link.textContent));
  const dialog = document.getElementById("docs-dialog");
  dialog.querySelector(".markdown")?.remove();
  dialog.append(element("div", { class: "markdown" }, ...body.children));
  dialog.showModal();
}
