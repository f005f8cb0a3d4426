// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";

import { createApi } from "../../static/chat/api.mjs";
import { bodyOf, bytes, collect } from "./streams.mjs";

/** @param {...unknown} frames */
function chatBody(...frames) {
  const texts = frames.map((frame) => (typeof frame === "string" ? frame : JSON.stringify(frame)));
  return bodyOf(texts.map((text) => bytes(`data: ${text}\n\n`)));
}
/**
 * An API whose every request is answered by one function.
 *
 * @param {(path: string, init: RequestInit) => Response | Promise<Response>} answer
 * @param {string | null} [apiKey]
 */
const apiWith = (answer, apiKey = null) =>
  createApi({
    fetch: async (path, init) => answer(String(path), init ?? {}),
    apiKey: () => apiKey,
  });

/** @param {AbortSignal} [signal] */
function question(signal = new AbortController().signal) {
  return { model: "demo", messages: [], signal };
}

test("an answer is asked for as a stream with usage, and with the key", async () => {
  /** @type {RequestInit[]} */
  const sent = [];
  const api = apiWith((_, init) => {
    sent.push(init);
    return new Response(chatBody("[DONE]"));
  }, "sesame");

  await collect(api.answer(question()));

  const { stream, stream_options } = JSON.parse(String(sent[0].body));
  assert.deepEqual([stream, stream_options], [true, { include_usage: true }]);
  assert.equal(new Headers(sent[0].headers).get("authorization"), "Bearer sesame");
});

test("a refusal carries code, status, wait and request id", async () => {
  const error = { code: "rate_limited", message: "m", request_id: "r" };
  const init = { status: 429, headers: { "retry-after": "12" } };
  const api = apiWith(() => Response.json({ error }, init));

  await assert.rejects(collect(api.answer(question())), {
    code: "rate_limited",
    status: 429,
    retryAfterS: 12,
    requestId: "r",
  });
});

test("a refusal that is not JSON, as proxies send, keeps its status", async () => {
  const api = apiWith(() => new Response("<h1>Bad gateway</h1>", { status: 502 }));
  await assert.rejects(api.models(), { name: "GatewayError", status: 502 });
});

test("a gateway that cannot be reached is told apart from one that refuses", async () => {
  const api = apiWith(() => Promise.reject(new TypeError("Failed to fetch")));
  await assert.rejects(api.swarm(), { code: "unreachable" });
});

test("stopping is not an error of the gateway", async () => {
  const stopper = new AbortController();
  stopper.abort();
  const api = apiWith((_, init) => Promise.reject(init.signal?.reason));
  await assert.rejects(collect(api.answer(question(stopper.signal))), { name: "AbortError" });
});

test("models and swarm arrive in the page's own words", async () => {
  const wire = {
    "v1/models": { data: [{ id: "demo", is_demo: true, max_model_len: 512 }] },
    "api/v1/swarm": {
      peer_id: "Qm",
      maddrs: ["/ip4/127.0.0.1"],
      models: [{
        id: "demo", num_blocks: 8, dht_prefix: "demo", missing_blocks: [[4, 8]],
        servers: [{
          peer_id: "QmA", public_name: null, state: "online", blocks: [0, 4], ping_ms: 0.4,
          cache_tokens_left: 1000, is_banned: false,
        }],
      }],
    },
  };
  const api = apiWith((path) => Response.json(wire[/** @type {keyof typeof wire} */ (path)]));

  assert.deepEqual(await api.models(), [{ id: "demo", isDemo: true }]);
  const { models: [model] } = await api.swarm();
  assert.deepEqual(model.missing, [[4, 8]]);
  assert.deepEqual(model.servers[0].tokensLeft, 1000);
});
