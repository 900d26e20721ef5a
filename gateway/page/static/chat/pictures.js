// The pictures chosen for the next question. They are sent as they are, never made smaller.

import { element } from "../dom.js";
import { size } from "../live/live.js";

export class Pictures {
  constructor(onProblem) {
    this.chosen = [];
    this.list = document.getElementById("pictures");
    this.onProblem = onProblem;
  }

  async add(files) {
    for (const file of files) {
      const type = typeOf(file);
      if (type === null) {
        this.onProblem(`${file.name} is neither a picture nor a PDF.`);
        continue;
      }
      const url = await dataUrl(new File([file], file.name, { type }));
      this.chosen.push({ name: file.name, bytes: file.size, url });
    }
    this.show();
  }

  take() {
    const taken = this.chosen;
    this.put([]);
    return taken;
  }

  put(pictures) {
    this.chosen = pictures;
    this.show();
  }

  show() {
    this.list.replaceChildren(...this.chosen.map((picture) => this.item(picture)));
  }

  item(picture) {
    const remove = element("button", { type: "button", "aria-label": `Remove ${picture.name}` }, "×");
    remove.addEventListener("click", () => this.put(this.chosen.filter((one) => one !== picture)));
    const drawn = element("img", { src: picture.url, alt: "" });
    drawn.addEventListener("error", () => drawn.remove()); // this browser cannot draw it
    return element(
      "li",
      {},
      drawn,
      element("span", {}, `${picture.name}, ${size(picture.bytes)}`),
      remove,
    );
  }
}

// Browsers that cannot draw a kind do not know its name either.
const BY_ENDING = { heic: "image/heic", heif: "image/heif", avif: "image/avif", pdf: "application/pdf" };

function typeOf(file) {
  if (file.type.startsWith("image/") || file.type === "application/pdf") return file.type;
  return BY_ENDING[file.name.split(".").at(-1).toLowerCase()] ?? null;
}

// Pictures dropped on `target` or pasted anywhere on the page.
export function receivePictures(target, pictures) {
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    target.classList.add("dropping");
  });
  document.addEventListener("dragleave", () => target.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    target.classList.remove("dropping");
    pictures.add(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) {
      event.preventDefault();
      pictures.add(event.clipboardData.files);
    }
  });
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
