// @ts-check
/** What a screen reader is told, and when: whole answers, never single tokens. Pure. */

import { lastExchange } from "./store.mjs";
import { healthOf } from "./swarm.mjs";

/** @typedef {import("./types.mjs").State} State */

/**
 * @param {State} before
 * @param {State} after
 * @returns {string | null} null when there is nothing to say; failures speak for themselves
 */
export function announcement(before, after) {
  const exchange = lastExchange(after);
  const earlier = before.exchanges[after.exchanges.length - 1];
  if (exchange !== null && exchange.status !== earlier?.status) {
    if (exchange.status === "streaming") return "The model is answering.";
    if (exchange.status === "done") return `Answer: ${exchange.answer}`;
    if (exchange.status === "stopped") return "Stopped.";
  }
  if (exchange === null && before.exchanges.length > 0) return "New chat.";
  const health = healthOf(after);
  const hasTurned = healthOf(before).level !== health.level && health.level !== "unknown";
  return hasTurned ? health.text : null;
}
