// The models that can be asked, as the live feed tells of them, and the one that is asked.

import { inBrowser } from "../kept.js";
import { memorySize } from "./sizes.js";

const STORED = "model";

export class Models {
  constructor() {
    this.all = []; // each once, under its first name
    this.hosts = []; // which load models, and what their memory holds
    this.chosen = null; // the last one, for as long as none is listed
    this.wanted = inBrowser.get(STORED);
    this.listeners = [];
  }

  // Calls `listener` at once and whenever something may have changed.
  follow(listener) {
    this.listeners.push(listener);
    listener();
  }

  // What the feed says now.
  show({ models, hosts = [] }) {
    this.all = models.filter((model) => !model.aliases.includes(model.id));
    this.hosts = hosts.filter(({ memory_budget_bytes: budget }) => budget > 0);
    this.tell();
  }

  choose(id) {
    this.wanted = id;
    inBrowser.set(STORED, id);
    this.tell();
  }

  tell() {
    this.chosen = this.find(this.wanted) ?? this.find(this.chosen?.id) ?? this.first() ?? this.chosen;
    for (const listener of this.listeners) listener();
  }

  // Who has chosen none is given one that answers at once, where there is one.
  first() {
    return this.all.find(isLoaded) ?? this.all[0];
  }

  find(id) {
    return this.all.find((model) => model.id === id);
  }

  // What a request names; nothing, where the server says what is missing.
  get asked() {
    return this.all.length ? this.chosen.id : undefined;
  }

  // Whether there is something to choose, or to load.
  get areMany() {
    return this.all.length > 1 || this.all.some(isListed);
  }

  // A number that stays with a model, for its colour.
  placeOf(id) {
    return this.all.findIndex((model) => model.id === id);
  }
}

// Without whose it is on the hub, where there is little room.
export function shortName(id) {
  return id.split("/").at(-1) || id;
}

export function isLoaded(model) {
  return model.status === "loaded";
}

// Whether some host could load and unload it.
export function isListed(model) {
  return model.hosts.length > 0;
}

export function isOnTheWay(model) {
  return model.status === "loading" || model.status === "downloading";
}

// How it is, in a few words.
export function standing(model) {
  if (isOnTheWay(model)) return `${model.status} ${percent(model.fraction)}${bytesOf(model)}`;
  if (model.status === "unloaded") return "not loaded";
  if (model.draining) return "draining";
  if (isLoaded(model) && isListed(model)) return model.idle_s === null ? "in use" : idle(model.idle_s);
  return model.status;
}

function bytesOf({ status, done_bytes: done, total_bytes: total }) {
  return status === "downloading" && total ? `, ${memorySize(done)} of ${memorySize(total)}` : "";
}

// Whoever begins has nothing to tell yet.
function percent(fraction) {
  return fraction > 0 ? `${Math.round(fraction * 100)} %` : "…";
}

function idle(seconds) {
  if (seconds < 60) return "loaded, idle";
  const minutes = Math.floor(seconds / 60);
  return `loaded, idle ${minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h`}`;
}
