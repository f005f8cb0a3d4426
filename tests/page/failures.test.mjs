// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";

import { explain } from "../../static/chat/failures.mjs";
import { GatewayError } from "../../static/chat/gateway-error.mjs";

/** @typedef {import("../../static/chat/types.mjs").BlockRange} BlockRange */

/**
 * @param {string} code
 * @param {ConstructorParameters<typeof GatewayError>[2]} [facts]
 * @param {BlockRange[]} [missing]
 */
const explained = (code, facts, missing = []) =>
  explain(new GatewayError(code, "what the gateway said", facts), { missing, now: 1000 });

test("an incomplete swarm names the missing blocks", () => {
  const { title, action } = explained("no_route", { status: 503 }, [[2, 3], [4, 8]]);
  assert.equal(title, "The swarm is not complete: nobody serves block 2 and blocks 4–7.");
  assert.equal(action, "retry");
});

test("no route without known gaps still says what to do", () => {
  assert.match(explained("no_route", { status: 503 }).hint, /has joined/);
});

test("a rate limit says how long to wait, and when a retry makes sense", () => {
  const { hint, retryAt } = explained("rate_limited", { status: 429, retryAfterS: 11.2 });
  assert.match(hint, /Wait 12 s, then try again\./);
  assert.equal(retryAt, 12200);
});

test("a rate limit without a time asks for a minute", () => {
  const { hint, retryAt } = explained("rate_limited", { status: 429 });
  assert.match(hint, /Wait a minute/);
  assert.equal(retryAt, null);
});

test("a cost no wait can pay leads to a new chat, not to a retry", () => {
  assert.equal(explained("over_limit", { status: 429 }).action, "new_chat");
});

for (const code of ["prompt_too_long", "max_length_exceeded", "body_too_large"]) {
  test(`${code} leads to a new chat`, () => {
    assert.equal(explained(code, { status: 400 }).action, "new_chat");
  });
}

test("a missing key leads to the key form, whatever the code", () => {
  assert.equal(explained("invalid_api_key", { status: 401 }).action, "api_key");
  assert.equal(explained("something", { status: 401 }).action, "api_key");
});

test("an unknown failure of the gateway shows its own sentence", () => {
  const { title, hint } = explained("brand_new", { status: 500 });
  assert.equal(title, "The gateway could not finish this answer.");
  assert.equal(hint, "What the gateway said.");
});

test("an unknown refusal shows the gateway's own sentence", () => {
  assert.equal(explained("brand_new", { status: 422 }).title, "The gateway did not accept this.");
});

test("a code that is a word of the language is no sentence", () => {
  assert.equal(explained("constructor", { status: 500 }).hint, "What the gateway said.");
});

test("a fault of the page itself does not show its innards", () => {
  const { title, hint } = explain(new RangeError("secret"), { missing: [], now: 0 });
  assert.doesNotMatch(title + hint, /secret|RangeError/);
});

test("the request id is kept for those who look for help", () => {
  assert.equal(explained("session_lost", { requestId: "r-1" }).requestId, "r-1");
});

const RETRYABLE = ["unreachable", "connection_lost", "session_lost", "no_capacity", "busy"];
RETRYABLE.push("overloaded", "draining", "deadline_exceeded", "peer_error", "peer_unreachable");
for (const code of RETRYABLE) {
  test(`${code} has a sentence of its own and a retry`, () => {
    const { title, hint, action } = explained(code);
    assert.doesNotMatch(title + hint, /what the gateway said/i);
    assert.equal(action, "retry");
  });
}
