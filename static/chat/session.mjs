// @ts-check
/** What the tab remembers: the conversation over a reload, and the API key. Gone with the tab. */

/** @typedef {import("./store.mjs").Saved} Saved */

const CHAT = "swarmgate.chat";
const API_KEY = "swarmgate.api_key";

/**
 * A browser may refuse to store (full, or blocked): the page then forgets on reload, and works.
 *
 * @template T
 * @param {() => T} access
 * @returns {T | null}
 */
function ifAllowed(access) {
  try {
    return access();
  } catch {
    return null;
  }
}

/** @returns {Saved | null} */
export function loadChat() {
  return ifAllowed(() => JSON.parse(sessionStorage.getItem(CHAT) ?? "null"));
}

/** @param {Saved} saved */
export function saveChat({ exchanges, modelId, resumeId }) {
  ifAllowed(() => sessionStorage.setItem(CHAT, JSON.stringify({ exchanges, modelId, resumeId })));
}

/** @returns {string | null} */
export function loadApiKey() {
  return ifAllowed(() => sessionStorage.getItem(API_KEY));
}

/** @param {string} key */
export function saveApiKey(key) {
  ifAllowed(() => sessionStorage.setItem(API_KEY, key));
}
