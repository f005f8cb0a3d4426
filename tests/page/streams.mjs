// @ts-check
/** Response bodies in pieces, and the data of the events in them. */

/** @param {Uint8Array[]} chunks @returns {ReadableStream<Uint8Array>} */
export function bodyOf(chunks) {
  return new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(chunk);
      controller.close();
    },
  });
}

/** @param {string} text @returns {Uint8Array} */
export function bytes(text) {
  return new TextEncoder().encode(text);
}

/** @template T @param {AsyncIterable<T>} items @returns {Promise<T[]>} */
export async function collect(items) {
  const collected = [];
  for await (const item of items) collected.push(item);
  return collected;
}
