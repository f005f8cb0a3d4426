// @ts-check
/** The status line and, behind it, the servers and their blocks. */

import { isAnswering } from "../store.mjs";
import {
  chosenSwarm,
  coverage,
  healthOf,
  isServing,
  rangesText,
  rangeText,
  serveCommand,
  serverName,
} from "../swarm.mjs";
import { byId, h, whenChanged } from "./dom.mjs";
import { hue, ribbon } from "./ribbon.mjs";

/**
 * @typedef {import("../types.mjs").Actions} Actions
 * @typedef {import("../types.mjs").Server} Server
 * @typedef {import("../types.mjs").State} State
 * @typedef {import("../types.mjs").SwarmModel} SwarmModel
 */

/** @param {Server} server @returns {string} what there is to know besides name and blocks */
function factsText(server) {
  const facts = [server.isBanned ? "resting after a failure" : server.state];
  if (server.pingMs !== null) {
    facts.push(`${server.pingMs.toFixed(server.pingMs < 10 ? 1 : 0)} ms away`);
  }
  if (server.tokensLeft !== null) {
    facts.push(`room for ${server.tokensLeft.toLocaleString("en")} tokens`);
  }
  return facts.join(" · ");
}

/** @param {Server} server @param {number} index @param {number} numBlocks @returns {HTMLElement} */
function serverRow(server, index, numBlocks) {
  const [start, end] = server.blocks;
  const held = Array.from({ length: numBlocks }, (_, block) =>
    block >= start && block < end ? index : null,
  );
  return h(
    "li",
    { class: isServing(server) ? "server" : "server is-away" },
    h("span", { class: `swatch ${hue(index)}`, "aria-hidden": "true" }),
    h("span", { class: "server-name", title: server.peerId }, serverName(server)),
    h("span", { class: "server-blocks" }, rangeText(server.blocks)),
    ribbon(held),
    h("span", { class: "server-facts" }, factsText(server)),
  );
}

/** @param {SwarmModel | null} model @returns {string} */
function aboutText(model) {
  if (model === null) return "";
  return (
    `${model.id} has ${model.numBlocks} blocks, counted from 0. ` +
    "Each token of an answer passes through all of them, from server to server."
  );
}

/** @param {State} state @returns {[about: string, command: string]} empty without a gap */
function gapTexts(state) {
  const model = chosenSwarm(state);
  if (model === null || model.missing.length === 0) return ["", ""];
  const about = `Nobody serves ${rangesText(model.missing)}. To lend a machine:`;
  return [about, serveCommand(model, state.swarm?.maddrs ?? [])];
}

/** Parts are drawn apart, so that a command half selected survives the next look at the swarm. */
function createPanelView() {
  const about = byId("swarm-about", HTMLElement);
  const servers = byId("swarm-servers", HTMLElement);
  const gap = byId("swarm-gap", HTMLElement);
  const gapAbout = byId("swarm-gap-about", HTMLElement);
  const gapCommand = byId("swarm-gap-command", HTMLElement);
  const showServers = whenChanged(
    (state) => [chosenSwarm(state)],
    (model) => {
      about.textContent = aboutText(model);
      const rows = model?.servers.map((server, i) => serverRow(server, i, model.numBlocks)) ?? [];
      servers.replaceChildren(...rows);
    },
  );
  const showGap = whenChanged(gapTexts, (words, command) => {
    gap.hidden = command === "";
    gapAbout.textContent = words;
    gapCommand.textContent = command;
  });
  return [showServers, showGap];
}

/**
 * @param {Actions} actions
 * @returns {(state: State) => void}
 */
export function createSwarmView(actions) {
  const toggle = byId("swarm-status", HTMLButtonElement);
  const text = byId("swarm-status-text", HTMLElement);
  const picture = byId("swarm-ribbon", HTMLElement);
  const panel = byId("swarm-panel", HTMLElement);
  toggle.addEventListener("click", actions.toggleSwarm);

  const health = whenChanged(
    (state) => [healthOf(state).level, healthOf(state).text],
    (level, words) => {
      toggle.dataset.level = level;
      text.textContent = words;
    },
  );
  const content = whenChanged(
    (state) => [chosenSwarm(state)],
    (model) => {
      toggle.disabled = model === null;
      picture.replaceChildren(...(model === null ? [] : [ribbon(coverage(model))]));
    },
  );
  const openness = whenChanged(
    (state) => [state.isSwarmOpen && chosenSwarm(state) !== null],
    (isOpen) => {
      toggle.setAttribute("aria-expanded", String(isOpen));
      panel.hidden = !isOpen;
    },
  );
  const work = whenChanged(
    (state) => [isAnswering(state)],
    (isWorking) => void picture.classList.toggle("is-working", isWorking),
  );
  const parts = [health, content, openness, work, ...createPanelView()];
  return (state) => parts.forEach((render) => render(state));
}
