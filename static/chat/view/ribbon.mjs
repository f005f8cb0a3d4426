// @ts-check
/** The model as a row of blocks, each in the colour of the server that holds it. */

import { h } from "./dom.mjs";

const NUM_HUES = 6;

/** @param {number} serverIndex @returns {string} class of a server's colour */
export function hue(serverIndex) {
  return `hue-${serverIndex % NUM_HUES}`;
}

/**
 * A picture beside text that says the same, so it is hidden from screen readers.
 *
 * @param {(number | null)[]} holders server index of each block; null draws a gap
 * @returns {HTMLElement}
 */
export function ribbon(holders) {
  const cells = holders.map((holder) =>
    h("span", { class: `cell ${holder === null ? "gap" : hue(holder)}` }),
  );
  const density = holders.length > 40 ? " dense" : "";
  return h("span", { class: `ribbon${density}`, "aria-hidden": "true" }, ...cells);
}
