// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";

import { chatEvents, resumableAnswer } from "../../static/chat/answer-stream.mjs";
import { bodyOf, bytes, collect } from "./streams.mjs";

/** @param {...unknown} frames */
function chatBody(...frames) {
  const texts = frames.map((frame) => (typeof frame === "string" ? frame : JSON.stringify(frame)));
  return bodyOf(texts.map((text) => bytes(`data: ${text}\n\n`)));
}
/** @param {string} content */
const delta = (content) => ({ choices: [{ delta: { content }, finish_reason: null }] });
/** @param {string} text @returns {Response} */
const answerOf = (text) => new Response(text);
/** @param {number} number @param {string} content @returns {string} one event */
const token = (number, content) => `id: g-${number}\ndata: ${JSON.stringify(delta(content))}\n\n`;
const DONE = "id: g-9\ndata: [DONE]\n\n";

/**
 * A gateway that gives one answer after the other, whatever is asked.
 *
 * @param {...(Response | Error)} answers
 */
function gatewayOf(...answers) {
  /** @type {string[]} */
  const asked = [];
  const next = async (/** @type {string} */ what) => {
    asked.push(what);
    const answer = answers.shift() ?? new Error("nothing more was expected");
    if (answer instanceof Error) throw answer;
    return answer;
  };
  const stream = resumableAnswer({
    open: () => next("open"),
    reopen: (id) => next(`reopen ${id}`),
    end: (id) => (asked.push(`end ${id}`), Promise.resolve(new Response(null, { status: 204 }))),
    wait: async (ms) => void asked.push(`wait ${ms}`),
  });
  return { asked, stream };
}

/** @param {import("../../static/chat/types.mjs").ChatEvent[]} events */
const textOf = (events) => events.map((e) => (e.type === "text" ? e.text : "")).join("");

test("an answer that was begun before goes on behind the event that is known", async () => {
  const marks = /** @type {string[]} */ ([]);
  const asked = /** @type {string[]} */ ([]);
  const stream = resumableAnswer({
    open: () => Promise.reject(new Error("it is not asked again")),
    reopen: async (id) => (asked.push(id), answerOf(token(3, "llo") + DONE)),
    end: () => Promise.reject(new Error("it has ended by itself")),
    wait: async () => {},
    seenId: "g-2",
    mark: (id) => void marks.push(id),
  });

  assert.equal(textOf(await collect(stream)), "llo");
  assert.deepEqual([asked, marks], [["g-2"], ["g-3"]]);
});

test("thoughts come apart from the text", async () => {
  const body = chatBody({ choices: [{ delta: { reasoning_content: "Hm." } }] }, delta("Yes"), "[DONE]");

  assert.deepEqual(await collect(chatEvents(body)), [
    { type: "thought", text: "Hm." },
    { type: "text", text: "Yes" },
  ]);
});

test("text, finish and usage come in the order of the stream", async () => {
  const body = chatBody(
    { choices: [{ delta: { role: "assistant", content: "" }, finish_reason: null }] },
    delta("Hel"),
    delta("lo"),
    { choices: [{ delta: {}, finish_reason: "stop" }] },
    { choices: [], usage: { completion_tokens: 3 } },
    "[DONE]",
  );

  assert.deepEqual(await collect(chatEvents(body)), [
    { type: "text", text: "Hel" },
    { type: "text", text: "lo" },
    { type: "finish", reason: "stop" },
    { type: "usage", completionTokens: 3 },
  ]);
});

test("nothing after [DONE] is read", async () => {
  assert.deepEqual(await collect(chatEvents(chatBody("[DONE]", delta("late")))), []);
});

test("an error frame in the middle of the stream is the gateway's error", async () => {
  const error = { code: "session_lost", message: "m", request_id: "r" };
  const body = chatBody(delta("He"), { error });

  await assert.rejects(collect(chatEvents(body)), {
    name: "GatewayError",
    code: "session_lost",
    requestId: "r",
  });
});

test("a stream that ends without [DONE] has lost its connection", async () => {
  await assert.rejects(collect(chatEvents(chatBody(delta("He")))), { code: "connection_lost" });
});

