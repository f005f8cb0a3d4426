// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";

import { durationText, speedOf, speedText } from "../../static/chat/speed.mjs";

const WAITING = { sentAt: 1000, firstAt: null, lastAt: null, numChunks: 0, numTokens: null };
const RUNNING = { sentAt: 1000, firstAt: 1300, lastAt: 2300, numChunks: 21, numTokens: null };

test("nothing is claimed before the first text", () => {
  assert.equal(speedOf(WAITING).tokensPerS, null);
  assert.equal(speedOf(WAITING).firstTokenMs, null);
  assert.equal(speedText(WAITING), "");
});

test("the first token's time is the prompt's and not part of the rate", () => {
  assert.equal(speedOf(RUNNING).tokensPerS, 20);
  assert.equal(speedOf(RUNNING).firstTokenMs, 300);
});

test("pieces of text are an estimate, and say so", () => {
  assert.equal(speedText(RUNNING), "≈ 20 tokens/s · ≈ 21 tokens · first after 300 ms");
});

test("the gateway's count replaces the estimate", () => {
  const counted = { ...RUNNING, numTokens: 31 };
  assert.equal(speedOf(counted).isExact, true);
  assert.equal(speedText(counted), "30 tokens/s · 31 tokens · first after 300 ms");
});

test("one piece of text has no rate, however many tokens it carries", () => {
  const burst = { ...RUNNING, lastAt: 1301, numChunks: 1, numTokens: 40 };
  assert.equal(speedOf(burst).tokensPerS, null);
  assert.equal(speedText(burst), "40 tokens · first after 300 ms");
});

test("pieces that arrive together have no rate: they waited for the browser", () => {
  assert.equal(speedOf({ ...RUNNING, lastAt: 1300 }).tokensPerS, null);
  assert.equal(speedOf({ ...RUNNING, lastAt: 1300.3 }).tokensPerS, null);
  assert.equal(speedOf({ ...RUNNING, lastAt: 1320 }).tokensPerS, 1000);
});

test("slow rates keep a decimal", () => {
  assert.match(speedText({ ...RUNNING, numTokens: 3 }), /^2\.0 tokens\/s/);
  assert.match(speedText({ ...RUNNING, numTokens: 2, lastAt: 11300 }), /^0\.1 tokens\/s/);
});

test("durations change unit at one second", () => {
  const texts = [0.4, 999.4, 999.6, 12345].map(durationText);
  assert.deepEqual(texts, ["0 ms", "999 ms", "1.0 s", "12.3 s"]);
});
