// @ts-check
/** Pages in the middle of something. */

import { initialState, reduce } from "../../static/chat/store.mjs";

/**
 * @typedef {import("../../static/chat/types.mjs").Action} Action
 * @typedef {import("../../static/chat/types.mjs").Failure} Failure
 * @typedef {import("../../static/chat/types.mjs").Server} Server
 * @typedef {import("../../static/chat/types.mjs").State} State
 * @typedef {import("../../static/chat/types.mjs").SwarmModel} SwarmModel
 */

/** @type {Failure} */
export const FAILURE = {
  title: "It broke.",
  hint: "Try again.",
  action: "retry",
  retryAt: null,
  requestId: null,
};

/** @param {State} state @param {...Action} actions @returns {State} */
export function after(state, ...actions) {
  return actions.reduce(reduce, state);
}

/** @returns {State} a page that knows its models */
export function readyPage() {
  const models = [
    { id: "demo", isDemo: true },
    { id: "big", isDemo: false },
  ];
  return after(initialState(null), { type: "modelsLoaded", models });
}

/** @param {string} question @param {string} answer @returns {Action[]} a whole exchange */
export function exchange(question, answer) {
  return [
    { type: "questionSent", question, at: 0 },
    { type: "chatEvent", event: { type: "text", text: answer }, at: 10 },
    { type: "answerEnded" },
  ];
}

/** @param {Partial<Server>} [facts] @returns {Server} */
export function server(facts) {
  /** @type {Server} */
  const online = {
    peerId: "QmServer123456",
    name: null,
    state: "online",
    blocks: [0, 4],
    pingMs: 1,
    tokensLeft: 100,
    isBanned: false,
  };
  return { ...online, ...facts };
}

/** @param {Partial<SwarmModel>} [facts] @returns {SwarmModel} */
export function swarmModel(facts) {
  const servers = [server(), server({ blocks: [4, 8] })];
  return { id: "demo", numBlocks: 8, dhtPrefix: "demo", missing: [], servers, ...facts };
}

/** @param {Partial<SwarmModel>} [facts] @param {boolean} [isReady] @returns {Action} */
export function seen(facts, isReady = true) {
  return { type: "swarmSeen", swarm: { maddrs: [], models: [swarmModel(facts)] }, isReady };
}
