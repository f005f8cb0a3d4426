// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";

import { createApi } from "../../static/chat/api.mjs";
import { createGatewayWatch } from "../../static/chat/gateway-watch.mjs";
import { createStore, initialState } from "../../static/chat/store.mjs";

/** A gateway that offers `models`, and shows its swarm to those who may see it. */
class Gateway {
  models = ["demo"];
  showsSwarm = true;
  /** @type {string[]} */
  asked = [];

  /** @param {any} path @returns {Promise<Response>} */
  fetch = async (path) => {
    this.asked.push(path);
    if (path === "v1/models") return Response.json({ data: this.models.map((id) => ({ id })) });
    if (path === "health/ready") return Response.json({});
    if (!this.showsSwarm) return Response.json({ error: { code: "out_of_scope" } }, { status: 403 });
    const models = this.models.map((id) => ({ id, num_blocks: 8, missing_blocks: [], servers: [] }));
    return Response.json({ maddrs: [], models });
  };
}

/** @param {Gateway} gateway */
function page(gateway) {
  const store = createStore(initialState(null));
  const api = createApi({ fetch: gateway.fetch, apiKey: () => null });
  return { store, watch: createGatewayWatch({ store, api, askKeyFor: () => false }) };
}

test("a model that comes or goes is in the picker after the next look", async () => {
  const gateway = new Gateway();
  const { store, watch } = page(gateway);
  await watch.refresh();

  gateway.models = ["big", "small"];
  await watch.refresh();

  assert.deepEqual(store.state().models?.map(({ id }) => id), ["big", "small"]);
  assert.equal(store.state().modelId, "big");
});

test("models are asked for once while they stay the same", async () => {
  const gateway = new Gateway();
  const { watch } = page(gateway);

  for (let look = 0; look < 3; look++) await watch.refresh();

  assert.equal(gateway.asked.filter((path) => path === "v1/models").length, 1);
});

test("a key that may not see the swarm may chat: the gateway is there", async () => {
  const gateway = new Gateway();
  gateway.showsSwarm = false;
  const { store, watch } = page(gateway);

  await watch.refresh();

  const { isReachable, isReady, swarm } = store.state();
  assert.deepEqual({ isReachable, isReady, swarm }, { isReachable: true, isReady: true, swarm: null });
});
