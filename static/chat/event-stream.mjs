// @ts-check
/** Server-sent events out of a fetch body; knows nothing of chats. */

// A CR that ends the text so far may be the first half of a CRLF: it waits for the next chunk.
const LINE_END = /\r\n|\n|\r(?=[^])/;

/**
 * @typedef {object} StreamEvent
 * @property {string | null} data null for a comment
 * @property {string} comment empty for an event
 * @property {string} id the latest one of the stream; empty before the first
 */

/**
 * Yield the events and comments of a stream.
 *
 * Chunks end anywhere, even inside a character or a line end. Fields other than `data` and `id` are
 * passed over; an event that the stream's end cuts off is dropped, and so is its id.
 *
 * @param {ReadableStream<Uint8Array>} body is cancelled when the caller leaves early
 * @returns {AsyncGenerator<StreamEvent, void, void>}
 */
export async function* streamEvents(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let pending = "";
  let id = "";
  let nextId = "";
  /** @type {string[]} */
  let data = [];
  try {
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      pending += decoder.decode(chunk.value, { stream: true });
      const lines = pending.split(LINE_END);
      pending = lines.pop() ?? "";
      for (const line of lines) {
        if (line === "") {
          id = nextId;
          if (data.length > 0) yield { data: data.join("\n"), comment: "", id };
          data = [];
        } else if (line.startsWith(":")) {
          yield { data: null, comment: line.slice(1).trimStart(), id };
        } else if (line.startsWith("data:")) {
          data.push(line.slice(line.startsWith("data: ") ? 6 : 5));
        } else if (line.startsWith("id:")) {
          nextId = line.slice(3).trim();
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => {}); // fails if the stream has failed
  }
}
