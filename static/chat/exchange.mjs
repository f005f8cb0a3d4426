// @ts-check
/** One question and its answer: how it begins, grows, ends, and what the model reads. Pure. */

/**
 * @typedef {import("./types.mjs").ChatEvent} ChatEvent
 * @typedef {import("./types.mjs").Exchange} Exchange
 * @typedef {import("./types.mjs").Message} Message
 */

/**
 * @param {{ id: number, modelId: string, question: string, at: number }} facts
 * @returns {Exchange}
 */
export function begin({ id, modelId, question, at }) {
  return {
    id,
    modelId,
    question,
    thought: "",
    answer: "",
    status: "streaming",
    timing: { sentAt: at, firstAt: null, lastAt: null, numChunks: 0, numTokens: null },
    finishReason: null,
    notice: null,
    failure: null,
  };
}

/**
 * @param {Exchange} exchange
 * @param {ChatEvent} event
 * @param {number} at
 * @returns {Exchange}
 */
export function take(exchange, event, at) {
  const { timing } = exchange;
  switch (event.type) {
    case "thought":
    case "text": {
      const part = event.type === "text" ? "answer" : "thought";
      return {
        ...exchange,
        notice: null,
        [part]: exchange[part] + event.text,
        timing: {
          ...timing,
          firstAt: timing.firstAt ?? at,
          lastAt: at,
          numChunks: timing.numChunks + 1,
        },
      };
    }
    case "finish": {
      const lastAt = timing.firstAt === null ? null : at;
      return {
        ...exchange,
        notice: null,
        finishReason: event.reason,
        timing: { ...timing, lastAt },
      };
    }
    case "usage":
      return { ...exchange, timing: { ...timing, numTokens: event.completionTokens } };
    case "notice":
      return { ...exchange, notice: event.notice };
  }
}

/**
 * The exchange after the page was left: an answer in the making has stopped, a wait is over.
 *
 * @param {Exchange} exchange
 * @returns {Exchange}
 */
export function settled(exchange) {
  const failure = exchange.failure && { ...exchange.failure, retryAt: null };
  const status = exchange.status === "streaming" ? "stopped" : exchange.status;
  const thought = exchange.thought ?? ""; // pages of before did not keep it
  return { ...exchange, thought, status, notice: null, failure };
}

/**
 * An answer in the making, which the page goes on with after it was loaded again.
 *
 * @param {Exchange} exchange
 * @returns {Exchange}
 */
export function resuming(exchange) {
  return { ...exchange, notice: { type: "connection_lost", blocks: [], leftS: null } };
}

/**
 * What the model reads: roles alternate, so an exchange without an answer is left out, except the
 * last one, which is being asked.
 *
 * @param {Exchange[]} exchanges ends with the one to be answered
 * @returns {Message[]}
 */
export function messagesFor(exchanges) {
  const answered = exchanges.slice(0, -1).filter(({ answer }) => answer !== "");
  /** @type {Message[]} */
  const messages = answered.flatMap(({ question, answer }) => [
    { role: "user", content: question },
    { role: "assistant", content: answer },
  ]);
  return [...messages, { role: "user", content: exchanges[exchanges.length - 1].question }];
}
