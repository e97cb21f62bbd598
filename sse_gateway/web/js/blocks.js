// Where a growing Markdown text is finished, and how much of its end can be shown already.
import { unclosed } from "./maths.js";

const LINES = 40; // of a program, that are drawn anew at most
const ROWS = 20; // of a table

/**
 * Where a text may be cut, behind `from`: what is before a cut cannot change any more. A cut's `context` is the lines that
 * have to be put before what follows for it to be read as what it is.
 */
export function cuts(markdown, text, from) {
  const tokens = [];
  markdown.block.parse(text, markdown, {}, tokens);
  const starts = lineStarts(text);
  const context = (first, last) => text.slice(starts[first], starts[last]);
  const found = tokens.flatMap(({ type, level, map, nesting }) => {
    if (!map || nesting < 0) return [];
    if (type === "list_item_open" && level === 1) return [{ line: map[0], context: "" }];
    if (level > 0) return [];
    const inside = { fence: () => within(map, 1, LINES), table_open: () => within(map, 2, ROWS) }[type]?.() ?? [];
    const head = map[0] + (type === "fence" ? 1 : 2);
    return [{ line: map[0], context: "" }, ...inside.map((line) => ({ line, context: context(map[0], head) }))];
  });
  return found.map((cut) => ({ at: starts[cut.line], context: cut.context })).filter(({ at }, index, all) => at > from && at !== all[index - 1]?.at);
}

function within([first, end], head, step) {
  const lines = [];
  for (let line = first + head + step; line < end; line += step) lines.push(line);
  return lines;
}

function lineStarts(text) {
  const starts = [0];
  for (let at = 0; (at = text.indexOf("\n", at) + 1) > 0; ) starts.push(at);
  return starts;
}

/** A text without what would look like something else as soon as more of it is there. */
export function settled(text) {
  if (openFence(text)) return text.replace(/\n[ \t]*[`~]+[ \t]*$/, "\n");
  const shown = text.slice(0, unclosed(text));
  return shown.slice(0, wholeRows(shown)).replace(HALF, "");
}

// Emphasis and code that may just begin or end; a line of which only its mark is there; a link's address.
const HALF = /[*_~`]+$|(?:^|\n)[ \t]*(?:[-=*_+#>:]+|\d{1,9}[.)]?)[ \t]*$|\]\([^)\s]*$/;

/** How much of a text is there without a row, or a head, of a table that is not all there. */
function wholeRows(text) {
  const run = /(?:(?:^|\n)[ \t]*\|[^\n]*)+\n?$/.exec(text);
  if (!run) return text.length;
  const begins = run.index + (run[0][0] === "\n" ? 1 : 0);
  const rows = text.slice(begins).split("\n");
  const last = rows.pop();
  if (rows.length < 2) return begins;
  return /^[-:| \t]+$/.test(rows[1]) ? text.length - last.length : text.length;
}

/** A text with the emphasis and the code closed that it ends within. */
export function provisional(text) {
  if (openFence(text)) return text;
  const all = text.trimEnd();
  const last = all.slice(all.lastIndexOf("\n\n") + 1).replace(/`[^`\n]*`|\$[^$\n]*\$/g, "x");
  const code = last.includes("`") ? "`" : "";
  const opened = last.match(/(?<=^|[\s(["'|])\*\*(?=\S)/g)?.length ?? 0;
  const closed = last.match(/(?<=\S)\*\*(?=$|[^\p{L}\p{N}])/gu)?.length ?? 0;
  return all + code + (opened > closed ? "**" : "");
}

/** Whether a text ends in a fenced program. */
function openFence(text) {
  let fence = "";
  for (const [, marks, rest] of text.matchAll(/^ {0,3}(`{3,}|~{3,})(.*)$/gm)) {
    if (!fence) fence = marks;
    else if (marks[0] === fence[0] && marks.length >= fence.length && !rest.trim()) fence = "";
  }
  return fence !== "";
}
