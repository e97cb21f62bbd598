// The page at /: the question and the settings. What is asked is a turn of the conversation.
import { conversation } from "./conversation.js";
import { newId } from "./ids.js";
import { inTab, onDevice } from "./kept.js";
import { by, follow, goToEnd, isTouched, say } from "./page.js";
import { pictureIn } from "./picture.js";
import { tray } from "./tray.js";
import { Turn } from "./turn.js";
import { undo } from "./undo.js";

const LONGEST = 4000; // a question, in characters
const count = (number) => number.toLocaleString("en");
// `isSubmitted`: whether the question waits for its picture; `last`: the newest turn.
const page = { isSubmitted: false, asking: null, last: null };

const desk = {
  options: () => ({ streaming: by("streaming").checked, token: inTab.get("token", "") }),
  isFree: () => !page.asking,
  /** Who has the focus keeps it, on what has taken the place of what is gone. */
  busy(turn) {
    const focused = document.activeElement;
    const before = page.asking;
    page.asking = turn;
    by("ask").hidden = Boolean(turn);
    by("stop").hidden = !turn;
    if (turn && (focused === by("ask") || by("turns").contains(focused))) by("stop").focus({ preventScroll: true });
    if (turn || focused !== by("stop")) return;
    if (isTouched()) before.focus(); // in the question's box it would bring the keyboard over the answer
    else by("prompt").focus({ preventScroll: true });
  },
  /** A question that was stopped before the first word, or not taken, is there to be put right. */
  giveBack(turn) {
    if (!turn.isEmpty || by("prompt").value) return;
    by("prompt").value = turn.question.prompt;
    const { base64_image: base64 } = turn.question;
    if (base64 && !tray.picture) tray.put({ name: "", base64, thumbnail: turn.thumbnail });
    by(hasPicture() ? "prompt" : "file").focus();
  },
  askForCode(event) {
    event.stopPropagation(); // a click beside the settings closes them
    by("settings").open = true;
    by("token").focus();
  },
};

by("streaming").checked = onDevice.get("streaming", true);
by("streaming").addEventListener("change", (event) => onDevice.set("streaming", event.target.checked));
by("token").value = inTab.get("token", "");
by("token").addEventListener("change", keepToken);
by("token").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault(); // it would open them again
  keepToken();
  closeSettings();
  page.last?.tryAgain();
  if (!page.asking) return;
  by("stop").focus({ preventScroll: true });
  goToEnd();
});

by("file").addEventListener("change", (event) => take(event.target.files[0]));
by("remove-picture").addEventListener("click", () => {
  tray.put(null);
  page.isSubmitted = false;
  by("file").focus();
});
by("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
by("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !isComposing(event)) {
    event.preventDefault();
    submit();
  }
});
by("stop").addEventListener("click", (event) => {
  if (event.detail < 2) page.asking?.stop(); // the second click of two was meant for "Ask", which was there
});
by("stop").addEventListener("keydown", (event) => {
  if (event.repeat) event.preventDefault(); // so was an Enter that is still held
});
by("new-page").addEventListener("click", startOver);
document.addEventListener("paste", (event) => takeOne(event.clipboardData));
document.addEventListener("dragover", (event) => {
  if (!bringsFiles(event)) return;
  event.preventDefault();
  by("drop").hidden = false;
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) by("drop").hidden = true;
});
document.addEventListener("drop", (event) => {
  by("drop").hidden = true;
  if (!bringsFiles(event)) return;
  event.preventDefault();
  takeOne(event.dataTransfer);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") closeSettings();
});
document.addEventListener("click", (event) => {
  if (!event.target.closest(".settings")) by("settings").open = false;
});
for (const event of ["online", "offline"]) addEventListener(event, showOffline);
addEventListener("pagehide", () => {
  inTab.set("draft", by("prompt").value);
  page.asking?.keep();
});
// What was written and chosen before the scripts had come stays.
by("prompt").value ||= inTab.get("draft", "");
take(by("file").files[0]);
showOffline();
restore();

function showOffline() {
  by("offline").hidden = navigator.onLine;
}

