// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";

import { parseBlocks } from "../../static/chat/markdown.mjs";

/** @param {string} text @returns {any} */
const text = (text) => ({ kind: "text", text });
/** @param {...any} spans @returns {any} */
const paragraph = (...spans) => ({ kind: "paragraph", spans });

/** The spans of a text that is one paragraph. @param {string} source @returns {any[]} */
function spansOf(source) {
  const blocks = parseBlocks(source);
  assert.deepEqual(blocks.map(({ kind }) => kind), ["paragraph"]);
  return /** @type {any} */ (blocks[0]).spans;
}

test("text without marks is one paragraph, and keeps its lines", () => {
  assert.deepEqual(parseBlocks("One.\nTwo."), [paragraph(text("One.\nTwo."))]);
});

test("an empty line parts paragraphs", () => {
  assert.deepEqual(parseBlocks("a\n\n\nb\n"), [paragraph(text("a")), paragraph(text("b"))]);
});

test("headings, rules and quotes", () => {
  assert.deepEqual(parseBlocks("## Title ##\ntext\n\n---\n> a\n> b\n\n#no"), [
    { kind: "heading", level: 2, spans: [text("Title")] },
    paragraph(text("text")),
    { kind: "rule" },
    { kind: "quote", blocks: [paragraph(text("a\nb"))] },
    paragraph(text("#no")),
  ]);
});

test("a line of dashes that is begun makes no heading of the text above", () => {
  assert.equal(parseBlocks("text\n-")[0].kind, "paragraph");
});

test("code is left alone, and goes on to the end while it is written", () => {
  const code = { kind: "code", language: "js", text: "if (a) {\n\n  # **b**\n}" };
  const source = "```js\nif (a) {\n\n  # **b**\n}";
  assert.deepEqual(parseBlocks(source), [code]);
  assert.deepEqual(parseBlocks(`${source}\n\`\`\`\nText`), [code, paragraph(text("Text"))]);
});

test("lists have items of several blocks, and lists within", () => {
  assert.deepEqual(parseBlocks("3. a\n   more\n\n4. b\n   - c\n   - d\n\nend"), [
    {
      kind: "list",
      start: 3,
      items: [
        [paragraph(text("a\nmore"))],
        [
          paragraph(text("b")),
          { kind: "list", start: null, items: [[paragraph(text("c"))], [paragraph(text("d"))]] },
        ],
      ],
    },
    paragraph(text("end")),
  ]);
});

test("an item may hold code", () => {
  const code = { kind: "code", language: "sh", text: "ls\n\npwd" };
  const items = [[paragraph(text("Run:")), code], [paragraph(text("Done."))]];
  const source = "1. Run:\n   ```sh\n   ls\n\n   pwd\n   ```\n2. Done.";
  assert.deepEqual(parseBlocks(source), [{ kind: "list", start: 1, items }]);
});

test("tables have as many cells in each row as in the head, and cells have marks", () => {
  /** @param {string} value @param {string} alignment */
  const cell = (value, alignment) => ({ spans: value ? [text(value)] : [], alignment });
  const strong = { spans: [{ kind: "strong", spans: [text("b")] }], alignment: "end" };
  assert.deepEqual(parseBlocks("| a | **b** |\n|:-:|--:|\n| 1 | x \\| y | z |\n| 2 |\n\nend"), [
    {
      kind: "table",
      head: [cell("a", "center"), strong],
      rows: [
        [cell("1", "center"), cell("x | y", "end")],
        [cell("2", "center"), cell("", "end")],
      ],
    },
    paragraph(text("end")),
  ]);
});

test("emphasis, code and strikes, within each other", () => {
  const emphasis = { kind: "emphasis", spans: [text("c")] };
  const code = { kind: "code", text: "**" };
  assert.deepEqual(spansOf("a **b *c* `**`** ~~d~~ __e__"), [
    text("a "),
    { kind: "strong", spans: [text("b "), emphasis, text(" "), code] },
    text(" "),
    { kind: "struck", spans: [text("d")] },
    text(" "),
    { kind: "strong", spans: [text("e")] },
  ]);
});

for (const source of ["2 * 3 * 4", "snake_case_name", "a ** b", "**open", "`open", "[a](b", "a < b & c", "<b>x</b>"]) {
  test(`${source} is text`, () => {
    assert.deepEqual(spansOf(source), [text(source)]);
  });
}

test("a backslash makes a mark text, and entities are what they stand for", () => {
  assert.deepEqual(spansOf("\\*a\\* \\`b\\` &amp;lt; &lt;"), [text("*a* `b` &lt; <")]);
});

test("links lead to pages and letters only, and pictures are links", () => {
  const b = { kind: "emphasis", spans: [text("b")] };
  assert.deepEqual(spansOf("[a *b*](https://x.org/y) see https://x.org/z."), [
    { kind: "link", url: "https://x.org/y", spans: [text("a "), b] },
    text(" see "),
    { kind: "link", url: "https://x.org/z", spans: [text("https://x.org/z")] },
    text("."),
  ]);
  const picture = { kind: "link", url: "https://x.org/cat.png", spans: [text("cat")] };
  assert.deepEqual(spansOf("![cat](https://x.org/cat.png)"), [picture]);
});

for (const url of ["javascript:alert`1`", "data:text/html,x", "data:image/png;base64,x", "/admin", "//x.org", "file:///etc", "vbscript:x"]) {
  test(`${url} is no link`, () => {
    const source = JSON.stringify(parseBlocks(`[a](${url}) ![a](${url}) <${url}> ${url}`));
    assert.ok(!source.includes('"link"'));
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
    parseBlocks(source);
    assert.ok(performance.now() - start < 1000);
  });
}
