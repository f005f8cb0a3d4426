// @ts-check
/** What the swarm looks like to a person: names, ranges, coverage, health. Pure. */

/**
 * @typedef {import("./types.mjs").BlockRange} BlockRange
 * @typedef {import("./types.mjs").Server} Server
 * @typedef {import("./types.mjs").State} State
 * @typedef {import("./types.mjs").SwarmModel} SwarmModel
 */

/** @typedef {{ level: "unknown" | "good" | "warning" | "bad" | "lost", text: string }} Health */

/** @param {State} state @returns {SwarmModel | null} the chosen model's part of the swarm */
export function chosenSwarm({ swarm, modelId }) {
  return swarm?.models.find((model) => model.id === modelId) ?? null;
}

/** @param {BlockRange} range @returns {string} `blocks 4–7`, or `block 4`; blocks count from 0 */
export function rangeText([start, end]) {
  return end - start === 1 ? `block ${start}` : `blocks ${start}–${end - 1}`;
}

/** @param {BlockRange[]} ranges @returns {string} `blocks 0–1, blocks 4–7 and block 9` */
export function rangesText(ranges) {
  const texts = ranges.map(rangeText);
  const last = texts.pop() ?? "";
  return texts.length > 0 ? `${texts.join(", ")} and ${last}` : last;
}

/** @param {Server} server @returns {string} its own name, or the end of its peer id */
export function serverName({ name, peerId }) {
  return name ?? `…${peerId.slice(-6)}`;
}

/** @param {Server} server */
export function isServing({ state, isBanned }) {
  return state === "online" && !isBanned;
}

/**
 * Who holds each block: the index of the first server that serves it, or null.
 *
 * @param {SwarmModel} model
 * @returns {(number | null)[]} one entry per block
 */
export function coverage({ numBlocks, servers }) {
  /** @type {(number | null)[]} */
  const holders = Array(numBlocks).fill(null);
  servers.forEach((server, index) => {
    if (!isServing(server)) return;
    for (let block = server.blocks[0]; block < Math.min(server.blocks[1], numBlocks); block++) {
      holders[block] ??= index;
    }
  });
  return holders;
}

/**
 * The status line. Missing blocks come before a failing canary, which they explain.
 *
 * @param {State} state
 * @returns {Health}
 */
export function healthOf(state) {
  if (state.keyForm !== "hidden") return { level: "warning", text: "API key needed" };
  if (state.isReachable === false) return { level: "lost", text: "Gateway not reachable" };
  const model = chosenSwarm(state);
  if (state.swarm === null && state.isReady !== null) {
    return state.isReady ? { level: "good", text: "Ready" } : { level: "warning", text: "Warming up" };
  }
  if (model === null) return { level: "unknown", text: "Looking at the swarm…" };
  if (model.missing.length > 0) {
    const text = rangesText(model.missing);
    return { level: "bad", text: `Not complete: ${text} missing` };
  }
  const numServers = model.servers.filter(isServing).length;
  const servers = numServers === 1 ? "1 server" : `${numServers} servers`;
  const text = `${servers}, all ${model.numBlocks} blocks`;
  if (!state.isReady) return { level: "warning", text: `Warming up: ${text}` };
  return { level: "good", text: `Ready: ${text}` };
}

/**
 * The command that would fill the first gap.
 *
 * @param {SwarmModel} model has missing blocks
 * @param {string[]} maddrs of the gateway
 * @returns {string}
 */
export function serveCommand({ missing: [[start, end]], dhtPrefix }, maddrs) {
  const peers = maddrs.length > 0 ? ` --initial-peers ${maddrs[0]}` : "";
  return `swarmgate serve MODEL --blocks ${start}:${end} --dht-prefix ${dhtPrefix}${peers}`;
}