/** A text that is dragged is not for us: it goes where it is dropped. */
function bringsFiles(event) {
  return event.dataTransfer?.types.includes("Files");
}

/** Safari says that the composing is over before the Enter that ends it: the key's number alone tells. */
function isComposing(event) {
  return event.isComposing || event.keyCode === 229;
}

function keepToken() {
  inTab.set("token", by("token").value.trim());
}

function closeSettings() {
  if (!by("settings").open) return;
  by("settings").open = false;
  by("settings").querySelector("summary").focus();
}

async function take(file) {
  if (!file) return;
  by("trouble").textContent = "";
  const isThere = await tray.take(file);
  by("file").value = "";
  if (isThere === null) return;
  const { isSubmitted } = page;
  page.isSubmitted = false;
  if (!isThere) by("trouble").textContent = "I cannot open this file as a picture. Please take a photo or a screenshot.";
  else if (isSubmitted) submit();
  else by("prompt").focus();
}

/** Of what was pasted or dropped. */
function takeOne(transfer) {
  take(pictureIn(transfer));
  if (transfer?.files.length > 1) by("trouble").textContent = "I can look at one picture at a time. This is the first.";
}

function startOver() {
  page.asking?.stop();
  const before = { prompt: by("prompt").value, picture: tray.picture, last: page.last, turns: [...by("turns").childNodes], kept: conversation.forget() };
  begin({ prompt: "", picture: null, last: null, turns: [] });
  say("A new page.");
  if (before.turns.length || before.prompt || before.picture) undo.offer(() => takeBack(before));
}

function takeBack({ kept, ...before }) {
  conversation.bringBack(kept);
  begin(before);
  say("Your page is back.");
}

/** Shows a page: a new one, or the one before. */
function begin({ prompt, picture, last, turns }) {
  Object.assign(page, { isSubmitted: false, last });
  tray.put(picture);
  by("prompt").value = prompt;
  by("trouble").textContent = "";
  by("turns").replaceChildren(...turns);
  by("welcome").hidden = turns.length > 0;
  by("prompt").focus();
}

function submit() {
  const prompt = by("prompt").value.trim();
  if (page.asking) return;
  if (tray.isTaking) return void (page.isSubmitted = true);
  const [sentence, field] = wrong(prompt);
  by("trouble").textContent = sentence;
  if (field) return by(field).focus();
  undo.withdraw();
  // A session of our own, so that the fallback, whose reply names none, goes on in the same one.
  if (!conversation.session) conversation.begin(newId());
  const { base64, thumbnail } = tray.picture ?? {};
  const question = { prompt, subject: by("subject").value, session_id: conversation.session, base64_image: base64 };
  page.last = new Turn(desk, question, { number: conversation.add(base64), thumbnail });
  by("welcome").hidden = true;
  by("prompt").value = "";
  tray.put(null);
  say("Your question is sent.");
  page.last.run();
  goToEnd();
}

/** What has to be put right before a question can be sent, and where. */
function wrong(prompt) {
  const { length } = [...prompt]; // as the service counts
  if (!length) return ["Please write a question.", "prompt"];
  if (length > LONGEST) return [`Your question is too long: it has ${count(length)} characters, ${count(LONGEST)} is the most.`, "prompt"];
  if (!hasPicture()) return ["Please add a picture of the page first.", "file"];
  return [""];
}

function hasPicture() {
  return Boolean(tray.picture) || conversation.hasPicture;
}

/** Shows what was said in this tab before the page was loaded again, and goes on with the answer that was being written. */
async function restore() {
  // All have their places before anything else can be asked; the newest is seen first, the others together.
  const turns = conversation.turns().map(({ question, ...kept }) => new Turn(desk, question, kept));
  by("welcome").hidden = turns.length > 0;
  page.last = turns.at(-1) ?? null;
  const older = turns.slice(0, -1);
  for (const turn of older) turn.show(false);
  for (const turn of turns.reverse()) await (turn.isAsking ? void turn.run() : turn.restore());
  for (const turn of older) turn.show(true);
  follow();
}
