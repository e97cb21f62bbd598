// An answer in the page while it grows. What is finished of it is parsed and drawn once and stays; the end, which may
// still turn out to be something else, is drawn anew and put into the page where it differs from what is there.
import DOMPurify from "../vendor/dompurify.js";
import { cuts, provisional, settled } from "./blocks.js";
import { markdown } from "./markdown.js";
import { drawFormulas } from "./maths.js";
import { patch } from "./patch.js";

const SHARE = 4; // drawing may take a quarter of the time
const BUDGET_MS = 12; // and no longer than this at once
const WINDOW = 4000; // characters looked at at once, of a long text that comes as one
const GROWTH = 600; // characters that a block grows by at once
const KEEP = { ALLOWED_ATTR: ["href", "class", "data-kind", "start"], FORBID_TAGS: ["style", "form", "input", "img", "svg"] };

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName !== "A") return;
  if (!/^https?:/i.test(node.getAttribute("href") ?? "")) node.removeAttribute("href");
  node.setAttribute("rel", "noopener noreferrer nofollow");
  node.setAttribute("target", "_blank");
});

export class AnswerView {
  #element;
  #onDrawn;
  #text = "";
  #ended = false;
  #done = ""; // the text that is in blocks that stay
  #context = ""; // the lines that make a table's next rows a table, and a program's next lines a program
  #tail = []; // the nodes of the rest
  #shown = 0; // how much of the rest they show
  #wanted = false;
  #pause = 0;
  #finished = () => {};

  constructor(element, onDrawn = () => {}) {
    this.#element = element;
    this.#onDrawn = onDrawn;
  }

  /** Shows all of the text so far, soon: once a frame at most, and less often where that takes long. */
  show(text) {
    this.#text = text;
    this.#ended = false;
    this.#want();
  }

  /** Shows all of the text, which is the last of it, and returns when it is there. */
  finish(text = this.#text) {
    this.show(text);
    this.#ended = true;
    return new Promise((resolve) => {
      this.#finished = () => {
        this.openToKeys();
        resolve();
      };
    });
  }

  /** What is wider than the page can be scrolled with the keyboard. */
  openToKeys() {
    const wide = [...this.#element.querySelectorAll(":scope > *, .katex-display")].filter((node) => node.scrollWidth > node.clientWidth);
    for (const node of wide) node.tabIndex = 0;
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
    if (!this.#text.startsWith(this.#done)) this.#startAnew();
    const inTime = () => performance.now() - began < BUDGET_MS;
    let goesOn;
    do goesOn = this.#step(inTime); // on the slowest machine, too
    while (goesOn && inTime());
    this.#onDrawn(); // follows the end, and so lays the page out, which takes longest
    this.#pause = goesOn ? 0 : Math.max(0, (performance.now() - began) * SHARE - 16);
    if (goesOn) this.#want();
    else if (this.#ended) this.#finished();
  }

  #startAnew() {
    this.#element.replaceChildren();
    this.#done = this.#context = "";
    this.#tail = [];
    this.#shown = 0;
  }

  /** Draws what is next, and returns whether there is more. */
  #step(inTime) {
    const rest = this.#text.slice(this.#done.length);
    for (let size = WINDOW; size < rest.length; size *= 2) {
      if (this.#finishBlocks(settled(this.#context + rest.slice(0, size)), inTime)) return true;
    }
    const last = this.#ended ? this.#context + rest : settled(this.#context + rest);
    if (this.#finishBlocks(last, inTime)) return true;
    if (this.#grows(rest)) return true;
    this.#shown = rest.length;
    this.#put(this.#ended ? last : provisional(last));
    return false;
  }

  /** Draws more of a block that has come in one piece, if it is too long to be drawn at once. */
  #grows(text) {
    if (text.length <= this.#shown + GROWTH) return false;
    this.#shown += GROWTH;
    this.#put(provisional(settled(this.#context + text.slice(0, this.#shown))));
    return true;
  }

  /** Draws the blocks of a text that cannot change any more, and returns whether there were any. */
  #finishBlocks(source, inTime) {
    const found = cuts(markdown, source, this.#context.length);
    let from = this.#context.length;
    for (const { at, context } of found) {
      const piece = source.slice(from, at);
      if (this.#grows(piece)) return true;
      this.#put(this.#context + piece);
      this.#tail = [];
      this.#shown = 0;
      this.#done += piece;
      this.#context = context;
      from = at;
      if (!inTime()) break;
    }
    return found.length > 0;
  }

  /** Draws a block, or a part of one, where the tail is. */
  #put(source) {
    const fragment = DOMPurify.sanitize(markdown.render(source), { ...KEEP, RETURN_DOM_FRAGMENT: true });
    const block = fragment.firstElementChild;
    const [place, nodes] = block ? this.#placeOf(block) : [this.#element, []];
    this.#tail = patch(place, this.#tail, nodes);
    drawFormulas(this.#tail);
  }

  /** Where a block goes: items, rows and lines to those before them, all else to the end. */
  #placeOf(block) {
    const own = this.#tail[0]?.parentNode === this.#element ? this.#tail[0] : null;
    const before = own ? own.previousElementSibling : this.#element.lastElementChild;
    const joins = before?.tagName === block.tagName && (this.#context || /^[OU]L$/.test(block.tagName));
    if (!joins) return [this.#element, [block]];
    const part = { TABLE: "tbody", PRE: "code" }[block.tagName];
    const within = (element) => (part ? element.querySelector(part) : element);
    return [within(before) ?? before, [...(within(block)?.childNodes ?? [])]];
  }
}
