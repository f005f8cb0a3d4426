// @ts-check
/** The gateway's endpoints; translates wire names and errors here, once. */

import { resumableAnswer } from "./answer-stream.mjs";
import { errorFrom, GatewayError } from "./gateway-error.mjs";

/**
 * @typedef {import("./types.mjs").ChatEvent} ChatEvent
 * @typedef {import("./types.mjs").Message} Message
 * @typedef {import("./types.mjs").Model} Model
 * @typedef {import("./types.mjs").Server} Server
 * @typedef {import("./types.mjs").Swarm} Swarm
 */

/** @typedef {ReturnType<typeof createApi>} Api */

const POLL_TIMEOUT_MS = 8000;

/** @param {any} wire one server of `/api/v1/swarm` @returns {Server} */
const serverFrom = (wire) => ({
  peerId: wire.peer_id,
  name: wire.public_name,
  state: wire.state,
  blocks: wire.blocks,
  pingMs: wire.ping_ms,
  tokensLeft: wire.cache_tokens_left,
  isBanned: wire.is_banned,
});

/** @param {any} wire answer of `/api/v1/swarm` @returns {Swarm} */
const swarmFrom = (wire) => ({
  maddrs: wire.maddrs,
  models: wire.models.map((/** @type {any} */ model) => ({
    id: model.id,
    numBlocks: model.num_blocks,
    dhtPrefix: model.dht_prefix,
    missing: model.missing_blocks,
    servers: model.servers.map(serverFrom),
  })),
});

/** @param {number} ms @returns {Promise<void>} */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Every method fails with `GatewayError`, or `AbortError` when the signal it was given is aborted.
 *
 * @param {object} means
 * @param {typeof fetch} means.fetch
 * @param {() => string | null} means.apiKey
 * @param {(ms: number) => Promise<void>} [means.wait]
 */
export function createApi({ fetch, apiKey, wait = pause }) {
  // Paths are relative, so that the page works behind a path prefix.
  /** @param {string} path @param {RequestInit} init */
  async function ask(path, init) {
    const key = apiKey();
    const headers = new Headers(init.headers);
    if (key !== null) headers.set("authorization", `Bearer ${key}`);
    try {
      return await fetch(path, { ...init, headers });
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new GatewayError("unreachable", "");
    }
  }

  /** @param {string} path @returns {Promise<any>} */
  async function read(path) {
    const response = await ask(path, { signal: AbortSignal.timeout(POLL_TIMEOUT_MS) });
    const body = await response.json().catch(() => null);
    if (!response.ok || body === null) throw errorFrom(body?.error, response);
    return body;
  }

  return {
    /** @returns {Promise<Model[]>} */
    async models() {
      const { data } = await read("v1/models");
      return data.map((/** @type {any} */ wire) => ({ id: wire.id, isDemo: wire.is_demo }));
    },

    /** @returns {Promise<Swarm>} */
    swarm: async () => swarmFrom(await read("api/v1/swarm")),

    /** @returns {Promise<boolean>} */
    async isReady() {
      const signal = AbortSignal.timeout(POLL_TIMEOUT_MS);
      return (await ask("health/ready", { signal })).ok;
    },

    /**
     * An answer that survives broken connections and gateways that restart.
     *
     * @param {object} question
     * @param {string} question.model
     * @param {Message[]} question.messages
     * @param {AbortSignal} question.signal
     * @param {string} [question.seenId] of the last event there is, to go on with an answer
     * @param {(id: string) => void} [question.mark] is told the id of each event
     * @returns {AsyncGenerator<ChatEvent, void, void>}
     */
    answer({ model, messages, signal, seenId, mark }) {
      const body = JSON.stringify({
        model,
        messages,
        stream: true,
        stream_options: { include_usage: true },
      });
      const headers = { "content-type": "application/json" };
      return resumableAnswer({
        open: () => ask("v1/chat/completions", { method: "POST", headers, body, signal }),
        reopen: (id) => ask(`api/v1/streams/${id}`, { signal }),
        end: (id) => ask(`api/v1/streams/${id}`, { method: "DELETE", keepalive: true }),
        wait,
        seenId,
        mark,
      });
    },
  };
}
