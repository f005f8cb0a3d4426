// @ts-check
/**
 * What stands within a line of Markdown: code, emphasis, links. Pure.
 *
 * Marks without a partner are text, so an answer in the making reads well. A failed search for a
 * partner is not done again further on, and depth is bounded: hostile text costs no more than long
 * text.
 */

import { bareLinkAt, matchAt, namedLinkAt } from "./links.mjs";

/**
 * @typedef {{ kind: "text", text: string }
 *   | { kind: "code", text: string }
 *   | { kind: "strong" | "emphasis" | "struck", spans: Span[] }
 *   | { kind: "link", url: string, spans: Span[] }} Span
 */

const MAX_DEPTH = 6;
const SPECIAL = /[\\`*_~[!]|https?:\/\//g;
const ESCAPED = /\\[!-/:-@[-`{-~]/y;
const TICKS = /`+/y;
/** @type {["**" | "__" | "~~" | "*" | "_", "strong" | "emphasis" | "struck"][]} */
const MARKS = [
  ["**", "strong"],
  ["__", "strong"],
  ["~~", "struck"],
  ["*", "emphasis"],
  ["_", "emphasis"],
];
const BLANK = /\s/;
const WORD = /[\p{L}\p{N}]/u;

/** @param {string} text @param {number} [depth] @returns {Span[]} */
export function parseSpans(text, depth = 0) {
  /** @type {Span[]} */
  const spans = [];
  /** Marks that have no partner from here on. @type {Set<string>} */
  const lonely = new Set();
  let done = 0;
  /** @param {number} end */
  const passText = (end) => {
    if (end > done) spans.push({ kind: "text", text: text.slice(done, end) });
  };
  SPECIAL.lastIndex = 0;
  for (let match = SPECIAL.exec(text); match !== null; match = SPECIAL.exec(text)) {
    const found = spanAt(text, match.index, depth, lonely);
    if (found === null) continue;
    passText(match.index);
    if (found.span !== null) spans.push(found.span);
    done = found.end;
    SPECIAL.lastIndex = found.next ?? done;
  }
  passText(text.length);
  return spans;
}

/** `next` is where to look for further spans. @typedef {{ span: Span | null, end: number, next?: number }} Found */

/** @param {string} text @param {number} at @param {number} depth @param {Set<string>} lonely @returns {Found | null} */
function spanAt(text, at, depth, lonely) {
  const first = text[at];
  if (first === "\\") {
    // The mark behind it stays, as text.
    return matchAt(ESCAPED, text, at) && { span: null, end: at + 1, next: at + 2 };
  }
  if (first === "`") return codeAt(text, at, lonely);
  if (first === "[" || first === "!" || first === "h") return linkAt(text, at);
  return depth < MAX_DEPTH ? markedAt(text, at, depth, lonely) : null;
}

/** @param {string} text @param {number} at @param {Set<string>} lonely @returns {Found} */
function codeAt(text, at, lonely) {
  const ticks = ticksAt(text, at);
  const start = at + ticks.length;
  const end = codeEnd(text, at, lonely);
  if (end === null) return { span: { kind: "text", text: ticks }, end: start };
  const code = text.slice(start, end - ticks.length);
  return { span: { kind: "code", text: code.trim() || code }, end };
}

/** Where code ends that begins here; null if it does not. @param {string} text @param {number} at @param {Set<string>} lonely */
function codeEnd(text, at, lonely) {
  const ticks = ticksAt(text, at);
  let end = lonely.has(ticks) ? -1 : text.indexOf(ticks, at + ticks.length);
  while (end >= 0 && text[end + ticks.length] === "`") {
    end = text.indexOf(ticks, end + ticksAt(text, end).length);
  }
  if (end < 0) lonely.add(ticks);
  return end < 0 ? null : end + ticks.length;
}

/** @param {string} text @param {number} at */
function ticksAt(text, at) {
  return /** @type {RegExpExecArray} */ (matchAt(TICKS, text, at))[0];
}

/** @param {string} text @param {number} at @returns {Found | null} */
function linkAt(text, at) {
  const link = text[at] === "h" ? bareLinkAt(text, at) : namedLinkAt(text, at);
  if (link === null) return null;
  /** @type {Span[]} */
  const spans = [{ kind: "text", text: link.label }];
  return { span: { kind: "link", url: link.url, spans }, end: link.end };
}

/** @param {string} text @param {number} at @param {number} depth @param {Set<string>} lonely @returns {Found | null} */
function markedAt(text, at, depth, lonely) {
  for (const [mark, kind] of MARKS) {
    const start = at + mark.length;
    if (!text.startsWith(mark, at) || lonely.has(mark) || !opens(text, at, mark)) continue;
    const end = partnerOf(mark, text, start, lonely);
    if (end < 0) {
      lonely.add(mark);
      continue;
    }
    const spans = parseSpans(text.slice(start, end), depth + 1);
    return { span: { kind, spans }, end: end + mark.length };
  }
  return null;
}

/** Within words, underscores are text. @param {string} text @param {number} at @param {string} mark */
function opens(text, at, mark) {
  const behind = text[at + mark.length] ?? " ";
  return !BLANK.test(behind) && !(mark[0] === "_" && at > 0 && WORD.test(text[at - 1]));
}

/** Code is passed over. @param {string} mark @param {string} text @param {number} start @param {Set<string>} lonely @returns {number} -1 if there is none */
function partnerOf(mark, text, start, lonely) {
  let code = text.indexOf("`", start);
  for (let at = text.indexOf(mark, start); at >= 0; at = text.indexOf(mark, at + 1)) {
    let end = start;
    while (code >= 0 && code < at) {
      end = codeEnd(text, code, lonely) ?? code + ticksAt(text, code).length;
      code = text.indexOf("`", end);
    }
    if (at >= end && at > start && closes(text, at, mark)) return at;
  }
  return -1;
}

/** @param {string} text @param {number} at @param {string} mark */
function closes(text, at, mark) {
  const before = text[at - 1];
  const behind = text[at + mark.length] ?? " ";
  const isDouble = mark.length === 1 && (before === mark || behind === mark);
  return !BLANK.test(before) && !isDouble && !(mark[0] === "_" && WORD.test(behind));
}
