// The page at /playground: the raw stream with timings, for developers.
import { newId } from "./ids.js";
import { prepare } from "./picture.js";

const by = (id) => document.getElementById(id);
const SLOW_MS = 1000;
const now = { answer: null, last: null, controller: null, began: 0, before: 0, picture: null };

by("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  const failed = () => void (by("state").textContent = "This file cannot be opened as a picture.");
  now.picture = file && prepare(file).catch(failed); // sending waits for it
});
by("send").addEventListener("click", send);
by("cut").addEventListener("click", () => now.controller.abort());
by("slow").addEventListener("click", ({ target }) => target.setAttribute("aria-pressed", String(!isSlow())));
by("stop").addEventListener("click", async () => {
  const reply = await fetch(`/api/ai/answers/${now.answer}`, { method: "DELETE", headers: authorization() });
  note(`DELETE: ${reply.status}`);
});
by("resume").addEventListener("click", () => {
  const headers = { Accept: "text/event-stream", ...(now.last && { "Last-Event-ID": now.last }), ...authorization() };
  const url = `/api/ai/answers/${now.answer}`;
  by("curl").textContent = curl(url, headers);
  read(url, { headers });
});
by("form").addEventListener("submit", (event) => event.preventDefault());

const isSlow = () => by("slow").getAttribute("aria-pressed") === "true";

function authorization() {
  return by("token").value ? { Authorization: `Bearer ${by("token").value}` } : {};
}

async function send() {
  by("send").disabled = true; // the picture may take a moment
  const picture = await now.picture;
  const question = { prompt: by("prompt").value, subject: by("subject").value, accumulate: by("accumulate").checked };
  if (by("session").value) question.session_id = by("session").value;
  if (picture) question.base64_image = picture.base64;
  const key = by("key").value || newId();
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key, ...authorization() };
  const url = "/api/ai/chat-image-stream";
  by("curl").textContent = curl(url, headers, question);
  by("events").replaceChildren();
  now.answer = now.last = null;
  read(url, { method: "POST", headers, body: JSON.stringify(question) });
}

/** The command that sends the same. A picture goes in by a pipe: as an argument it would be too long. */
function curl(path, headers, body) {
  const lines = Object.entries(headers).map(([name, value]) =>
    name === "Authorization" ? '-H "Authorization: Bearer $TOKEN"' : `-H ${quoted(`${name}: ${value}`)}`);
  const { base64_image: picture, ...fields } = body ?? {};
  if (body && !picture) lines.push(`-d ${quoted(JSON.stringify(fields))}`);
  if (picture) lines.push("-d @-");
  const command = ["curl -N", `${location.origin}${path}`, ...lines].join(" \\\n  ");
  if (!picture) return command;
  const start = `${JSON.stringify(fields).slice(0, -1)},"base64_image":"`;
  return `{ printf %s ${quoted(start)}; base64 < page.jpg | tr -d '\\n'; printf '"}'; } |\n${command}`;
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

async function read(url, request) {
  now.controller = new AbortController();
  now.began = now.before = performance.now();
  running(true);
  try {
    const response = await fetch(url, { ...request, signal: now.controller.signal });
    by("state").textContent = `HTTP ${response.status}, ${response.headers.get("content-type") ?? "no body"}, x-request-id ${response.headers.get("x-request-id")}`;
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; reader; ) {
      const { value, done } = await reader.read();
      if (done) {
        if (rest) row(rest);
        break;
      }
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      parts.forEach(row);
      if (isSlow()) await new Promise((resolve) => setTimeout(resolve, SLOW_MS));
    }
    note("the response has ended");
  } catch (error) {
    note(now.controller.signal.aborted ? "cut" : `broken: ${error.message}`);
  }
  running(false);
}

function running(yes) {
  by("send").disabled = yes;
  by("cut").disabled = !yes;
  by("stop").disabled = !yes || !now.answer;
  by("resume").disabled = yes || !now.answer;
}

function row(frame) {
  now.last = /^id: (\d+)$/m.exec(frame)?.[1] ?? now.last;
  now.answer = /"answer_id":"(\w+)"/.exec(frame)?.[1] ?? now.answer;
  by("stop").disabled = !now.answer;
  note(frame, frame.length + 2);
}

function note(text, bytes = "") {
  const at = performance.now();
  const line = document.createElement("tr");
  for (const cell of [(at - now.began).toFixed(0), (at - now.before).toFixed(0), bytes, text]) line.insertCell().textContent = cell;
  now.before = at;
  const log = by("events").closest(".log");
  by("events").append(line);
  log.scrollTop = log.scrollHeight;
}
