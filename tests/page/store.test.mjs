// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";

import { messagesFor } from "../../static/chat/exchange.mjs";
import {
  canSend,
  createStore,
  initialState,
  isAnswering,
  lastExchange,
  needsClock,
} from "../../static/chat/store.mjs";
import { after, exchange, FAILURE, readyPage } from "./states.mjs";

/** @param {string} question @returns {import("./states.mjs").Action} */
const asked = (question) => ({ type: "questionSent", question, at: 100 });
/** @param {string} text @param {number} at @returns {import("./states.mjs").Action} */
const said = (text, at) => ({ type: "chatEvent", event: { type: "text", text }, at });

test("the first model is chosen, unless the remembered one is still served", () => {
  const models = [{ id: "a", isDemo: false }, { id: "b", isDemo: false }];
  const remembering = (/** @type {string} */ modelId) =>
    after(initialState({ modelId, exchanges: [] }), { type: "modelsLoaded", models }).modelId;

  assert.equal(remembering("b"), "b");
  assert.equal(remembering("gone"), "a");
});

test("nothing can be sent before the models are known, or while an answer is coming", () => {
  assert.equal(canSend(initialState(null)), false);
  assert.equal(canSend(readyPage()), true);
  assert.equal(canSend(after(readyPage(), asked("hi"))), false);
  assert.equal(after(readyPage(), asked("one"), asked("two")).exchanges.length, 1);
});

test("sending empties the draft; an unsent message keeps it", () => {
  const typed = after(readyPage(), { type: "draftChanged", draft: "hi" });
  assert.equal(after(typed, asked("hi")).draft, "");
  const early = after(typed, asked("hi"), { type: "draftChanged", draft: "next" }, asked("next"));
  assert.equal(early.draft, "next");
});

test("an answer grows, and remembers its first and latest text", () => {
  const state = after(readyPage(), asked("hi"), said("He", 400), said("llo", 450));

  assert.equal(lastExchange(state)?.answer, "Hello");
  assert.deepEqual(lastExchange(state)?.timing, {
    sentAt: 100,
    firstAt: 400,
    lastAt: 450,
    numChunks: 2,
    numTokens: null,
  });
});

test("what the model thinks is kept beside the answer, and is its first text", () => {
  const event = /** @type {const} */ ({ type: "thought", text: "Hm." });
  const state = after(readyPage(), asked("hi"), { type: "chatEvent", event, at: 300 }, said("Yes", 400));

  assert.equal(lastExchange(state)?.thought, "Hm.");
  assert.equal(lastExchange(state)?.answer, "Yes");
  assert.equal(lastExchange(state)?.timing.firstAt, 300);
});

test("the finish ends the timing, usage brings the count", () => {
  const state = after(
    readyPage(),
    asked("hi"),
    said("Hello", 400),
    { type: "chatEvent", event: { type: "finish", reason: "length" }, at: 500 },
    { type: "chatEvent", event: { type: "usage", completionTokens: 3 }, at: 501 },
    { type: "answerEnded" },
  );

  assert.equal(lastExchange(state)?.status, "done");
  assert.equal(lastExchange(state)?.finishReason, "length");
  assert.equal(lastExchange(state)?.timing.lastAt, 500);
  assert.equal(lastExchange(state)?.timing.numTokens, 3);
});

test("a stopped answer keeps its text and takes no more", () => {
  const stopped = after(readyPage(), asked("hi"), said("He", 1), { type: "answerStopped" });
  const state = after(stopped, said("llo", 2));

  assert.equal(lastExchange(state)?.status, "stopped");
  assert.equal(lastExchange(state)?.answer, "He");
});

test("a retry asks the same question anew and forgets the failure", () => {
  const running = after(readyPage(), asked("hi"), said("He", 1));
  const failed = after(running, { type: "answerFailed", failure: FAILURE });
  const state = after(failed, { type: "retried", at: 900 });

  assert.equal(state.exchanges.length, 1);
  assert.equal(lastExchange(state)?.question, "hi");
  assert.equal(lastExchange(state)?.answer, "");
  assert.equal(lastExchange(state)?.failure, null);
  assert.equal(lastExchange(state)?.timing.sentAt, 900);
});

test("a retry of nothing, or of a running answer, changes nothing", () => {
  const running = after(readyPage(), asked("hi"), said("He", 1));
  assert.equal(after(running, { type: "retried", at: 5 }), running);
  assert.deepEqual(after(readyPage(), { type: "retried", at: 5 }), readyPage());
});

test("the model reads alternating roles: exchanges without an answer are left out", () => {
  const state = after(
    readyPage(),
    ...exchange("one", "1"),
    asked("two"),
    { type: "answerFailed", failure: FAILURE },
    asked("three"),
  );

  assert.deepEqual(messagesFor(state.exchanges), [
    { role: "user", content: "one" },
    { role: "assistant", content: "1" },
    { role: "user", content: "three" },
  ]);
});

test("a new chat forgets the exchanges and keeps the model", () => {
  const state = after(
    readyPage(),
    { type: "modelChosen", modelId: "big" },
    ...exchange("one", "1"),
    { type: "chatCleared" },
  );

  assert.deepEqual(state.exchanges, []);
  assert.equal(state.modelId, "big");
});

test("after a reload a running answer has stopped and no wait is left", () => {
  const failure = { ...FAILURE, retryAt: 5000 };
  const running = after(readyPage(), asked("hi"), said("He", 1));
  const waiting = after(running, { type: "answerFailed", failure });

  assert.equal(lastExchange(initialState(running))?.status, "stopped");
  assert.equal(lastExchange(initialState(running))?.answer, "He");
  assert.equal(lastExchange(initialState(waiting))?.failure?.retryAt, null);
});

test("after a reload an answer that can go on is still in the making", () => {
  const running = after(readyPage(), asked("hi"), said("He", 1));
  const state = initialState({ ...running, resumeId: "g-1" });

  assert.equal(lastExchange(state)?.status, "streaming");
  assert.equal(lastExchange(state)?.notice?.type, "connection_lost");
  assert.equal(lastExchange(after(state, said("llo", 2)))?.answer, "Hello");
});

test("after a reload an answer that had ended has, whatever was kept of its stream", () => {
  const done = after(readyPage(), asked("hi"), said("He", 1), { type: "answerEnded" });

  assert.equal(lastExchange(initialState({ ...done, resumeId: "g-1" }))?.status, "done");
});

test("the clock is needed while something runs or counts down", () => {
  const running = after(readyPage(), asked("hi"));
  const waiting = after(running, { type: "answerFailed", failure: { ...FAILURE, retryAt: 5000 } });

  assert.equal(needsClock(readyPage()), false);
  assert.equal(needsClock(running), true);
  assert.equal(needsClock(waiting), true);
  assert.equal(needsClock(after(waiting, { type: "ticked", now: 5000 })), false);
});

test("a key that is asked for hides again when it is given", () => {
  const refused = after(readyPage(), { type: "keyAsked", isRefused: true });
  assert.equal(refused.keyForm, "refused");
  assert.equal(after(refused, { type: "keySaved" }).keyForm, "hidden");
});

test("listeners hear each change, with the state after it", () => {
  const store = createStore(readyPage());
  /** @type {boolean[]} */
  const heard = [];
  store.subscribe((state) => heard.push(isAnswering(state)));

  store.dispatch(asked("hi"));
  store.dispatch({ type: "answerStopped" });

  assert.deepEqual(heard, [true, false]);
});
