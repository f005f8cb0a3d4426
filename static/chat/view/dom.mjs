// @ts-check
/** What all views need: finding and making elements, drawing what changed, placing the focus. */

/** @typedef {import("../types.mjs").State} State */

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | boolean>} [attributes] true means present, false absent
 * @param {...(Node | string)} children strings become text, never markup
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/**
 * An element of index.html.
 *
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function byId(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`index.html has no ${kind.name} #${id}`);
  return element;
}

/**
 * @template {unknown[] | []} T
 * @param {(state: State) => T} select what the apply function needs
 * @param {(...values: T) => void} apply
 * @returns {(state: State) => void} calls apply when one of the selected values is another
 */
export function whenChanged(select, apply) {
  /** @type {T | null} */
  let last = null;
  return (state) => {
    const values = select(state);
    if (last?.every((value, index) => Object.is(value, values[index]))) return;
    last = values;
    apply(...values);
  };
}

/**
 * Put the focus where the next message is written. A touch screen would slide its keyboard over
 * the answer: there the conversation takes the focus.
 */
export function focusMessage() {
  const canHover = matchMedia("(hover: hover)").matches;
  byId(canHover ? "message" : "conversation", HTMLElement).focus();
}
