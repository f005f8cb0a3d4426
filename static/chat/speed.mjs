// @ts-check
/** How fast an answer came, from its timing. Pure. */

/** @typedef {import("./types.mjs").Timing} Timing */

/**
 * @typedef {object} Speed
 * @property {number | null} tokensPerS between the first text and the last
 * @property {number | null} firstTokenMs from sending to the first text
 * @property {number} numTokens
 * @property {boolean} isExact counted by the gateway, else estimated from the pieces of text
 */

/** Pieces that waited for the browser arrive together: a shorter time says nothing of the swarm. */
const LEAST_MS = 20;

/**
 * The first token is left out of the rate: its time is the prompt's, told by `firstTokenMs`.
 *
 * @param {Timing} timing
 * @returns {Speed}
 */
export function speedOf({ sentAt, firstAt, lastAt, numChunks, numTokens }) {
  const counted = numTokens ?? numChunks;
  const tookMs = firstAt === null || lastAt === null ? 0 : lastAt - firstAt;
  // One piece of text has no duration, whatever number of tokens it carries.
  const hasRate = numChunks > 1 && counted > 1 && tookMs >= LEAST_MS;
  return {
    tokensPerS: hasRate ? ((counted - 1) * 1000) / tookMs : null,
    firstTokenMs: firstAt === null ? null : firstAt - sentAt,
    numTokens: counted,
    isExact: numTokens !== null,
  };
}

/** @param {number} tookMs @returns {string} `310 ms` or `1.2 s` */
export function durationText(tookMs) {
  return tookMs < 999.5 ? `${Math.round(tookMs)} ms` : `${(tookMs / 1000).toFixed(1)} s`;
}

/**
 * One line for a person; an estimate carries `≈`.
 *
 * @param {Timing} timing
 * @returns {string} empty before the first text
 */
export function speedText(timing) {
  const { tokensPerS, firstTokenMs, numTokens, isExact } = speedOf(timing);
  if (firstTokenMs === null) return "";
  const about = isExact ? "" : "≈ ";
  const parts = [
    `${about}${numTokens} ${numTokens === 1 ? "token" : "tokens"}`,
    `first after ${durationText(firstTokenMs)}`,
  ];
  if (tokensPerS !== null) {
    parts.unshift(`${about}${tokensPerS.toFixed(tokensPerS < 9.95 ? 1 : 0)} tokens/s`);
  }
  return parts.join(" · ");
}
