// An answer in the page while it grows: what is finished of it is drawn once and stays, the last block is drawn anew.
import DOMPurify from "/web/vendor/dompurify.js";
import MarkdownIt from "/web/vendor/markdown-it.js";
import { draw, maths, unclosed } from "/web/js/maths.js";

const SHARE = 4; // drawing may take a quarter of the time
const BUDGET_MS = 12; // and no longer than this at once
const markdown = new MarkdownIt({ html: false, linkify: false }).use(maths).disable("image");
const KEEP = { ALLOWED_ATTR: ["href", "class", "data-display", "start"], FORBID_TAGS: ["style", "form", "input", "img", "svg"] };

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName !== "A") return;
  if (!/^https?:/i.test(node.getAttribute("href") ?? "")) node.removeAttribute("href");
  node.setAttribute("rel", "noopener noreferrer nofollow");
  node.setAttribute("target", "_blank");
});

export class AnswerView {
  #element;
  #text = "";
  #ended = false;
  #drawn = 0; // how much of the text is in blocks that stay
  #last = []; // the nodes of what is drawn anew
  #wanted = false;
  #pause = 0;
  #finished = null;

  constructor(element) {
    this.#element = element;
  }

  /** Shows all of the text so far, soon: once a frame at most, and less often where that takes long. */
  show(text) {
    if (!text.startsWith(this.#text.slice(0, this.#drawn))) this.#startAnew();
    this.#text = text;
    this.#ended = false;
    this.#want();
  }

  /** Shows all of the text, which is the last of it, and returns when it is there. */
  finish(text = this.#text) {
    this.show(text);
    this.#ended = true;
    return new Promise((resolve) => {
      this.#finished = resolve;
    });
  }

  #startAnew() {
    this.#element.replaceChildren();
    this.#drawn = 0;
    this.#last = [];
  }

  #want() {
    if (this.#wanted) return;
    this.#wanted = true;
    // A page that is not looked at has no frames.
    const next = document.hidden ? (draw) => setTimeout(draw, 0) : requestAnimationFrame;
    setTimeout(() => next(() => this.#draw()), this.#pause);
  }

  #draw() {
    const began = performance.now();
    this.#wanted = false;
    const rest = this.#text.slice(this.#drawn);
    const sure = this.#ended ? rest : rest.slice(0, unclosed(rest));
    const starts = [...blockStarts(sure), ...(this.#ended ? [sure.length] : [])];
    for (const node of this.#last) node.remove();
    this.#last = [];
    let from = 0;
    for (const start of starts) {
      if (performance.now() - began > BUDGET_MS) break;
      this.#append(sure.slice(from, start));
      this.#drawn += start - from;
      from = start;
    }
    const all = from === starts.at(-1) || starts.length === 0;
    if (all) this.#last = this.#append(sure.slice(from));
    this.#pause = all ? Math.max(0, (performance.now() - began) * SHARE - 16) : 0;
    if (!all) this.#want();
    else if (this.#ended) this.#finished?.();
  }

  #append(source) {
    if (!source.trim()) return [];
    const fragment = DOMPurify.sanitize(markdown.render(source), { ...KEEP, RETURN_DOM_FRAGMENT: true });
    draw(fragment);
    const list = this.#element.lastElementChild;
    const first = fragment.firstElementChild;
    // The items of one list come one by one.
    const goesOn = first && /^[OU]L$/.test(first.tagName) && list?.tagName === first.tagName;
    const items = goesOn ? [...first.childNodes] : [];
    if (goesOn) {
      list.append(...items);
      first.remove();
    }
    const nodes = [...items, ...fragment.childNodes];
    this.#element.append(fragment);
    return nodes;
  }
}

/** Where the blocks of a text begin, and the items of its lists, but for the first: what is before cannot change. */
function blockStarts(text) {
  const begins = (token) => token.map && (token.level === 0 || (token.level === 1 && token.type === "list_item_open"));
  const lines = new Set(markdown.parse(text, {}).filter(begins).map((token) => token.map[0]));
  const starts = [];
  let at = 0;
  for (let line = 0; at >= 0 && at < text.length; line += 1) {
    if (line > 0 && lines.has(line) && at > 0) starts.push(at);
    at = text.indexOf("\n", at) + 1 || text.length;
  }
  return starts;
}
