// @ts-check
/** Turns an error into what happened and what to do now, for a person. Pure. */

import { GatewayError } from "./gateway-error.mjs";
import { rangesText } from "./swarm.mjs";

/**
 * @typedef {import("./types.mjs").BlockRange} BlockRange
 * @typedef {import("./types.mjs").Failure} Failure
 * @typedef {import("./types.mjs").NextAction} NextAction
 */

/** @type {Record<string, [title: string, hint: string, action?: NextAction]>} */
const SENTENCES = {
  unreachable: [
    "The gateway cannot be reached.",
    "Check that it is running and that you are online, then try again.",
  ],
  connection_lost: [
    "The connection broke before the answer was complete.",
    "What arrived is kept. Try again for a whole answer.",
  ],
  no_route: [
    "No way leads through all blocks of the model right now.",
    "Try again when a server with the missing blocks has joined.",
  ],
  session_lost: [
    "A server left in the middle of the answer.",
    "Try again: the next answer takes another way, if there is one.",
  ],
  no_capacity: [
    "All servers are full right now.",
    "Try again in a moment, or start a new chat: a short one needs less room.",
  ],
  over_limit: [
    "This conversation costs more than the gateway allows at once.",
    "Start a new chat, or ask something shorter.",
    "new_chat",
  ],
  prompt_too_long: [
    "This conversation has outgrown the model's memory.",
    "Start a new chat, or ask something shorter.",
    "new_chat",
  ],
  state_unavailable: [
    "The gateway has lost its database for a moment.",
    "It comes back by itself. Try again soon.",
  ],
  unknown_model: [
    "The gateway does not serve this model any more.",
    "Pick another model above, then try again.",
  ],
  busy: [
    "The gateway is busy with other chats.",
    "Try again in a moment.",
  ],
  draining: [
    "The gateway is restarting.",
    "Try again when it is back.",
  ],
  deadline_exceeded: [
    "The swarm did not answer in time.",
    "Try again: a slow server is passed by for a while.",
  ],
  peer_error: [
    "A server of the swarm did not do its part.",
    "Try again: the next answer takes another way, if there is one.",
  ],
};
Object.assign(SENTENCES, {
  session_closed: SENTENCES.session_lost,
  handed_over: SENTENCES.connection_lost,
  journal_not_found: SENTENCES.connection_lost,
  max_length_exceeded: SENTENCES.prompt_too_long,
  body_too_large: SENTENCES.prompt_too_long,
  overloaded: SENTENCES.busy,
  engine_stopped: SENTENCES.draining,
  peer_unreachable: SENTENCES.peer_error,
  peer_refused: SENTENCES.peer_error,
  peer_misbehaved: SENTENCES.peer_error,
});

/** @param {string} message @param {string} otherwise @returns {string} */
function sentence(message, otherwise) {
  if (message === "") return otherwise;
  const text = message[0].toUpperCase() + message.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/**
 * @param {GatewayError} error
 * @param {BlockRange[]} missing
 * @returns {[title: string, hint: string, action?: NextAction]}
 */
function sentencesFor({ code, status, message, retryAfterS }, missing) {
  if (status === 401) {
    return ["This gateway asks for an API key.", "Enter yours to go on.", "api_key"];
  }
  if (code === "no_route" && missing.length > 0) {
    const title = `The swarm is not complete: nobody serves ${rangesText(missing)}.`;
    return [title, SENTENCES.no_route[1]];
  }
  if (Object.hasOwn(SENTENCES, code)) return SENTENCES[code];
  if (status === 429) {
    const when = retryAfterS === undefined ? "a minute" : `${Math.ceil(retryAfterS)} s`;
    const hint = `The gateway limits how much one caller may ask. Wait ${when}, then try again.`;
    return ["You have used up your share for the moment.", hint];
  }
  if (status === undefined || status >= 500) {
    return ["The gateway could not finish this answer.", sentence(message, "Try again in a moment.")];
  }
  return ["The gateway did not accept this.", sentence(message, "Try again, or start a new chat.")];
}

/**
 * @param {unknown} error what an answer or a question to the gateway ended with
 * @param {{ missing: BlockRange[], now: number }} context blocks nobody serves; the time
 * @returns {Failure}
 */
export function explain(error, { missing, now }) {
  const known = error instanceof GatewayError ? error : new GatewayError("page_error", "");
  const [title, hint, action = "retry"] = sentencesFor(known, missing);
  const retryAt = known.retryAfterS === undefined ? null : now + known.retryAfterS * 1000;
  return { title, hint, action, retryAt, requestId: known.requestId ?? null };
}
