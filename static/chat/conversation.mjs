// @ts-check
/** Asks the gateway and feeds the store; owns the one answer in the making. */

import { messagesFor } from "./exchange.mjs";
import { explain } from "./failures.mjs";
import { GatewayError } from "./gateway-error.mjs";
import { isAnswering, lastExchange } from "./store.mjs";
import { chosenSwarm } from "./swarm.mjs";

/**
 * @typedef {import("./api.mjs").Api} Api
 * @typedef {import("./types.mjs").Failure} Failure
 * @typedef {import("./types.mjs").Store} Store
 */

/** What says that our picture of the swarm is old. */
const OUTDATED = new Set(["no_route", "unknown_model"]);

/**
 * @param {object} parts
 * @param {Store} parts.store
 * @param {Api} parts.api
 * @param {() => Promise<void>} parts.refreshSwarm never fails
 * @param {(error: unknown) => boolean} parts.askKeyFor shows the key form if the error is about it
 * @param {() => number} parts.clock milliseconds
 */
export function createConversation({ store, api, refreshSwarm, askKeyFor, clock }) {
  let running = new AbortController();
  let lastId = ""; // of the last event of the answer in the making

  /** @param {unknown} error @returns {Promise<Failure>} */
  async function diagnose(error) {
    // The reason is most often in the swarm, or in what is offered: look before explaining.
    if (error instanceof GatewayError && OUTDATED.has(error.code)) await refreshSwarm();
    const missing = chosenSwarm(store.state())?.missing ?? [];
    return explain(error, { missing, now: clock() });
  }

  /** Answers the last exchange; a stopped or forgotten one takes no further events. @param {string} [seenId] to go on behind an event */
  async function answer(seenId = "") {
    const { exchanges } = store.state();
    const model = exchanges[exchanges.length - 1].modelId;
    const { signal } = (running = new AbortController());
    const mark = (/** @type {string} */ id) => void (lastId = id);
    mark(seenId);
    try {
      const messages = messagesFor(exchanges);
      for await (const event of api.answer({ model, messages, signal, seenId, mark })) {
        if (signal.aborted) return;
        store.dispatch({ type: "chatEvent", event, at: clock() });
        if (event.type === "notice") refreshSwarm(); // its picture is older than the news
      }
      if (!signal.aborted) store.dispatch({ type: "answerEnded" });
    } catch (error) {
      if (signal.aborted) return;
      const isTooLate = error instanceof GatewayError && error.code === "journal_not_found";
      if (seenId !== "" && isTooLate) return store.dispatch({ type: "answerStopped" });
      askKeyFor(error);
      const failure = await diagnose(error);
      if (!signal.aborted) store.dispatch({ type: "answerFailed", failure });
    }
  }

  return {
    /** @param {string} question */
    send(question) {
      if (question.trim() === "" || isAnswering(store.state())) return;
      store.dispatch({ type: "questionSent", question: question.trim(), at: clock() });
      if (isAnswering(store.state())) answer();
    },

    /** Go on with an answer that the page had begun before it was loaded again. @param {string} seenId */
    resume(seenId) {
      if (isAnswering(store.state())) answer(seenId);
    },

    /** The last event of the answer in the making, empty if there is none. @returns {string} */
    resumeId: () => (isAnswering(store.state()) ? lastId : ""),

    stop() {
      running.abort();
      store.dispatch({ type: "answerStopped" });
    },

    retry() {
      if (lastExchange(store.state()) === null || isAnswering(store.state())) return;
      store.dispatch({ type: "retried", at: clock() });
      if (isAnswering(store.state())) answer();
    },

    startNew() {
      running.abort();
      store.dispatch({ type: "chatCleared" });
    },
  };
}
