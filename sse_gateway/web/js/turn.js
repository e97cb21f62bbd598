// One question and its answer on the page.
import { ask, nothingSeen, stop } from "./ask.js";
import { AnswerView } from "./answer.js";
import { conversation } from "./conversation.js";
import { newId } from "./ids.js";
import { by, element, follow, say } from "./page.js";
import { urlOf } from "./picture.js";
import { spoken } from "./spoken.js";

const LAST_WORDS_MS = 5000; // a stopped answer's end comes at once, or the network is gone
const KEEP_EVERY_MS = 1000;

export class Turn {
  #number;
  #question;
  #kept; // all that a reload needs, but for the picture
  #desk;
  #asked = article("question", "Your question");
  #answer = Object.assign(article("answer", "Answer"), { tabIndex: -1 });
  #state = element("div", "state");
  #view = new AnswerView(this.#answer, follow);
  #controller;
  #options;
  #stopped = false;
  #isCut = false; // it waits for a network that is gone
  #waiting = null; // for what, in a sentence
  #keptAt = 0;

  /** `desk` has `options()`, `busy(turn)`, `isFree()`, `giveBack(turn)` and `askForCode(event)`; `kept` may be of before a reload. */
  constructor(desk, question, { number, ...kept }) {
    this.#desk = desk;
    this.#number = number;
    this.#question = question;
    this.#kept = { key: newId(), seen: nothingSeen(), state: "asking", ...kept };
    this.#asked.textContent = question.prompt;
    const { thumbnail } = this.#kept;
    if (thumbnail) this.#asked.prepend(Object.assign(element("img"), { src: urlOf(thumbnail), alt: "The picture you asked about", onload: follow }));
    by("turns").append(this.#asked, this.#answer, this.#state);
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
    this.#wait(this.isEmpty ? "Reading your page …" : "");
    this.keep();
    if (this.#kept.seen.text) this.#show(this.#kept.seen.text);
    for await (const event of ask(this.#question, this.#options)) await (this.#stopped ? this.#after(event) : this.#on(event));
  }

  /** Asks once more, if that may help. */
  tryAgain() {
    const { state, again, asksForCode } = this.#kept;
    if (state === "failed" && (again || asksForCode) && this.#desk.isFree()) return this.#askAgain();
  }

  #askAgain() {
    this.#kept.seen = nothingSeen();
    return this.run();
  }

  focus() {
    this.#answer.focus({ preventScroll: true });
  }

  /** Shows what was kept of a turn that has ended, and returns when it is there. */
  async restore() {
    await this.#view.finish(this.#kept.seen.text);
    if (this.#kept.state === "failed") this.#fail();
    else this.#end(this.#kept.sentence);
    follow();
  }

  /** Out of sight it is drawn at once, since nothing has to be laid out. */
  show(isShown) {
    for (const part of [this.#asked, this.#answer, this.#state]) part.hidden = !isShown;
    if (isShown) this.#view.openToKeys();
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
    this.#desk.giveBack(this);
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
        this.#wait("");
        return this.#show(event.content);
      case "state":
        if (event.state === "fallback") this.#options.streaming = false;
        this.#wait(event.state === "fallback" ? "Still working …" : navigator.onLine ? "Connecting again …" : "You are offline. I go on when you are back.");
        return say(this.#waiting);
      case "end":
        conversation.pictureArrived(this.#question.session_id);
        this.#kept.seen.text = event.content;
        await this.#view.finish(event.content);
        this.#over(ENDINGS[event.finish_reason] ?? "");
        return say(`The answer: ${spoken(this.#answer)}`);
      case "error":
        return event.code === "PICTURE_LOST" && !this.#question.base64_image ? this.#pictureLost(event) : this.#failed(event);
    }
  }

  /** Asks once more with the picture, where it is still here; a key names one question, and this is another. */
  async #pictureLost(event) {
    const picture = conversation.pictureLost();
    if (!picture) {
      await this.#failed(event);
      return this.#desk.giveBack(this);
    }
    this.#question = { ...this.#question, base64_image: picture };
    this.#kept.key = newId();
    return this.#askAgain();
  }

  async #failed({ sentence, retryable, code }) {
    await this.#view.finish();
    Object.assign(this.#kept, { state: "failed", sentence, again: retryable, asksForCode: ASKS_FOR_CODE.has(code) });
    this.#fail();
    this.#leave();
    say(sentence);
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

  /** Shows that something is still to come. */
  #wait(sentence) {
    if (this.#waiting === sentence) return;
    this.#waiting = sentence;
    const dots = element("span", "dots");
    dots.append(element("i"), element("i"), element("i"));
    this.#state.className = "state";
    this.#state.replaceChildren(dots, sentence);
  }

  #end(sentence) {
    this.#waiting = null;
    this.#state.className = "state";
    this.#state.replaceChildren(sentence, ...(this.isEmpty || !navigator.clipboard ? [] : [this.#copyButton()]));
  }

  #copyButton() {
    const button = by("copy").content.firstElementChild.cloneNode(true);
    button.addEventListener("click", async () => {
      const isCopied = await navigator.clipboard.writeText(this.#kept.seen.text).then(() => true, () => false);
      button.classList.toggle("done", isCopied);
      say(isCopied ? "Copied." : "Your browser does not allow that.");
    });
    return button;
  }

  #fail() {
    const { sentence, again, asksForCode } = this.#kept;
    this.#waiting = null;
    this.#state.className = "state bad";
    this.#state.replaceChildren(element("span", "", sentence));
    if (asksForCode) this.#offer("Enter the code", (event) => this.#desk.askForCode(event));
    else if (again) this.#offer("Try again", () => this.tryAgain());
  }

  #offer(label, action) {
    const button = Object.assign(element("button", "", label), { type: "button" });
    button.addEventListener("click", action);
    this.#state.append(button);
  }
}

const ASKS_FOR_CODE = new Set(["UNAUTHENTICATED", "CODE_REFUSED"]);

/** A part of the conversation, that a screen reader can go to. */
function article(className, label) {
  return Object.assign(element("article", className), { dir: "auto", ariaLabel: label });
}

const ENDINGS = {
  length: "The answer was too long and stops here. Ask for the rest.",
  content_filter: "The AI may not say more about this.",
  stopped: "Stopped.",
};
