// @ts-check
/** Markdown as blocks: paragraphs, headings, code, lists, quotes, tables, rules. Pure. */

import { isTable, tableOf } from "./tables.mjs";

/**
 * @typedef {{ kind: "paragraph", text: string }
 *   | { kind: "heading", level: number, text: string }
 *   | { kind: "code", language: string, text: string }
 *   | { kind: "list", start: number | null, items: Block[][] }
 *   | { kind: "quote", blocks: Block[] }
 *   | import("./tables.mjs").Table
 *   | { kind: "rule" }} Block
 */

/** A block of a list of lines, and how many of them it takes. @typedef {{ block: Block, size: number }} Taken */

const MAX_DEPTH = 6;
const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^\s`]{0,40})[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*)$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|(\d{1,9})[.)])( +)(?=\S)/;

/** @param {string} text @returns {Block[]} */
export function parseBlocks(text) {
  return blocksOf(text.split("\n"), 0);
}

/** @param {string[]} lines @param {number} depth @returns {Block[]} */
function blocksOf(lines, depth) {
  /** @type {Block[]} */
  const blocks = [];
  for (let at = 0; at < lines.length; ) {
    if (lines[at].trim() === "") {
      at += 1;
      continue;
    }
    const { block, size } = blockAt(lines, at, depth);
    blocks.push(block);
    at += size;
  }
  return blocks;
}

/** @param {string[]} lines @param {number} at @param {number} depth @returns {Taken} */
function blockAt(lines, at, depth) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence !== null) return codeAt(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading !== null) {
    const text = heading[2].trimEnd().replace(/ #{1,9}$/, "");
    return { block: { kind: "heading", level: heading[1].length, text }, size: 1 };
  }
  if (RULE.test(line)) return { block: { kind: "rule" }, size: 1 };
  if (depth < MAX_DEPTH) {
    if (QUOTE.test(line)) return quoteAt(lines, at, depth);
    if (ITEM.test(line)) return listAt(lines, at, depth);
  }
  if (isTable(lines, at)) return tableOf(lines, at);
  return paragraphAt(lines, at);
}

/** Without its end, code goes on to the end of the text. @param {string[]} lines @param {number} at @param {RegExpExecArray} fence @returns {Taken} */
function codeAt(lines, at, [, mark, language]) {
  const isEnd = (/** @type {string} */ line) =>
    line.trim().startsWith(mark) && line.trim().replaceAll(mark[0], "") === "";
  const length = lines.slice(at + 1).findIndex(isEnd);
  const end = length < 0 ? lines.length : at + 1 + length;
  const text = lines.slice(at + 1, end).join("\n");
  return { block: { kind: "code", language, text }, size: end - at + 1 };
}

/** @param {string[]} lines @param {number} at @param {number} depth @returns {Taken} */
function quoteAt(lines, at, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return { block: { kind: "quote", blocks: blocksOf(inner, depth + 1) }, size: end - at };
}

/** @param {string[]} lines @param {number} at @param {number} depth @returns {Taken} */
function listAt(lines, at, depth) {
  const first = /** @type {RegExpExecArray} */ (ITEM.exec(lines[at]));
  const isNumbered = first[3] !== undefined;
  const items = [];
  let end = at;
  for (let item = ITEM.exec(lines[end] ?? ""); item !== null; item = ITEM.exec(lines[end] ?? "")) {
    if ((item[3] !== undefined) !== isNumbered || item[1].length > first[1].length + 3) break;
    const inner = [lines[end].slice(item[0].length)];
    end += 1;
    while (end < lines.length && belongsTo(lines, end, item)) {
      inner.push(unindented(lines[end], item[0].length));
      end += 1;
    }
    items.push(blocksOf(inner, depth + 1));
    if ((lines[end] ?? "").trim() === "" && ITEM.test(lines[end + 1] ?? "")) end += 1;
  }
  const start = isNumbered ? Number(first[3]) : null;
  return { block: { kind: "list", start, items }, size: end - at };
}

/** Whether a line goes on with an item: it is indented, or more text right behind some. @param {string[]} lines @param {number} at @param {RegExpExecArray} item */
function belongsTo(lines, at, item) {
  const line = lines[at];
  if (line.trim() === "") return (lines[at + 1] ?? "").startsWith(" ".repeat(item[1].length + 2));
  if (line.startsWith(" ".repeat(item[1].length + 2))) return true;
  return lines[at - 1].trim() !== "" && !startsBlock(line);
}

/** @param {string} line @param {number} width */
function unindented(line, width) {
  const blanks = line.length - line.trimStart().length;
  return line.slice(Math.min(blanks, width));
}

/** @param {string} line */
function startsBlock(line) {
  return [FENCE, HEADING, RULE, QUOTE, ITEM].some((pattern) => pattern.test(line));
}

/** @param {string[]} lines @param {number} at @returns {Taken} */
function paragraphAt(lines, at) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() !== "") {
    if (startsBlock(lines[end]) || isTable(lines, end)) break;
    end += 1;
  }
  return { block: { kind: "paragraph", text: lines.slice(at, end).join("\n") }, size: end - at };
}
