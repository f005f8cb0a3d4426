// @ts-check
/** Server-sent events out of a fetch body; knows nothing of chats. */

// A CR that ends the text so far may be the first half of a CRLF: it waits for the next chunk.
const LINE_END = /\r\n|\n|\r(?=[^])/;

/**
 * Yield the data of each server-sent event.
 *
 * Chunks end anywhere, even inside a character or a line end. Comments and fields other than
 * `data` are passed over; an event that the stream's end cuts off is dropped.
 *
 * @param {ReadableStream<Uint8Array>} body is cancelled when the caller leaves early
 * @returns {AsyncGenerator<string, void, void>}
 */
export async function* eventData(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let pending = "";
  /** @type {string[]} */
  let data = [];
  try {
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      pending += decoder.decode(chunk.value, { stream: true });
      const lines = pending.split(LINE_END);
      pending = lines.pop() ?? "";
      for (const line of lines) {
        if (line === "" && data.length > 0) {
          yield data.join("\n");
          data = [];
        } else if (line.startsWith("data:")) {
          data.push(line.slice(line.startsWith("data: ") ? 6 : 5));
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => {}); // stops the generation; fails if the stream has failed
  }
}
