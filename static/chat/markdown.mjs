// @ts-check
/**
 * Markdown as plain objects: markdown-it reads it, this turns its tokens into trees. No HTML is
 * made on the way. Pure.
 */

import MarkdownIt from "../vendor/markdown-it.mjs";

/**
 * @typedef {{ kind: "text", text: string }
 *   | { kind: "code", text: string }
 *   | { kind: "strong" | "emphasis" | "struck", spans: Span[] }
 *   | { kind: "link", url: string, spans: Span[] }} Span
 * @typedef {"start" | "center" | "end"} Alignment
 * @typedef {{ spans: Span[], alignment: Alignment }} Cell
 * @typedef {{ kind: "paragraph", spans: Span[] }
 *   | { kind: "heading", level: number, spans: Span[] }
 *   | { kind: "code", language: string, text: string }
 *   | { kind: "list", start: number | null, items: Block[][] }
 *   | { kind: "quote", blocks: Block[] }
 *   | { kind: "table", head: Cell[], rows: Cell[][] }
 *   | { kind: "rule" }} Block
 */

/** @typedef {import("../vendor/markdown-it.mjs").Token} Token */

/** A token that opens something, and what is in it. @typedef {{ token: Token, children: Node[] }} Node */

const PROTOCOLS = ["http:", "https:", "mailto:"];
const MARKED = /** @type {const} */ ({ strong_open: "strong", em_open: "emphasis", s_open: "struck" });
/** @type {Record<string, Alignment>} */
const ALIGNMENTS = { "text-align:center": "center", "text-align:right": "end" };

const parser = new MarkdownIt({ html: false, linkify: true });
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
parser.disable(["lheading", "reference"]); // what stands above would change while an answer grows
parser.validateLink = (url) => URL.canParse(url) && PROTOCOLS.includes(new URL(url).protocol);

/** @param {string} text @returns {Block[]} */
export function parseBlocks(text) {
  return blocksOf(treeOf(parser.parse(text, {})));
}

/** @param {Token[]} tokens opening ones have their ends behind them @returns {Node[]} */
function treeOf(tokens) {
  /** @type {Node[]} */
  const top = [];
  const open = [top];
  for (const token of tokens) {
    if (token.nesting < 0) {
      open.pop();
      continue;
    }
    const children = token.type === "inline" ? treeOf(token.children ?? []) : [];
    open[open.length - 1].push({ token, children });
    if (token.nesting > 0) open.push(children);
  }
  return top;
}

/** @param {Node[]} nodes @returns {Block[]} */
function blocksOf(nodes) {
  return nodes.map(blockOf);
}

/** @param {Node} node @returns {Block} */
function blockOf({ token, children }) {
  switch (token.type) {
    case "heading_open":
      return { kind: "heading", level: Number(token.tag.slice(1)), spans: inlineSpans(children) };
    case "fence":
    case "code_block":
      return { kind: "code", language: token.info.trim().split(/\s/)[0], text: withoutEnd(token.content) };
    case "bullet_list_open":
    case "ordered_list_open":
      return { kind: "list", start: startOf(token), items: children.map((item) => blocksOf(item.children)) };
    case "blockquote_open":
      return { kind: "quote", blocks: blocksOf(children) };
    case "table_open":
      return tableOf(children);
    case "hr":
      return { kind: "rule" };
    default: // a paragraph, or text that is nested too deep
      return { kind: "paragraph", spans: inlineSpans(children) };
  }
}

/** @param {Token} token @returns {number | null} null for a list without numbers */
function startOf(token) {
  return token.type === "bullet_list_open" ? null : Number(token.attrGet("start") ?? 1);
}

/** @param {string} code @returns {string} */
function withoutEnd(code) {
  return code.endsWith("\n") ? code.slice(0, -1) : code;
}

/** @param {Node[]} parts a head, and perhaps a body @returns {Block} */
function tableOf(parts) {
  const [head, ...rows] = parts.flatMap((part) => part.children).map((row) => row.children.map(cellOf));
  return { kind: "table", head, rows };
}

/** @param {Node} node @returns {Cell} */
function cellOf({ token, children }) {
  return { spans: inlineSpans(children), alignment: ALIGNMENTS[token.attrGet("style") ?? ""] ?? "start" };
}

/** @param {Node[]} nodes @returns {Span[]} */
function inlineSpans(nodes) {
  return spansOf(nodes.flatMap((node) => node.children));
}

/** @param {Node[]} nodes @returns {Span[]} */
function spansOf(nodes) {
  /** @type {Span[]} */
  const spans = [];
  for (const span of nodes.map(spanOf)) {
    const last = spans.at(-1);
    if (span.kind === "text" && last?.kind === "text") last.text += span.text;
    else if (span.kind !== "text" || span.text !== "") spans.push(span);
  }
  return spans;
}

/** Pictures are links, too: the page loads nothing. @param {Node} node @returns {Span} */
function spanOf({ token, children }) {
  switch (token.type) {
    case "strong_open":
    case "em_open":
    case "s_open":
      return { kind: MARKED[token.type], spans: spansOf(children) };
    case "link_open":
      return { kind: "link", url: token.attrGet("href") ?? "", spans: spansOf(children) };
    case "image":
      return { kind: "link", url: token.attrGet("src") ?? "", spans: spansOf(treeOf(token.children ?? [])) };
    case "code_inline":
      return { kind: "code", text: token.content };
    case "softbreak":
    case "hardbreak":
      return { kind: "text", text: "\n" };
    default:
      return { kind: "text", text: token.content };
  }
}