test("a stream that breaks has lost its connection", async () => {
  const body = new ReadableStream({ pull: (c) => c.error(new TypeError("network error")) });
  await assert.rejects(collect(chatEvents(body)), { code: "connection_lost" });
});

test("news of the swarm come between the texts", async () => {
  const news = `: swarm {"type":"waiting_for_blocks","blocks":[[4,8]],"left_s":29.5}\n\n`;
  const body = bodyOf([bytes(`: keep-alive\n\n${news}data: [DONE]\n\n`)]);

  assert.deepEqual(await collect(chatEvents(body)), [
    {
      type: "notice",
      notice: { type: "waiting_for_blocks", blocks: [[4, 8]], leftS: 29.5 },
    },
  ]);
});

test("a broken connection is opened again behind the last event", async () => {
  const { asked, stream } = gatewayOf(
    answerOf(token(1, "He")),
    answerOf(token(2, "ll")),
    answerOf(token(3, "o") + DONE),
  );

  const events = await collect(stream);

  assert.equal(textOf(events), "Hello");
  assert.deepEqual(asked, ["open", "wait 250", "reopen g-1", "wait 250", "reopen g-2"]);
  assert.equal(events.filter(({ type }) => type === "notice").length, 2);
});

test("a gateway that restarts is waited for, longer each time", async () => {
  const handedOver = 'data: {"error":{"code":"handed_over","message":"m"}}\n\n';
  const { asked, stream } = gatewayOf(
    answerOf(token(1, "He") + handedOver),
    Response.json({ error: { code: "draining" } }, { status: 503 }),
    Response.json({ error: { code: "draining" } }, { status: 503 }),
    answerOf(token(2, "llo") + DONE),
  );

  assert.equal(textOf(await collect(stream)), "Hello");
  assert.deepEqual(asked.filter((what) => what.startsWith("wait")), [
    "wait 250",
    "wait 500",
    "wait 1000",
  ]);
});

test("nothing more to tell is the end", async () => {
  const { stream } = gatewayOf(answerOf(token(1, "Hi")), new Response(null, { status: 204 }));

  assert.equal(textOf(await collect(stream)), "Hi");
});

test("an answer that is gone, or failed for good, is not asked for again", async () => {
  const failed = 'data: {"error":{"code":"no_route","message":"m"}}\n\n';
  const gone = Response.json({ error: { code: "journal_not_found" } }, { status: 404 });

  await assert.rejects(collect(gatewayOf(answerOf(token(1, "Hi") + failed)).stream), {
    code: "no_route",
  });
  await assert.rejects(collect(gatewayOf(answerOf(token(1, "Hi")), gone).stream), {
    code: "journal_not_found",
  });
});

test("an error in the middle names the request, for whoever looks into the log", async () => {
  const failed = 'data: {"error":{"code":"no_route","message":"m"}}\n\n';
  const answer = answerOf(token(1, "Hi") + failed);
  answer.headers.set("x-request-id", "r1");

  await assert.rejects(collect(gatewayOf(answer).stream), { code: "no_route", requestId: "r1" });
});

test("a question that never got an answer is not asked twice", async () => {
  const refusal = Response.json({ error: { code: "busy" } }, { status: 503 });
  const { asked, stream } = gatewayOf(refusal);

  await assert.rejects(collect(stream), { code: "busy" });
  assert.deepEqual(asked, ["open"]);
});

test("trying again ends in the end", async () => {
  const refusals = Array.from({ length: 30 }, () => new Response("", { status: 502 }));
  const { asked, stream } = gatewayOf(answerOf(token(1, "Hi")), ...refusals);

  await assert.rejects(collect(stream), { status: 502 });
  assert.equal(asked.filter((what) => what === "reopen g-1").length, 18);
});

test("leaving early ends the generation", async () => {
  const { asked, stream } = gatewayOf(answerOf(token(1, "He") + token(2, "llo")));

  for await (const event of stream) if (event.type === "text") break;

  assert.deepEqual(asked, ["open", "end g-1"]);
});
