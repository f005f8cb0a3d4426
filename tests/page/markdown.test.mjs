// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";

import { parseBlocks } from "../../static/chat/markdown/blocks.mjs";
import { parseSpans } from "../../static/chat/markdown/spans.mjs";

/** @param {string} text @returns {any} */
const text = (text) => ({ kind: "text", text });
/** @param {string} text @returns {any} */
const paragraph = (text) => ({ kind: "paragraph", text });

test("text without marks is one paragraph, and keeps its lines", () => {
  assert.deepEqual(parseBlocks("One.\nTwo."), [paragraph("One.\nTwo.")]);
  assert.deepEqual(parseSpans("One.\nTwo."), [text("One.\nTwo.")]);
});

test("an empty line parts paragraphs", () => {
  assert.deepEqual(parseBlocks("a\n\n\nb\n"), [paragraph("a"), paragraph("b")]);
});

test("headings, rules and quotes", () => {
  assert.deepEqual(parseBlocks("## Title ##\ntext\n---\n> a\n> b\n#no"), [
    { kind: "heading", level: 2, text: "Title" },
    paragraph("text"),
    { kind: "rule" },
    { kind: "quote", blocks: [paragraph("a\nb")] },
    paragraph("#no"),
  ]);
});

test("code is left alone, and goes on to the end while it is written", () => {
  const code = { kind: "code", language: "js", text: "if (a) {\n\n  # **b**\n}" };
  const source = "```js\nif (a) {\n\n  # **b**\n}";
  assert.deepEqual(parseBlocks(source), [code]);
  assert.deepEqual(parseBlocks(`${source}\n\`\`\`\nText`), [code, paragraph("Text")]);
});

test("a longer fence holds a shorter one", () => {
  const code = { kind: "code", language: "", text: "```\nx\n```" };
  assert.deepEqual(parseBlocks("````\n```\nx\n```\n````"), [code]);
});

test("lists have items of several blocks, and lists within", () => {
  assert.deepEqual(parseBlocks("1. a\n   more\n\n2. b\n   - c\n   - d\n\nend"), [
    {
      kind: "list",
      start: 1,
      items: [
        [paragraph("a\nmore")],
        [paragraph("b"), { kind: "list", start: null, items: [[paragraph("c")], [paragraph("d")]] }],
      ],
    },
    paragraph("end"),
  ]);
});

test("an item may hold code", () => {
  const code = { kind: "code", language: "sh", text: "ls\n\npwd" };
  const list = { kind: "list", start: 1, items: [[paragraph("Run:"), code], [paragraph("Done.")]] };
  assert.deepEqual(parseBlocks("1. Run:\n   ```sh\n   ls\n\n   pwd\n   ```\n2. Done."), [list]);
});

test("numbers and bullets are different lists, and a list may follow text", () => {
  const kinds = parseBlocks("Text:\n- a\n- b\n1) c").map(({ kind }) => kind);
  assert.deepEqual(kinds, ["paragraph", "list", "list"]);
});

test("tables have as many cells in each row as in the head", () => {
  const source = "| a | b |\n|:-:|--:|\n| 1 | x \\| y | z |\n| 2 |\n\nend";
  assert.deepEqual(parseBlocks(source), [
    { kind: "table", head: ["a", "b"], alignments: ["center", "end"], rows: [["1", "x | y"], ["2", ""]] },
    paragraph("end"),
  ]);
});

test("a line with bars alone is text", () => {
  assert.deepEqual(parseBlocks("a | b\nc"), [paragraph("a | b\nc")]);
});

test("emphasis, code and strikes, within each other", () => {
  assert.deepEqual(parseSpans("a **b *c* `**`** ~~d~~ __e__"), [
    text("a "),
    {
      kind: "strong",
      spans: [
        text("b "),
        { kind: "emphasis", spans: [text("c")] },
        text(" "),
        { kind: "code", text: "**" },
      ],
    },
    text(" "),
    { kind: "struck", spans: [text("d")] },
    text(" "),
    { kind: "strong", spans: [text("e")] },
  ]);
});

for (const source of ["2 * 3 * 4", "snake_case_name", "a ** b", "**open", "`open", "[a](b", "* a*"]) {
  test(`${source} is text`, () => {
    const spans = parseSpans(source);
    assert.equal(spans.map((span) => (span.kind === "text" ? span.text : "?")).join(""), source);
  });
}

test("a backslash makes a mark text", () => {
  const spans = parseSpans("\\*a\\* \\`b\\` \\x");
  assert.equal(spans.map((span) => (span.kind === "text" ? span.text : "?")).join(""), "*a* `b` \\x");
});

test("links lead to pages and letters only, and pictures are links", () => {
  assert.deepEqual(parseSpans("[a *b*](https://x.org/y) see https://x.org/z."), [
    {
      kind: "link",
      url: "https://x.org/y",
      spans: [text("a *b*")],
    },
    text(" see "),
    { kind: "link", url: "https://x.org/z", spans: [text("https://x.org/z")] },
    text("."),
  ]);
  const picture = parseSpans("![cat](https://x.org/cat.png)")[0];
  assert.deepEqual(picture, { kind: "link", url: "https://x.org/cat.png", spans: [text("cat")] });
});

for (const url of ["javascript:alert`1`", "data:text/html,x", "/admin", "//x.org", "file:///etc", "vbscript:x"]) {
  test(`${url} is no link`, () => {
    const spans = parseSpans(`[a](${url})`);
    assert.ok(spans.every(({ kind }) => kind !== "link"));
  });
}

for (const [name, source] of /** @type {[string, string][]} */ ([
  ["stars", "*".repeat(30_000)],
  ["stars apart", "*a ".repeat(30_000)],
  ["openers", "[".repeat(30_000)],
  ["marks of all kinds", "**a_b`~~".repeat(10_000)],
  ["ticks of all lengths", Array.from({ length: 250 }, (_, n) => "`".repeat(n)).join(" ")],
  ["quotes", ">".repeat(30_000)],
  ["items", "- ".repeat(30_000)],
  ["nested items", Array.from({ length: 500 }, (_, n) => " ".repeat(n) + "- a").join("\n")],
  ["dashes", "- ".repeat(30_000) + "x"],
  ["bars", "|".repeat(30_000) + "\n" + "|-".repeat(30_000)],
])) {
  test(`a text of ${name} is read in a moment`, () => {
    const start = performance.now();
    for (const block of parseBlocks(source)) if (block.kind === "paragraph") parseSpans(block.text);
    parseSpans(source);
    assert.ok(performance.now() - start < 1000);
  });
}
