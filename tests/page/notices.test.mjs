// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";

import { noticeText } from "../../static/chat/notices.mjs";
import { lastExchange } from "../../static/chat/store.mjs";
import { after, readyPage } from "./states.mjs";

/** @typedef {import("../../static/chat/types.mjs").Action} Action */

/** @param {string} type @param {number | null} [leftS] */
const notice = (type, leftS = null) =>
  ({ type, blocks: /** @type {[number, number][]} */ ([[8, 16]]), leftS });
/** @type {Action} */
const ASKED = { type: "questionSent", question: "hi", at: 0 };
/** @param {string} type @returns {Action} */
const told = (type) => ({
  type: "chatEvent",
  event: { type: "notice", notice: notice(type) },
  at: 1,
});

test("each notice is one line for a person", () => {
  assert.equal(noticeText(notice("hop_lost")), "A server left, restoring blocks 8–15…");
  assert.equal(
    noticeText(notice("waiting_for_blocks", 29.2)),
    "Waiting for blocks 8–15, for at most 30 s: nobody serves them now.",
  );
  assert.equal(noticeText(notice("connection_lost")), "Connection lost, connecting again…");
  assert.equal(noticeText(notice("hop_restored")), "");
  assert.equal(noticeText(notice("something_new")), "");
});

test("a notice holds until the next one, or the next text", () => {
  const waiting = after(readyPage(), ASKED, told("waiting_for_blocks"));
  assert.equal(lastExchange(waiting)?.notice?.type, "waiting_for_blocks");

  const restored = after(waiting, told("hop_restored"));
  assert.equal(lastExchange(restored)?.notice?.type, "hop_restored");

  const going = after(waiting, { type: "chatEvent", event: { type: "text", text: "a" }, at: 2 });
  assert.equal(lastExchange(going)?.notice, null);
});

test("nothing is awaited any more once an answer has ended", () => {
  for (const type of /** @type {const} */ (["answerEnded", "answerStopped"])) {
    const state = after(readyPage(), ASKED, told("hop_lost"), { type });
    assert.equal(lastExchange(state)?.notice, null);
  }
});
