// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";

import { announcement } from "../../static/chat/announcements.mjs";
import {
  coverage,
  healthOf,
  rangesText,
  serveCommand,
  serverName,
} from "../../static/chat/swarm.mjs";
import { after, exchange, readyPage, seen, server, swarmModel } from "./states.mjs";

test("ranges read as a person counts: both ends are named", () => {
  assert.equal(rangesText([[4, 8]]), "blocks 4–7");
  assert.equal(rangesText([[4, 5]]), "block 4");
  assert.equal(rangesText([[0, 2], [4, 5], [6, 8]]), "blocks 0–1, block 4 and blocks 6–7");
});

test("a server without a name is known by the end of its peer id", () => {
  assert.equal(serverName(server({ name: "desk" })), "desk");
  assert.equal(serverName(server()), "…123456");
});

test("a block belongs to the first server that serves it", () => {
  const servers = [server({ blocks: [0, 4] }), server({ blocks: [2, 6] })];
  assert.deepEqual(coverage(swarmModel({ servers })), [0, 0, 0, 0, 1, 1, null, null]);
});

test("servers that are joining, leaving or banned hold nothing", () => {
  const servers = [
    server({ state: "joining" }),
    server({ state: "offline" }),
    server({ isBanned: true }),
    server({ blocks: [2, 3] }),
  ];
  assert.deepEqual(coverage(swarmModel({ numBlocks: 4, servers })), [null, null, 3, null]);
});

test("a server that claims blocks the model lacks does not widen the picture", () => {
  assert.equal(coverage(swarmModel({ numBlocks: 2, servers: [server()] })).length, 2);
});

test("the status line says ready only when the canary came back", () => {
  assert.deepEqual(healthOf(after(readyPage(), seen())), {
    level: "good",
    text: "Ready: 2 servers, all 8 blocks",
  });
  assert.equal(healthOf(after(readyPage(), seen({}, false))).level, "warning");
});

test("missing blocks are named in the status line", () => {
  const health = healthOf(after(readyPage(), seen({ missing: [[4, 8]] }, false)));
  assert.deepEqual(health, { level: "bad", text: "Not complete: blocks 4–7 missing" });
});

test("a gateway that does not answer outweighs what it said before", () => {
  assert.equal(healthOf(after(readyPage(), seen(), { type: "gatewayLost" })).level, "lost");
  assert.equal(healthOf(after(readyPage(), { type: "gatewayLost" }, seen())).level, "good");
});

test("a swarm that this key may not see is ready or not", () => {
  /** @param {boolean} isReady */
  const looked = (isReady) =>
    healthOf(after(readyPage(), { type: "swarmSeen", swarm: null, isReady }));

  assert.deepEqual(looked(true), { level: "good", text: "Ready" });
  assert.deepEqual(looked(false), { level: "warning", text: "Warming up" });
});

test("before the first look nothing is claimed", () => {
  assert.equal(healthOf(readyPage()).level, "unknown");
});

test("the command fills the first gap of this swarm", () => {
  const model = swarmModel({ missing: [[2, 4], [6, 8]], dhtPrefix: "tiny" });
  assert.equal(
    serveCommand(model, ["/ip4/10.0.0.1/tcp/1/p2p/Qm"]),
    "swarmgate serve MODEL --blocks 2:4 --dht-prefix tiny --initial-peers /ip4/10.0.0.1/tcp/1/p2p/Qm",
  );
});

test("a screen reader hears an answer once, when it is whole", () => {
  const [asked, said, ended] = exchange("hi", "Hello.");
  const states = [readyPage()];
  for (const action of [asked, said, said, ended]) {
    states.push(after(states[states.length - 1], action));
  }

  const heard = states.slice(1).map((state, index) => announcement(states[index], state));

  assert.deepEqual(heard, ["The model is answering.", null, null, "Answer: Hello.Hello."]);
});

test("a screen reader hears when the swarm turns, not at each look", () => {
  const good = after(readyPage(), seen());
  const bad = after(good, seen({ missing: [[4, 8]] }));

  assert.equal(announcement(good, after(good, seen())), null);
  assert.equal(announcement(good, bad), "Not complete: blocks 4–7 missing");
});
