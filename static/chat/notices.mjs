// @ts-check
/** What a person is told while the swarm or the connection is being repaired. Pure. */

import { rangesText } from "./swarm.mjs";

/** @typedef {import("./types.mjs").Notice} Notice */

/** @param {Notice} notice @returns {string} one line; empty when all is well again */
export function noticeText({ type, blocks, leftS }) {
  switch (type) {
    case "hop_lost":
      return `A server left, restoring ${rangesText(blocks)}…`;
    case "waiting_for_blocks": {
      const until = leftS === null ? "" : `, for at most ${Math.ceil(leftS)} s`;
      return `Waiting for ${rangesText(blocks)}${until}: nobody serves them now.`;
    }
    case "connection_lost":
      return "Connection lost, connecting again…";
    default:
      return "";
  }
}
