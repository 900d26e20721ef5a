// The answers on their way, at most one in a conversation. They go on while another one is shown.

import { setText } from "../dom.js";
import { isLoaded } from "../models/models.js";

export class Runs {
  constructor(models) {
    this.models = models;
    this.all = new Map(); // by the conversation's id
    models.follow(() => {
      for (const run of this.all.values()) this.tellOfModel(run);
    });
  }

  // {conversation, answer, model, stop}; null where nothing is on its way.
  of({ id }) {
    return this.all.get(id) ?? null;
  }

  begin(conversation, answer, model) {
    const run = { conversation, answer, model, stop: new AbortController() };
    this.all.set(conversation.id, run);
    this.tellOfModel(run, { asked: true });
    return run;
  }

  // Resolves with null when something came, else with why nothing did.
  async stream(run, body) {
    const problem = await run.answer.stream(body, run.stop.signal);
    this.all.delete(run.conversation.id);
    return problem;
  }

  // While its answer is awaited. Screen readers are told once, not of every step of the way.
  tellOfModel({ answer, model: id }, { asked = false } = {}) {
    const model = this.models.find(id);
    if (!model) return;
    answer.modelIs(model);
    if (asked && !isLoaded(model)) setText("models-news", `${model.id} is loaded first.`);
  }
}
