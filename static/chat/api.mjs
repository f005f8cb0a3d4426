// @ts-check
/** The gateway's endpoints; translates wire names and errors here, once. */

import { eventData } from "./event-stream.mjs";
import { GatewayError } from "./failures.mjs";

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

/** @param {any} error OpenAI's error object @param {Response} [response] @returns {GatewayError} */
function errorFrom(error, response) {
  const retryAfterS = Number.parseFloat(response?.headers.get("retry-after") ?? "");
  return new GatewayError(error?.code ?? error?.type ?? "unknown", error?.message ?? "", {
    status: response?.status,
    retryAfterS: Number.isFinite(retryAfterS) ? retryAfterS : undefined,
    requestId: error?.request_id ?? response?.headers.get("x-request-id") ?? undefined,
  });
}

/** @param {any} chunk one `chat.completion.chunk` @returns {Generator<ChatEvent>} */
function* eventsOf(chunk) {
  const choice = chunk.choices?.[0];
  if (choice?.delta?.content) yield { type: "text", text: choice.delta.content };
  if (choice?.finish_reason) yield { type: "finish", reason: choice.finish_reason };
  if (chunk.usage) yield { type: "usage", completionTokens: chunk.usage.completion_tokens };
}

/**
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<ChatEvent, void, void>}
 */
export async function* chatEvents(body) {
  try {
    for await (const data of eventData(body)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw errorFrom(chunk.error);
      yield* eventsOf(chunk);
    }
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // fetch's word for a broken connection
  }
  throw new GatewayError("connection_lost", "");
}

/**
 * Every method fails with `GatewayError`, or `AbortError` when the signal it was given is aborted.
 *
 * @param {{ fetch: typeof fetch, apiKey: () => string | null }} means
 */
export function createApi({ fetch, apiKey }) {
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
     * @param {{ model: string, messages: Message[], signal: AbortSignal }} question
     * @returns {AsyncGenerator<ChatEvent, void, void>}
     */
    async *answer({ model, messages, signal }) {
      const response = await ask("v1/chat/completions", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({
          model,
          messages,
          stream: true,
          stream_options: { include_usage: true },
        }),
        signal,
      });
      if (!response.ok || response.body === null) {
        throw errorFrom((await response.json().catch(() => null))?.error, response);
      }
      yield* chatEvents(response.body);
    },
  };
}
