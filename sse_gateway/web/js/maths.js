// Formulas in Markdown: $…$, $$…$$, \(…\), \[…\] and bare environments, as elements that are filled when they are in the page.
import katex from "../vendor/katex.js";

const environment = (name) => [`\\begin{${name}}`, `\\end{${name}}`, true];
const OPENINGS = [
  ["$$", "$$", true],
  ["\\[", "\\]", true],
  ["\\(", "\\)", false],
  ["$", "$", false],
  ...["align", "align*", "equation", "equation*", "gather", "gather*"].map(environment),
];
const LONGEST_OPENING = Math.max(...OPENINGS.map(([open]) => open.length));
const LONGEST_DOLLARS = 300; // a price is no formula that is never closed
const EMPTY_LINE = /\n[ \t]*\n/; // ends a formula in TeX, too

/** A plugin of markdown-it. */
export function maths(markdown) {
  markdown.inline.ruler.before("escape", "maths", inline);
  markdown.block.ruler.before("fence", "maths", block, { alt: ["paragraph", "blockquote", "list"] });
  markdown.renderer.rules.maths = (tokens, index) => {
    const { content, meta } = tokens[index];
    return `<span class="maths" data-kind="${meta}">${markdown.utils.escapeHtml(content)}</span>`;
  };
}

const drawn = new WeakMap(); // of each place, what its formula was written as

/** Draws the formulas in elements that have not been drawn. What is none stays as it was written. */
export function drawFormulas(nodes) {
  for (const node of nodes) {
    if (!(node instanceof Element)) continue;
    for (const place of [node, ...node.querySelectorAll(".maths")]) if (isFormula(place) && !drawn.has(place)) fill(place);
  }
}

function fill(place) {
  const source = place.textContent;
  const [open, close, displayMode] = OPENINGS[place.dataset.kind];
  const written = open + source + close;
  drawn.set(place, source);
  try {
    // Into the element: markup would bring styles of its own, which the page's policy does not let in.
    katex.render(open.startsWith("\\begin") ? written : source, place, { displayMode, maxExpand: 500, maxSize: 20 });
  } catch {
    place.textContent = written;
  }
}

export function isFormula(node) {
  return node.nodeType === Node.ELEMENT_NODE && node.className === "maths";
}

/** Whether a formula that is drawn is what another element says. */
export function sameFormula(place, other) {
  return isFormula(other) && drawn.get(place) === other.textContent && place.dataset.kind === other.dataset.kind;
}

/** Where a text's last formula begins that has not ended yet, or the text's length. */
export function unclosed(text) {
  let at = 0;
  while (at < text.length) {
    if (text[at] === "`") {
      const ticks = /^`+/.exec(text.slice(at))[0];
      const end = text.indexOf(ticks, at + ticks.length);
      if (end < 0) return text.length;
      at = end + ticks.length;
      continue;
    }
    const found = opening(text, at);
    if (!found) {
      if (/[\\$]/.test(text[at]) && mayOpen(text.slice(at, at + LONGEST_OPENING))) return at;
      at += text[at] === "\\" ? 2 : 1;
      continue;
    }
    const end = closing(text, at, found);
    if (end < 0 && mayStillClose(text.slice(at), found)) return at;
    at = end < 0 ? at + found[0].length : end + found[1].length;
  }
  return text.length;
}

/** Whether the end of a text may be the first half of an opening. */
function mayOpen(rest) {
  return OPENINGS.some(([open]) => open.length > rest.length && open.startsWith(rest));
}

function mayStillClose(rest, [open]) {
  return open === "$" ? rest.length < LONGEST_DOLLARS && !rest.includes("\n") : !EMPTY_LINE.test(rest);
}

function opening(text, at) {
  const found = OPENINGS.find(([open]) => text.startsWith(open, at));
  return found && (found[0] !== "$" || /\S/.test(text[at + 1] ?? "")) ? found : undefined;
}

function closing(text, at, [open, close]) {
  for (let end = at + open.length; (end = text.indexOf(close, end)) >= 0; end += 1) {
    const inside = text.slice(at + open.length, end);
    if (open !== "$") return EMPTY_LINE.test(inside) ? -1 : end;
    if (inside.includes("\n")) return -1;
    // As Pandoc has it: no space before the closing dollar, no digit behind it, so that prices are none.
    if (!/[\s\\]$/.test(inside) && !/\d/.test(text[end + 1] ?? "")) return end;
  }
  return -1;
}

function inline(state, silent) {
  const found = opening(state.src, state.pos);
  const end = found ? closing(state.src, state.pos, found) : -1;
  if (end <= state.pos + (found?.[0].length ?? 0)) return false;
  if (!silent) push(state, state.src.slice(state.pos + found[0].length, end), found);
  state.pos = end + found[1].length;
  return true;
}

function block(state, startLine, endLine, silent) {
  const start = state.bMarks[startLine] + state.tShift[startLine];
  const found = OPENINGS.find(([open, , display]) => display && state.src.startsWith(open, start));
  if (!found) return false;
  const lines = [];
  for (let line = startLine; line < endLine; line += 1) {
    // Within a quotation a line begins with its marks.
    const from = line === startLine ? start + found[0].length : state.bMarks[line] + state.tShift[line];
    const end = state.src.slice(0, state.eMarks[line]).indexOf(found[1], from);
    if (line > startLine && state.isEmpty(line)) return false;
    lines.push(state.src.slice(from, end < 0 ? state.eMarks[line] : end));
    if (end < 0) continue;
    if (state.src.slice(end + found[1].length, state.eMarks[line]).trim()) return false;
    if (silent) return true;
    state.line = line + 1;
    const token = push(state, lines.join("\n"), found);
    token.map = [startLine, state.line];
    token.block = true;
    return true;
  }
  return false;
}

function push(state, content, kind) {
  const token = state.push("maths", "", 0);
  token.content = content.trim();
  token.meta = OPENINGS.indexOf(kind);
  return token;
}
