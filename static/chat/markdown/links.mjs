// @ts-check
/** Links in Markdown, named or bare. They lead to pages of the web and to letters only. Pure. */

/** `end` is where the text goes on. @typedef {{ url: string, label: string, end: number }} Link */

const NAMED = /!?\[([^[\]\n]{0,500})\]\(([^\s<>()]{1,2000})(?:\s+"[^"\n]{0,500}")?\)/y;
const BARE = /https?:\/\/[^\s<>"'`*]{1,2000}/y;
const BEHIND = /[.,;:!?)\]]{1,9}$/;
const PROTOCOLS = ["http:", "https:", "mailto:"];

/** Pictures are links, too: the page loads nothing. @param {string} text @param {number} at @returns {Link | null} */
export function namedLinkAt(text, at) {
  const match = matchAt(NAMED, text, at);
  const url = match && safeUrl(match[2]);
  if (!match || !url) return null;
  return { url, label: match[1] || url, end: at + match[0].length };
}

/** What ends the sentence around it is no part of it. @param {string} text @param {number} at @returns {Link | null} */
export function bareLinkAt(text, at) {
  const label = matchAt(BARE, text, at)?.[0].replace(BEHIND, "");
  const url = label && safeUrl(label);
  return label && url ? { url, label, end: at + label.length } : null;
}

/** @param {RegExp} pattern is sticky @param {string} text @param {number} at */
export function matchAt(pattern, text, at) {
  pattern.lastIndex = at;
  return pattern.exec(text);
}

/** @param {string} text @returns {string | null} */
function safeUrl(text) {
  const url = URL.canParse(text) ? new URL(text) : null;
  return url !== null && PROTOCOLS.includes(url.protocol) ? url.href : null;
}
