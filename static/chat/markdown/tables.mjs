// @ts-check
/** Tables of Markdown: a head, a line of dashes, rows. Pure. */

/** @typedef {"start" | "center" | "end"} Alignment */

/** Rows are as wide as the head. @typedef {{ kind: "table", head: string[], alignments: Alignment[], rows: string[][] }} Table */

const DASHES = /^:?-+:?$/;

/** @param {string[]} lines @param {number} at @returns {boolean} */
export function isTable(lines, at) {
  if (!lines[at].includes("|") || !(lines[at + 1] ?? "").includes("-")) return false;
  const dashes = cellsOf(lines[at + 1]);
  const isRule = dashes.every((cell) => DASHES.test(cell));
  return isRule && dashes.length === cellsOf(lines[at]).length;
}

/** @param {string[]} lines @param {number} at where a table begins @returns {{ block: Table, size: number }} */
export function tableOf(lines, at) {
  const head = cellsOf(lines[at]);
  const alignments = cellsOf(lines[at + 1]).map(alignmentOf);
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|")) end += 1;
  const rows = lines.slice(at + 2, end).map((line) => {
    const cells = cellsOf(line);
    return head.map((_, index) => cells[index] ?? "");
  });
  return { block: { kind: "table", head, alignments, rows }, size: end - at };
}

/** A bar behind a backslash is text. @param {string} line @returns {string[]} */
function cellsOf(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/\|$/, "");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

/** @param {string} dashes @returns {Alignment} */
function alignmentOf(dashes) {
  if (!dashes.endsWith(":")) return "start";
  return dashes.startsWith(":") ? "center" : "end";
}
