// One question and its answer on the page.
import { ask, nothingSeen, stop } from "./ask.js";
import { AnswerView } from "./answer.js";
import { conversation } from "./conversation.js";
import { newId } from "./ids.js";
import { by, element, follow, say } from "./page.js";
import { urlOf } from "./picture.js";

const LAST_WORDS_MS = 5000; // a stopped answer's end comes at once, or the network is gone
const KEEP_EVERY_MS = 1000;

export class Turn {
  #number;
  #question;
  #kept; // all that a reload needs, but for the picture
  #desk;
  #answer = Object.assign(element("div", "answer"), { dir: "auto" });
  #state = element("div", "state");
  #view = new AnswerView(this.#answer, follow);
  #controller;
  #options;
  #stopped = false;
  #isCut = false; // it waits for a network that is gone
  #keptAt = 0;

  /** `desk` has `options()`, `busy(turn)`, `isFree()` and `stopped(turn)`; `kept` may be of before a reload. */
  constructor(desk, question, { number, ...kept }) {
    this.#desk = desk;
    this.#number = number;
    this.#question = question;
    this.#kept = { key: newId(), seen: nothingSeen(), state: "asking", ...kept };
    const asked = Object.assign(element("div", "question", question.prompt), { dir: "auto" });
    const { thumbnail } = this.#kept;
    if (thumbnail) asked.prepend(Object.assign(element("img"), { src: urlOf(thumbnail), alt: "The picture you asked about" }));
    by("turns").append(asked, this.#answer, this.#state);
    asked.scrollIntoView({ block: "start" });
  }

  get question() {
    return this.#question;
  }

  get thumbnail() {
    return this.#kept.thumbnail;
  }

  get isEmpty() {
    return !this.#kept.seen.text;
  }

  /** Asks, or goes on with the answer of which something is there already. */
  async run() {
    this.#controller = new AbortController();
    this.#options = { ...this.#desk.options(), key: this.#kept.key, seen: this.#kept.seen, signal: this.#controller.signal };
    this.#kept.state = "asking";
    this.#desk.busy(this);
    this.#wait("Reading your page …");
    this.keep();
    if (this.#kept.seen.text) this.#show(this.#kept.seen.text);
    for await (const event of ask(this.#question, this.#options)) await (this.#stopped ? this.#after(event) : this.#on(event));
  }

  #askAgain() {
    this.#kept.seen = nothingSeen();
    return this.run();
  }

  /** Shows what was kept of a turn that has ended, and returns when it is there. */
  async restore() {
    const { seen, state, sentence, again } = this.#kept;
    await this.#view.finish(seen.text);
    if (state === "failed") this.#fail(sentence, again);
    else this.#end(sentence);
  }

  get isAsking() {
    return this.#kept.state === "asking";
  }

  keep() {
    const { base64_image: _, ...question } = this.#question;
    conversation.keep(this.#number, { ...this.#kept, question });
    this.#keptAt = performance.now();
  }

  /** Stops the answer: for the student at once, for the service as soon as its name is known. */
  stop() {
    this.#stopped = true;
    this.#desk.stopped(this);
    this.#over("Stopped.");
    say("Stopped. You can ask your next question.");
    const isNamed = Boolean(this.#kept.seen.answer);
    if (!isNamed && this.#isCut) this.#controller.abort();
    else if (isNamed || !this.#options.streaming) this.#halt();
  }

  /** What is left to do for an answer that was stopped. */
  async #after(event) {
    if (event.type === "start") this.#halt();
    // Whether the question ever arrived is not known, and sending it once more to stop it helps nobody.
    if (event.type === "state" && !this.#kept.seen.answer) this.#controller.abort();
    if (event.type !== "end") return;
    conversation.pictureArrived(this.#question.session_id);
    this.#kept.seen.text = event.content;
    await this.#view.finish(event.content);
    this.keep();
  }

  async #halt() {
    // Its end is read, too: a session remembers what was read to the end.
    const isStopped = await stop(this.#question, this.#options);
    setTimeout(() => this.#controller.abort(), isStopped ? LAST_WORDS_MS : 0);
  }

  async #on(event) {
    this.#isCut = event.state === "reconnecting";
    switch (event.type) {
      case "start":
        conversation.pictureArrived(this.#question.session_id);
        return this.keep();
      case "content":
        this.#state.replaceChildren();
        return this.#show(event.content);
      case "state":
        if (event.state === "fallback") this.#options.streaming = false;
        return this.#wait(event.state === "fallback" ? "Still working …" : navigator.onLine ? "Connecting again …" : "You are offline. I go on when you are back.");
      case "end":
        conversation.pictureArrived(this.#question.session_id);
        this.#kept.seen.text = event.content;
        await this.#view.finish(event.content);
        this.#over(ENDINGS[event.finish_reason] ?? "");
        return say(`The answer: ${spoken(this.#answer)}`);
      case "error":
        await this.#view.finish();
        Object.assign(this.#kept, { state: "failed", sentence: event.sentence, again: event.retryable || event.code === "UNAUTHENTICATED" });
        this.#fail(event.sentence, this.#kept.again);
        this.#leave();
        return say(event.sentence);
    }
  }

  #show(text) {
    this.#view.show(text);
    if (performance.now() - this.#keptAt > KEEP_EVERY_MS) this.keep();
  }

  #over(sentence) {
    Object.assign(this.#kept, { state: "ended", sentence });
    this.#view.finish();
    this.#end(sentence);
    this.#leave();
  }

  #leave() {
    this.keep();
    this.#desk.busy(null);
    follow();
  }

  #wait(sentence) {
    const dots = element("span", "dots");
    dots.append(element("i"), element("i"), element("i"));
    this.#state.className = "state";
    this.#state.replaceChildren(dots, sentence);
  }

  #end(sentence) {
    this.#state.className = "state";
    this.#state.replaceChildren(sentence);
  }

  #fail(sentence, retryable) {
    this.#state.className = "state bad";
    this.#state.replaceChildren(element("span", "", sentence));
    if (!retryable) return;
    const again = element("button", "", "Try again");
    again.type = "button";
    again.addEventListener("click", () => this.#desk.isFree() && this.#askAgain());
    this.#state.append(again);
  }
}

const ENDINGS = {
  length: "The answer was too long and stops here. Ask for the rest.",
  content_filter: "The AI may not say more about this.",
  stopped: "Stopped.",
};

/** An answer's text as it is read aloud: of a formula, what it says, and neither its source nor its drawing. */
function spoken(answer) {
  const isSaid = (node) => (node.matches?.(".katex-html, annotation") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT);
  const nodes = document.createTreeWalker(answer, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT, isSaid);
  const words = [];
  while (nodes.nextNode()) words.push(nodes.currentNode.data ?? "");
  return words.join("");
}
