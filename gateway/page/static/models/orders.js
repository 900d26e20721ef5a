// Orders to load and to unload: the server says who may give them.

import { adminKey } from "../key.js";
import { call, Problem } from "../server.js";

const MOST_WAITING = 2; // a browser has six connections to a server, and others want some, too
let waiting = 0;

// Resolves with the API's entry of the model when the order is carried out, or where too many wait
// already, taken. Throws Problem with words for the user, AbortError when `signal` or the user does not
// want to go on.
export async function order(action, model, signal) {
  const wait = waiting < MOST_WAITING;
  waiting += Number(wait);
  try {
    const body = JSON.stringify({ model, wait });
    const headers = { "Content-Type": "application/json" };
    const options = { method: "POST", headers, body, signal };
    return await (await call(`v1/models/${action}`, options, adminKey)).json();
  } catch (error) {
    if (error.status !== 403 || error.code === "admin_key_required") throw error;
    throw new Problem(
      `This server lets nobody ${action} models from here: only from its own machine, or with an admin key.` +
        (action === "load" ? ` Asking ${model} something loads it, too.` : ""),
    );
  } finally {
    waiting -= Number(wait);
  }
}
