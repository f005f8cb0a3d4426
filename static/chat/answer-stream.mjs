// @ts-check
/** One answer over any number of connections: every piece of it once, in order. */

import { streamEvents } from "./event-stream.mjs";
import { errorFrom, GatewayError } from "./gateway-error.mjs";

/**
 * @typedef {import("./types.mjs").ChatEvent} ChatEvent
 * @typedef {import("./types.mjs").Notice} Notice
 */

const FIRST_PAUSE_MS = 250;
const LAST_PAUSE_MS = 4000;
/** Tries in a row without a single event; with the pauses above, about a minute. */
const MAX_TRIES = 18;
/** What a stream may end with although the answer has not. */
const RESUMABLE = new Set(["connection_lost", "handed_over", "unreachable"]);

/** @param {any} chunk one `chat.completion.chunk` @returns {Generator<ChatEvent>} */
function* eventsOf(chunk) {
  const choice = chunk.choices?.[0];
  const thought = choice?.delta?.reasoning_content;
  if (thought) yield { type: "thought", text: thought };
  if (choice?.delta?.content) yield { type: "text", text: choice.delta.content };
  if (choice?.finish_reason) yield { type: "finish", reason: choice.finish_reason };
  if (chunk.usage) yield { type: "usage", completionTokens: chunk.usage.completion_tokens };
}

/** @param {string} comment @returns {Notice | null} news of the swarm, if it is that */
function noticeOf(comment) {
  if (!comment.startsWith("swarm ")) return null;
  const { type, blocks, left_s: leftS = null } = JSON.parse(comment.slice(6));
  return { type, blocks, leftS };
}

/**
 * @param {ReadableStream<Uint8Array>} body
 * @param {(id: string) => void} [mark] is told the id of each event, once its content was taken
 * @param {string | null} [requestId] what the gateway's log calls this
 * @returns {AsyncGenerator<ChatEvent, void, void>}
 */
export async function* chatEvents(body, mark = () => {}, requestId = null) {
  try {
    for await (const { data, comment, id } of streamEvents(body)) {
      if (data === "[DONE]") return;
      if (data === null) {
        const notice = noticeOf(comment);
        if (notice !== null) yield { type: "notice", notice };
        continue;
      }
      const chunk = JSON.parse(data);
      if (chunk.error) throw errorFrom({ request_id: requestId, ...chunk.error });
      if (id !== "") mark(id); // before the content: whoever leaves there has taken it
      yield* eventsOf(chunk);
    }
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // fetch's word for a broken connection
  }
  throw new GatewayError("connection_lost", "");
}

/**
 * @param {Response} response
 * @param {(id: string) => void} mark see `chatEvents`
 * @returns {Promise<AsyncIterable<ChatEvent> | ChatEvent[]>}
 */
async function eventsIn(response, mark) {
  if (response.status === 204) return []; // all was told
  if (response.ok && response.body !== null) {
    return chatEvents(response.body, mark, response.headers.get("x-request-id"));
  }
  throw errorFrom((await response.json().catch(() => null))?.error, response);
}

/** @param {unknown} error @returns {boolean} whether asking again may help */
function isResumable(error) {
  if (!(error instanceof GatewayError)) return false;
  return RESUMABLE.has(error.code) || (error.status ?? 0) >= 500;
}

/**
 * Leaving early ends the generation.
 *
 * @param {object} means
 * @param {() => Promise<Response>} means.open asks the question
 * @param {(id: string) => Promise<Response>} means.reopen asks for what comes behind an event
 * @param {(id: string) => Promise<Response>} means.end tells that nothing more is wanted
 * @param {(ms: number) => Promise<void>} means.wait
 * @param {string} [means.seenId] of the last event that is known already, for one that goes on
 * @param {(id: string) => void} [means.mark] is told the id of each event
 * @returns {AsyncGenerator<ChatEvent, void, void>}
 */
export async function* resumableAnswer({ open, reopen, end, wait, seenId = "", mark = () => {} }) {
  let lastId = seenId;
  const note = (/** @type {string} */ id) => mark((lastId = id));
  let numTries = 0;
  let isOver = false;
  try {
    for (;;) {
      try {
        const response = await (lastId === "" ? open() : reopen(lastId));
        for await (const event of await eventsIn(response, note)) {
          numTries = 0;
          yield event;
        }
        isOver = true;
        return;
      } catch (error) {
        isOver = lastId === "" || !isResumable(error) || ++numTries > MAX_TRIES;
        if (isOver) throw error;
      }
      yield { type: "notice", notice: { type: "connection_lost", blocks: [], leftS: null } };
      await wait(Math.min(LAST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (numTries - 1)));
    }
  } finally {
    if (!isOver && lastId !== "") end(lastId).catch(() => {});
  }
}
