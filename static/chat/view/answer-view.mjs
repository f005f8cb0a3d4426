// @ts-check
/**
 * An answer's Markdown as elements of a fixed set. Text is always text: nothing in it can become
 * markup, load anything, or lead anywhere but to a page of the web or a letter.
 */

import { parseBlocks } from "../markdown.mjs";
import { h } from "./dom.mjs";

/**
 * @typedef {import("../markdown.mjs").Block} Block
 * @typedef {import("../markdown.mjs").Cell} Cell
 * @typedef {import("../markdown.mjs").Span} Span
 */

const COPIED_MS = 1500;

/** @returns {{ element: HTMLElement, render: (text: string) => void }} */
export function createAnswerView() {
  const element = h("div", { class: "answer", dir: "auto" });
  /** @type {{ block: Block, source: string }[]} */
  let shown = [];
  return {
    element,
    /** Blocks that stay as they are keep their elements, and what the reader has selected. */
    render(text) {
      const blocks = parseBlocks(text).map((block) => ({ block, source: JSON.stringify(block) }));
      let same = 0;
      while (same < blocks.length && blocks[same].source === shown[same]?.source) same += 1;
      if (blocks.length === shown.length && same === blocks.length - 1) {
        if (hasGrown(element.children[same], shown[same].block, blocks[same].block)) same += 1;
      }
      while (element.children.length > same) element.lastElementChild?.remove();
      element.append(...blocks.slice(same).map(({ block }) => blockElement(block)));
      shown = blocks;
    },
  };
}

/** Append to the text of a block, if that is all that is new. @param {Element} element @param {Block} old @param {Block} block */
function hasGrown(element, old, block) {
  const [before, now] = [plainText(old), plainText(block)];
  if (before === null || now === null || old.kind !== block.kind) return false;
  const text = block.kind === "code" ? element.querySelector("code")?.firstChild : element.firstChild;
  if (!(text instanceof Text) || !now.startsWith(before)) return false;
  text.appendData(now.slice(before.length));
  return true;
}

/** The text of a block that is nothing but one; null for others. @param {Block} block */
function plainText(block) {
  if (block.kind === "code") return block.text;
  if (block.kind !== "paragraph") return null;
  const [span, ...others] = block.spans;
  return span?.kind === "text" && others.length === 0 ? span.text : null;
}

/** @param {Block} block @returns {HTMLElement} */
function blockElement(block) {
  switch (block.kind) {
    case "paragraph":
      return h("p", {}, ...block.spans.map(spanNode));
    case "heading": // below the page's own
      return h(block.level < 3 ? "h3" : "h4", {}, ...block.spans.map(spanNode));
    case "code":
      return codeElement(block.language, block.text);
    case "list":
      return listElement(block.start, block.items);
    case "quote":
      return h("blockquote", {}, ...block.blocks.map(blockElement));
    case "table":
      return tableElement(block.head, block.rows);
    case "rule":
      return h("hr");
  }
}

/** @param {string} language @param {string} text */
function codeElement(language, text) {
  const code = h("code", {}, document.createTextNode(text));
  const copy = h("button", { type: "button", class: "quiet" }, "Copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code.textContent ?? "").then(
      () => (copy.textContent = "Copied"),
      () => (copy.textContent = "Not allowed"),
    );
    setTimeout(() => (copy.textContent = "Copy"), COPIED_MS);
  });
  const bar = h("div", { class: "code-bar" }, h("span", {}, language), copy);
  const label = language || "Code";
  const place = h("pre", { tabindex: "0", role: "group", "aria-label": label }, code);
  return h("div", { class: "code", dir: "ltr" }, bar, place);
}

/** @param {number | null} start null for one without numbers @param {Block[][]} items */
function listElement(start, items) {
  const entries = items.map((blocks) => h("li", {}, ...blocks.flatMap(entryNodes)));
  return start === null ? h("ul", {}, ...entries) : h("ol", { start: String(start) }, ...entries);
}

/** @param {Block} block @param {number} index @returns {(Node | string)[]} */
function entryNodes(block, index) {
  return index === 0 && block.kind === "paragraph" ? block.spans.map(spanNode) : [blockElement(block)];
}

/** @param {Cell[]} head @param {Cell[][]} rows */
function tableElement(head, rows) {
  /** @param {"th" | "td"} tag @param {Cell[]} cells */
  const row = (tag, cells) =>
    h("tr", {}, ...cells.map((cell) => h(tag, { class: cell.alignment }, ...cell.spans.map(spanNode))));
  const body = h("tbody", {}, ...rows.map((cells) => row("td", cells)));
  const table = h("table", {}, h("thead", {}, row("th", head)), body);
  return h("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Table" }, table);
}

/** @param {Span} span @returns {Node | string} */
function spanNode(span) {
  switch (span.kind) {
    case "text":
      return document.createTextNode(span.text);
    case "code":
      return h("code", {}, span.text);
    case "link": {
      const rel = "noopener noreferrer nofollow";
      const attributes = { href: span.url, title: span.url, target: "_blank", rel };
      return h("a", attributes, ...span.spans.map(spanNode));
    }
    default: {
      const tag = { strong: "strong", emphasis: "em", struck: "s" }[span.kind];
      return h(/** @type {"strong" | "em" | "s"} */ (tag), {}, ...span.spans.map(spanNode));
    }
  }
}
