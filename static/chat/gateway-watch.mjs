// @ts-check
/** Keeps the store's picture of the gateway and its swarm fresh while the page is looked at. */

import { GatewayError } from "./gateway-error.mjs";

/**
 * @typedef {import("./api.mjs").Api} Api
 * @typedef {import("./types.mjs").Store} Store
 * @typedef {import("./types.mjs").Swarm} Swarm
 */

const PERIOD_MS = 4000;

/** @param {Swarm} swarm @returns {string} */
const offerOf = (swarm) => swarm.models.map(({ id }) => id).join();

/**
 * @param {object} parts
 * @param {Store} parts.store
 * @param {Api} parts.api
 * @param {(error: unknown) => boolean} parts.askKeyFor shows the key form if the error is about it
 */
export function createGatewayWatch({ store, api, askKeyFor }) {
  /** @returns {Promise<Swarm | null>} null: this key may chat, and not look at the swarm */
  async function visibleSwarm() {
    try {
      return await api.swarm();
    } catch (error) {
      if (error instanceof GatewayError && error.status === 403) return null;
      throw error;
    }
  }

  async function readModels() {
    store.dispatch({ type: "modelsLoaded", models: await api.models() });
  }

  /** Look once. Never fails: a gateway that does not answer is a fact, too. */
  async function refresh() {
    try {
      if (store.state().models === null) await readModels();
      const [swarm, isReady] = await Promise.all([visibleSwarm(), api.isReady()]);
      const before = store.state().swarm;
      if (before && swarm && offerOf(before) !== offerOf(swarm)) await readModels();
      store.dispatch({ type: "swarmSeen", swarm, isReady });
    } catch (error) {
      if (!askKeyFor(error)) store.dispatch({ type: "gatewayLost" });
    }
  }

  return {
    refresh,

    /** Look now, then every few seconds while the page is visible and no key is being entered. */
    async start() {
      for (;;) {
        if (!document.hidden && store.state().keyForm === "hidden") await refresh();
        await new Promise((resolve) => setTimeout(resolve, PERIOD_MS));
      }
    },
  };
}
