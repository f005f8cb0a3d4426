// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";

import { createApi } from "../../static/chat/api.mjs";
import { createConversation } from "../../static/chat/conversation.mjs";
import { createStore, lastExchange } from "../../static/chat/store.mjs";
import { readyPage, seen } from "./states.mjs";
import { bytes } from "./streams.mjs";

/** @typedef {import("../../static/chat/types.mjs").State} State */

/** A gateway whose streams the test writes by hand, one per question. */
class HandGateway {
  /** @type {ReadableStreamDefaultController<Uint8Array>[]} */
  streams = [];
  /** @type {unknown[]} */
  asked = [];

  /** @param {unknown} _path @param {RequestInit} [init] @returns {Promise<Response>} */
  fetch = async (_path, init) => {
    this.asked.push(JSON.parse(String(init?.body)).messages);
    const body = new ReadableStream({
      start: (controller) => {
        this.streams.push(controller);
        init?.signal?.addEventListener("abort", () => controller.error(init.signal?.reason));
      },
    });
    return new Response(body);
  };

  /** @param {number} stream @param {...unknown} frames */
  say(stream, ...frames) {
    for (const frame of frames) {
      this.streams[stream].enqueue(bytes(`data: ${JSON.stringify(frame)}\n\n`));
    }
  }

  /** @param {number} stream @param {object} news of the swarm, a comment of the stream */
  tell(stream, news) {
    this.streams[stream].enqueue(bytes(`: swarm ${JSON.stringify(news)}\n\n`));
  }

  /** @param {number} stream */
  end(stream) {
    this.streams[stream].enqueue(bytes("data: [DONE]\n\n"));
  }
}

/** @param {string} content */
const delta = (content) => ({ choices: [{ delta: { content } }] });

/** @param {{ refreshSwarm?: (dispatch: (action: any) => void) => void }} [means] */
function page({ refreshSwarm = () => {} } = {}) {
  const gateway = new HandGateway();
  const store = createStore(readyPage());
  const conversation = createConversation({
    store,
    api: createApi({ fetch: gateway.fetch, apiKey: () => null }),
    refreshSwarm: async () => refreshSwarm(store.dispatch),
    askKeyFor: () => false,
    clock: () => 0,
  });
  /** @param {(state: State) => boolean | undefined} claim @returns {Promise<void>} */
  const until = (claim) =>
    new Promise((resolve) => {
      store.subscribe((state) => void (claim(state) && resolve()));
      if (claim(store.state())) resolve();
    });
  return { gateway, store, conversation, until };
}

/** Lets everything that is already due happen. */
const settle = () => new Promise((resolve) => setImmediate(resolve));
/** @param {State} state */
const answer = (state) => lastExchange(state)?.answer;
/** @param {State} state */
const status = (state) => lastExchange(state)?.status;

test("a question is trimmed, answered and done", async () => {
  const { gateway, store, conversation, until } = page();

  conversation.send("  hi ");
  await settle();
  gateway.say(0, delta("Hel"), delta("lo"));
  gateway.end(0);
  await until((state) => status(state) === "done");

  assert.equal(answer(store.state()), "Hello");
  assert.deepEqual(gateway.asked, [[{ role: "user", content: "hi" }]]);
});

test("an empty question, or one during an answer, is not sent", async () => {
  const { gateway, conversation } = page();

  conversation.send(" \n");
  conversation.send("one");
  conversation.send("two");
  await settle();

  assert.equal(gateway.asked.length, 1);
});

test("stopping keeps what came and aborts the request", async () => {
  const { gateway, store, conversation, until } = page();
  conversation.send("hi");
  await settle();
  gateway.say(0, delta("Hel"));
  await until((state) => answer(state) === "Hel");

  conversation.stop();
  await settle();

  assert.equal(status(store.state()), "stopped");
  assert.equal(answer(store.state()), "Hel");
  assert.throws(() => gateway.end(0), "the stream is closed");
});

test("the page knows the last event of an answer while it is made, and no longer", async () => {
  const { gateway, store, conversation, until } = page();
  conversation.send("hi");
  await settle();
  gateway.streams[0].enqueue(bytes(`id: g-1\ndata: ${JSON.stringify(delta("Hel"))}\n\n`));
  await until((state) => answer(state) === "Hel");
  assert.equal(conversation.resumeId(), "g-1");

  gateway.end(0);
  await until((state) => status(state) === "done");

  assert.equal(conversation.resumeId(), "");
  conversation.resume("g-1");
  assert.equal(gateway.asked.length, 1, "nothing is in the making");
});

test("an answer that was left never writes into the next chat", async () => {
  const { gateway, store, conversation, until } = page();
  conversation.send("old");
  await settle();
  gateway.say(0, delta("old answer"));
  conversation.startNew();
  conversation.send("new");
  await settle();
  gateway.say(1, delta("new answer"));
  gateway.end(1);
  await until((state) => status(state) === "done");

  assert.equal(store.state().exchanges.length, 1);
  assert.equal(answer(store.state()), "new answer");
});

test("without a route the page looks at the swarm before it explains", async () => {
  const refreshSwarm = (/** @type {(action: any) => void} */ dispatch) =>
    dispatch(seen({ missing: [[4, 8]] }));
  const { gateway, store, conversation, until } = page({ refreshSwarm });

  conversation.send("hi");
  await settle();
  gateway.say(0, { error: { code: "no_route", message: "m" } });
  await until((state) => status(state) === "failed");

  assert.match(lastExchange(store.state())?.failure?.title ?? "", /nobody serves blocks 4–7/);
});

test("news of the swarm make the page look at it, tokens do not", async () => {
  let looks = 0;
  const { gateway, conversation, until } = page({ refreshSwarm: () => void (looks += 1) });

  conversation.send("Hi");
  await until(() => gateway.streams.length === 1);
  gateway.say(0, delta("A"), delta("B"));
  gateway.tell(0, { type: "waiting_for_blocks", blocks: [[4, 8]], left_s: 30 });
  await until((state) => lastExchange(state)?.notice?.type === "waiting_for_blocks");

  assert.equal(looks, 1);
});

test("a retry asks again, without the broken answer", async () => {
  const { gateway, conversation, until } = page();
  conversation.send("hi");
  await settle();
  gateway.say(0, delta("Hel"), { error: { code: "session_lost", message: "m" } });
  await until((state) => status(state) === "failed");

  conversation.retry();
  await settle();
  gateway.say(1, delta("Hello"));
  gateway.end(1);
  await until((state) => status(state) === "done");

  assert.deepEqual(gateway.asked[1], [{ role: "user", content: "hi" }]);
});
