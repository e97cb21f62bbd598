// Markdown as models write it, for students: without markup, and without pictures from elsewhere.
import MarkdownIt from "../vendor/markdown-it.js";
import { maths } from "./maths.js";

export const markdown = new MarkdownIt({ html: false, linkify: true }).use(maths).use(products).use(pictures).use(alignments);
markdown.linkify.set({ fuzzyLink: false, fuzzyEmail: false }); // "x.is" is no address

/** "2*3*4" is a product and "x**2" a power: between factors an asterisk is itself, and emphasises nothing. */
function products(markdown) {
  markdown.inline.ruler.before("emphasis", "products", (state, silent) => {
    const { length } = /^\**/.exec(state.src.slice(state.pos, state.pos + 3))[0];
    const behind = state.src.slice(state.pos + length, state.pos + length + 2);
    if (!FACTOR_ENDS.test(state.src.slice(0, state.pos).slice(-2)) || !FACTOR_BEGINS[length]?.test(behind)) return false;
    if (!silent) state.pending += "*".repeat(length);
    state.pos += length;
    return true;
  });
}

// Of the scripts that formulas are written in: in Chinese, emphasis has no spaces around it. A bold syllable is emphasis, too.
const FACTOR_ENDS = /[\p{Script=Latin}\p{Script=Greek}\p{N})\]}]$/u;
const FACTOR_BEGINS = { 1: /^[\p{Script=Latin}\p{Script=Greek}\p{N}([{\\]/u, 2: /^\p{N}/u };

/** The page shows no pictures but the student's own: a link to it, then, with what it is said to show. */
function pictures(markdown) {
  const { escapeHtml } = markdown.utils;
  markdown.renderer.rules.image = (tokens, index) => {
    const address = tokens[index].attrGet("src");
    return `<a href="${escapeHtml(address)}">${escapeHtml(tokens[index].content || address)}</a>`;
  };
}

/** A column's alignment is a class: the page's policy lets in no styles. */
function alignments(markdown) {
  const aligned = (tokens, index, options, _, renderer) => {
    const token = tokens[index];
    const side = token.attrGet("style")?.replace("text-align:", "");
    token.attrs = side ? [["class", side]] : null;
    return renderer.renderToken(tokens, index, options);
  };
  markdown.renderer.rules.th_open = markdown.renderer.rules.td_open = aligned;
}
