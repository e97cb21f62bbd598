// The page at /: the question, its picture and the settings. What is asked is a turn of the conversation.
import { conversation } from "./conversation.js";
import { newId } from "./ids.js";
import { inTab, onDevice } from "./kept.js";
import { by, follow, say } from "./page.js";
import { pictureIn, prepare, urlOf } from "./picture.js";
import { Turn } from "./turn.js";

const LONGEST = 4000; // a question, in characters
const count = (number) => number.toLocaleString("en");
// `taking`: the picture that is being prepared; `isSubmitted`: whether the question waits for it.
const page = { picture: null, taking: null, isSubmitted: false, asking: null };

const desk = {
  options: () => ({ streaming: by("streaming").checked, token: inTab.get("token", "") }),
  isFree: () => !page.asking,
  busy(turn) {
    page.asking = turn;
    const hadFocus = document.activeElement === by("stop");
    by("ask").hidden = Boolean(turn);
    by("stop").hidden = !turn;
    if (!turn && hadFocus) by("prompt").focus({ preventScroll: true });
  },
  /** A question that was stopped before the first word was a slip, mostly: it is there to be put right. */
  stopped(turn) {
    if (!turn.isEmpty || by("prompt").value) return;
    by("prompt").value = turn.question.prompt;
    const { base64_image: base64 } = turn.question;
    if (base64 && !page.picture) setPicture({ name: "", base64, thumbnail: turn.thumbnail });
    by("prompt").focus();
  },
};

by("streaming").checked = onDevice.get("streaming", true);
by("streaming").addEventListener("change", (event) => onDevice.set("streaming", event.target.checked));
by("token").value = inTab.get("token", "");
by("token").addEventListener("change", (event) => inTab.set("token", event.target.value.trim()));

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
addEventListener("pagehide", () => page.asking?.keep());
showOffline();
restore();

function showOffline() {
  by("offline").hidden = navigator.onLine;
}

async function take(file) {
  if (!file) return;
  by("trouble").textContent = "";
  const taking = (page.taking = prepare(file));
  const picture = await taking.catch(() => null);
  by("file").value = "";
  if (page.taking !== taking) return; // another was chosen meanwhile, or a new page begun
  const { isSubmitted } = page;
  Object.assign(page, { taking: null, isSubmitted: false });
  if (!picture) return void (by("trouble").textContent = "I cannot open this file as a picture. Please take a photo or a screenshot.");
  setPicture(picture);
  if (isSubmitted) submit();
  else by("prompt").focus();
}

function setPicture(picture) {
  if (page.picture) URL.revokeObjectURL(by("preview").src);
  page.picture = picture;
  by("picture").hidden = !picture;
  if (!picture) return by("preview").removeAttribute("src");
  by("preview").src = urlOf(picture.thumbnail);
  by("picture-name").textContent = picture.name;
}

function startOver() {
  page.asking?.stop();
  conversation.forget();
  Object.assign(page, { taking: null, isSubmitted: false });
  setPicture(null);
  by("prompt").value = by("trouble").textContent = "";
  by("turns").replaceChildren();
  by("welcome").hidden = false;
  by("prompt").focus();
  say("A new page.");
}

function submit() {
  const prompt = by("prompt").value.trim();
  if (page.asking) return;
  if (page.taking) return void (page.isSubmitted = true);
  const [sentence, field] = wrong(prompt);
  by("trouble").textContent = sentence;
  if (field) return by(field).focus();
  // A session of our own, so that the fallback, whose reply names none, goes on in the same one.
  if (!conversation.session) conversation.begin(newId());
  const { base64, thumbnail } = page.picture ?? {};
  const question = { prompt, subject: by("subject").value, session_id: conversation.session, base64_image: base64 };
  const turn = new Turn(desk, question, { number: conversation.add(base64), thumbnail });
  by("welcome").hidden = true;
  by("prompt").value = "";
  setPicture(null);
  say("Your question is sent.");
  turn.run();
}

/** What has to be put right before a question can be sent, and where. */
function wrong(prompt) {
  const { length } = [...prompt]; // as the service counts
  if (!length) return ["Please write a question.", "prompt"];
  if (length > LONGEST) return [`Your question is too long: it has ${count(length)} characters, ${count(LONGEST)} is the most.`, "prompt"];
  if (!page.picture && !conversation.hasPicture) return ["Please add a picture of the page first.", "file"];
  return [""];
}

/** Shows what was said in this tab before the page was loaded again, and goes on with the answer that was being written. */
async function restore() {
  for (const { question, ...kept } of conversation.turns()) {
    by("welcome").hidden = true;
    const turn = new Turn(desk, question, kept);
    if (turn.isAsking) turn.run();
    else await turn.restore();
  }
  follow();
}
