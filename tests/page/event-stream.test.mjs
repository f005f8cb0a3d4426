// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";

import { streamEvents } from "../../static/chat/event-stream.mjs";
import { bodyOf, bytes, collect } from "./streams.mjs";

const STREAM =
  ": hello\n\ndata: für 🦊\n\ndata: two\ndata: lines\n\nevent: x\nid: 1\ndata:東京\n\n";
const EVENTS = ["für 🦊", "two\nlines", "東京"];

/** @param {...Uint8Array} chunks */
const all = (...chunks) => collect(streamEvents(bodyOf(chunks)));
/** @param {...Uint8Array} chunks */
const read = async (...chunks) =>
  (await all(...chunks)).flatMap(({ data }) => (data === null ? [] : [data]));

test("a chunk may end anywhere, even inside a character", async () => {
  const whole = bytes(STREAM);
  for (let at = 0; at <= whole.length; at++) {
    assert.deepEqual(await read(whole.slice(0, at), whole.slice(at)), EVENTS, `split at ${at}`);
  }
});

test("a chunk may hold a single byte", async () => {
  assert.deepEqual(await read(...Array.from(bytes(STREAM), (byte) => Uint8Array.of(byte))), EVENTS);
});

for (const [name, lineEnd] of [["CRLF", "\r\n"], ["CR", "\r"]]) {
  test(`lines may end with ${name}, split anywhere`, async () => {
    // The last CR needs a successor to be told from half a CRLF: a comment follows.
    const whole = bytes(`${STREAM}: end\n`.replaceAll("\n", lineEnd));
    for (let at = 0; at <= whole.length; at++) {
      assert.deepEqual(await read(whole.slice(0, at), whole.slice(at)), EVENTS, `split at ${at}`);
    }
  });
}

test("only one space after the colon is dropped", async () => {
  assert.deepEqual(await read(bytes("data:  a\n\ndata:b\n\n")), [" a", "b"]);
});

test("comments are told apart from events, and empty events yield nothing", async () => {
  assert.deepEqual(await all(bytes(": ping\n\n\n\n:pong\n\n")), [
    { data: null, comment: "ping", id: "" },
    { data: null, comment: "pong", id: "" },
  ]);
});

test("an id holds until the next one, and counts once its event is whole", async () => {
  const events = await all(bytes("id: a-1\ndata: x\n\ndata: y\n\nid: a-3\n: c\ndata: z\n\n"));

  assert.deepEqual(events.map(({ id }) => id), ["a-1", "a-1", "a-1", "a-3"]);
});

test("an event cut off by the end of the stream is dropped", async () => {
  assert.deepEqual(await read(bytes("data: whole\n\ndata: half")), ["whole"]);
});

test("leaving early cancels the body, so that the generation stops", async () => {
  let isCancelled = false;
  const body = new ReadableStream({
    pull: (controller) => controller.enqueue(bytes("data: more\n\n")),
    cancel: () => void (isCancelled = true),
  });

  for await (const { data } of streamEvents(body)) if (data === "more") break;

  assert.ok(isCancelled);
});

test("a broken body's own error comes through", async () => {
  const body = new ReadableStream({ pull: (c) => c.error(new TypeError("gone")) });

  await assert.rejects(collect(streamEvents(body)), { name: "TypeError", message: "gone" });
});
