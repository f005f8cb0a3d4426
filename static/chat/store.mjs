// @ts-check
/** The page's one state and its transitions. Pure: no DOM, no network, no clock. */

import { begin, resuming, settled, take } from "./exchange.mjs";

/**
 * @typedef {import("./types.mjs").Action} Action
 * @typedef {import("./types.mjs").Exchange} Exchange
 * @typedef {import("./types.mjs").State} State
 * @typedef {import("./types.mjs").Store} Store
 */

/** What outlives a reload; `resumeId` is that of `resumeId()`. @typedef {Pick<State, "exchanges" | "modelId"> & { resumeId?: string }} Saved */

/** @param {Saved | null} saved @returns {State} */
export function initialState(saved) {
  const exchanges = saved?.exchanges ?? [];
  const last = exchanges[exchanges.length - 1];
  const goesOn = Boolean(saved?.resumeId) && last?.status === "streaming";
  return {
    models: null,
    modelId: saved?.modelId ?? null,
    exchanges: exchanges.map((e) => (goesOn && e === last ? resuming(e) : settled(e))),
    draft: "",
    swarm: null,
    isReachable: null,
    isReady: null,
    isSwarmOpen: false,
    keyForm: "hidden",
    now: 0,
  };
}

/** @param {State} state @returns {Exchange | null} */
export function lastExchange({ exchanges }) {
  return exchanges[exchanges.length - 1] ?? null;
}

/** @param {State} state */
export function isAnswering(state) {
  return lastExchange(state)?.status === "streaming";
}

/** @param {State} state */
export function canSend(state) {
  return state.modelId !== null && state.models !== null && !isAnswering(state);
}

/** @param {State} state @returns {boolean} whether something on the page depends on the time */
export function needsClock(state) {
  const exchange = lastExchange(state);
  const retryAt = exchange?.failure?.retryAt ?? null;
  return exchange?.status === "streaming" || (retryAt !== null && retryAt > state.now);
}

/**
 * @param {State} state
 * @param {(exchange: Exchange) => Exchange} change
 * @returns {State} with its last exchange changed, if that is being answered
 */
function whileAnswering(state, change) {
  const exchange = lastExchange(state);
  if (exchange?.status !== "streaming") return state;
  return { ...state, exchanges: [...state.exchanges.slice(0, -1), change(exchange)] };
}

/**
 * @param {State} state
 * @param {Exchange[]} earlier
 * @param {string} question
 * @param {number} at
 * @returns {State}
 */
function asking(state, earlier, question, at) {
  const { modelId } = state;
  if (modelId === null || !canSend(state)) return state;
  const exchange = begin({ id: earlier.length, modelId, question, at });
  return { ...state, exchanges: [...earlier, exchange], now: at };
}

/**
 * @template {Action["type"]} K
 * @typedef {(state: State, action: Extract<Action, { type: K }>) => State} Transition
 */

/** @type {{ [K in Action["type"]]: Transition<K> }} */
const transitions = {
  modelsLoaded(state, { models }) {
    const isKnown = models.some(({ id }) => id === state.modelId);
    const modelId = isKnown ? state.modelId : (models[0]?.id ?? null);
    return { ...state, models, modelId, keyForm: "hidden" };
  },
  modelChosen: (state, { modelId }) => ({ ...state, modelId }),
  draftChanged: (state, { draft }) => ({ ...state, draft }),
  questionSent(state, { question, at }) {
    if (!canSend(state)) return state;
    return { ...asking(state, state.exchanges, question, at), draft: "" };
  },
  retried(state, { at }) {
    const exchange = lastExchange(state);
    if (exchange === null) return state;
    return asking(state, state.exchanges.slice(0, -1), exchange.question, at);
  },
  chatEvent: (state, { event, at }) => whileAnswering(state, (e) => take(e, event, at)),
  answerEnded: (state) => whileAnswering(state, (e) => ({ ...e, status: "done", notice: null })),
  answerStopped: (state) => whileAnswering(state, (e) => ({ ...e, status: "stopped", notice: null })),
  answerFailed: (state, { failure }) =>
    whileAnswering(state, (e) => ({ ...e, status: "failed", notice: null, failure })),
  chatCleared: (state) => ({ ...state, exchanges: [], draft: "" }),
  swarmSeen: (state, { swarm, isReady }) => ({ ...state, swarm, isReady, isReachable: true }),
  gatewayLost: (state) => ({ ...state, isReachable: false, isReady: false }),
  swarmToggled: (state) => ({ ...state, isSwarmOpen: !state.isSwarmOpen }),
  keyAsked: (state, { isRefused }) => ({
    ...state,
    isReachable: true,
    keyForm: isRefused ? "refused" : "needed",
  }),
  keySaved: (state) => ({ ...state, keyForm: "hidden" }),
  ticked: (state, { now }) => ({ ...state, now }),
};

/** @param {State} state @param {Action} action @returns {State} */
export function reduce(state, action) {
  return transitions[action.type](state, /** @type {never} */ (action));
}

/** @param {State} state @returns {Store} */
export function createStore(state) {
  /** @type {((state: State) => void)[]} */
  const listeners = [];
  return {
    state: () => state,
    dispatch(action) {
      state = reduce(state, action);
      for (const listener of listeners) listener(state);
    },
    subscribe: (listener) => void listeners.push(listener),
  };
}
