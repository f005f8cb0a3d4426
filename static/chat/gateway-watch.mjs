// @ts-check
/** Keeps the store's picture of the gateway and its swarm fresh while the page is looked at. */

/**
 * @typedef {import("./api.mjs").Api} Api
 * @typedef {import("./types.mjs").Store} Store
 */

const PERIOD_MS = 4000;

/**
 * @param {object} parts
 * @param {Store} parts.store
 * @param {Api} parts.api
 * @param {(error: unknown) => boolean} parts.askKeyFor shows the key form if the error is about it
 */
export function createGatewayWatch({ store, api, askKeyFor }) {
  /** Look once. Never fails: a gateway that does not answer is a fact, too. */
  async function refresh() {
    try {
      if (store.state().models === null) {
        store.dispatch({ type: "modelsLoaded", models: await api.models() });
      }
      const [swarm, isReady] = await Promise.all([api.swarm(), api.isReady()]);
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
