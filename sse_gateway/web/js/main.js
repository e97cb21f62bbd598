// The page at /: what the student does, and what it looks like.
import { ask, stop } from "/web/js/ask.js";
import { AnswerView } from "/web/js/answer.js";
import { newId } from "/web/js/ids.js";
import { keep, kept } from "/web/js/kept.js";
import { pictureIn, prepare } from "/web/js/picture.js";

const by = (id) => document.getElementById(id);
const page = { session: null, picture: null, asking: null };

by("streaming").checked = kept("streaming", true);
by("streaming").addEventListener("change", (event) => keep("streaming", event.target.checked));
by("token").value = kept("token", "");
by("token").addEventListener("change", (event) => keep("token", event.target.value.trim()));

by("file").addEventListener("change", (event) => take(event.target.files[0]));
by("remove-picture").addEventListener("click", () => {
  setPicture(null);
  by("file").focus();
});
by("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
by("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    submit();
  }
});
by("stop").addEventListener("click", () => page.asking?.stop());
by("new-page").addEventListener("click", startOver);
document.addEventListener("paste", (event) => take(pictureIn(event.clipboardData)));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  by("drop").hidden = false;
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) by("drop").hidden = true;
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  by("drop").hidden = true;
  take(pictureIn(event.dataTransfer));
});
document.addEventListener("keydown", (event) => {
  const settings = document.querySelector(".settings[open]");
  if (event.key !== "Escape" || !settings) return;
  settings.open = false;
  settings.querySelector("summary").focus();
});
for (const event of ["online", "offline"]) addEventListener(event, showOffline);
showOffline();

function showOffline() {
  by("offline").hidden = navigator.onLine;
}

async function take(file) {
  if (!file) return;
  by("trouble").textContent = "";
  try {
    setPicture(await prepare(file));
    by("prompt").focus();
  } catch {
    by("trouble").textContent = "I cannot open this file as a picture. Please take a photo or a screenshot.";
  }
  by("file").value = "";
}

function setPicture(picture) {
  page.picture = picture;
  by("picture").hidden = !picture;
  if (picture) {
    by("preview").src = picture.url;
    by("picture-name").textContent = picture.name;
  }
}

function startOver() {
  page.asking?.leave();
  page.session = null;
  setPicture(null);
  by("turns").replaceChildren();
  by("welcome").hidden = false;
  by("prompt").focus();
}

function submit() {
  const prompt = by("prompt").value.trim();
  if (page.asking) return;
  const missing = !prompt ? "Please write a question." : !page.picture && !page.session ? "Please add a picture of the page first." : "";
  by("trouble").textContent = missing;
  if (missing) return (prompt ? by("file") : by("prompt")).focus();
  // A session of our own, so that the fallback, whose reply names none, goes on in the same one.
  page.session ??= newId();
  const question = { prompt, subject: by("subject").value, session_id: page.session };
  if (page.picture) question.base64_image = page.picture.base64;
  const turn = new Turn(prompt, page.picture?.url, question);
  by("welcome").hidden = true;
  by("prompt").value = "";
  setPicture(null);
  turn.run();
}

function setAsking(turn) {
  page.asking = turn;
  by("ask").hidden = Boolean(turn);
  by("stop").hidden = !turn;
}

function say(sentence) {
  by("said").textContent = sentence;
}

class Turn {
  #question;
  #key = newId();
  #answer = element("div", "answer");
  #state = element("div", "state");
  #view = new AnswerView(this.#answer);
  #controller;
  #answerId = null;

  constructor(prompt, picture, question) {
    this.#question = question;
    const asked = element("div", "question", prompt);
    if (picture) asked.prepend(Object.assign(element("img"), { src: picture, alt: "The picture you asked about" }));
    by("turns").append(asked, this.#answer, this.#state);
    asked.scrollIntoView({ block: "start" });
  }

  async run() {
    this.#controller = new AbortController();
    this.#answerId = null;
    setAsking(this);
    this.#wait("Reading your page …");
    say("Your question is sent.");
    const options = { key: this.#key, streaming: by("streaming").checked, token: kept("token", ""), signal: this.#controller.signal };
    for await (const event of ask(this.#question, options)) await this.#on(event);
    if (page.asking === this) setAsking(null);
  }

  stop() {
    const leave = () => this.leave();
    if (this.#answerId) stop(this.#answerId, kept("token", "")).then((reply) => reply.ok || leave(), leave);
    else leave();
  }

  leave() {
    this.#controller.abort();
  }

  async #on(event) {
    switch (event.type) {
      case "start":
        this.#answerId = event.answer_id;
        return;
      case "content":
        this.#state.replaceChildren();
        return this.#show(event.content);
      case "state":
        return this.#wait(event.state === "fallback" ? "Still working …" : navigator.onLine ? "Connecting again …" : "You are offline. I go on when you are back.");
      case "end":
        await this.#view.finish(event.content);
        this.#keepInView();
        this.#end(ENDINGS[event.finish_reason] ?? "");
        return say(`The answer: ${this.#answer.textContent}`);
      case "left":
        await this.#view.finish();
        return this.#end("Stopped.");
      case "error":
        await this.#view.finish();
        this.#fail(event);
        return say(event.sentence);
    }
  }

  #show(text) {
    const follow = isAtEnd();
    this.#view.show(text);
    if (follow) this.#keepInView();
  }

  #keepInView() {
    if (isAtEnd()) requestAnimationFrame(() => scrollTo({ top: document.body.scrollHeight }));
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

  #fail({ sentence, retryable, code }) {
    this.#state.className = "state bad";
    this.#state.replaceChildren(element("span", "", sentence));
    if (!retryable && code !== "UNAUTHENTICATED") return;
    const again = element("button", "", "Try again");
    again.type = "button";
    again.addEventListener("click", () => !page.asking && this.run());
    this.#state.append(again);
  }
}

const ENDINGS = {
  length: "The answer was too long and stops here. Ask for the rest.",
  content_filter: "The AI may not say more about this.",
  stopped: "Stopped.",
};

function isAtEnd() {
  return innerHeight + scrollY >= document.body.scrollHeight - 120;
}

function element(tag, className = "", text = "") {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}
