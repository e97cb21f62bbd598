// One question and its answer, over whatever network there is: streamed, resumed, asked again under the same key, or in
// one reply. The key names the question, so that however often it is sent the model is asked once.
import { createParser } from "/web/vendor/eventsource-parser.js";

const STREAM = "/api/ai/chat-image-stream";
const WHOLE = "/api/ai/chat-image";
const ANSWERS = "/api/ai/answers/";
const SILENCE_MS = 45_000; // a heartbeat comes every 15 s
const MAX_FAILURES = 12; // in a row: about a minute
const LONGEST_WAIT_MS = 5000;
const FALLBACK_AFTER = 3; // streams that broke before a single event came
const CANNOT_STREAM = Symbol("cannot stream");

/**
 * Yields what happens: the documented events, and `{type: "state", state}` where `state` is "reconnecting" or "fallback".
 * The last is `end`, `error` (with `sentence`, `code` and `retryable`), or `{type: "left"}` when `signal` was aborted.
 */
export async function* ask(question, options) {
  try {
    if (options.streaming) {
      const outcome = yield* streamed(question, options);
      if (outcome !== CANNOT_STREAM) return;
      yield { type: "state", state: "fallback" };
    }
    yield* whole(question, options);
  } catch (error) {
    if (!options.signal.aborted) throw error;
    yield { type: "left" };
  }
}

/** Stops an answer for all who read it: its stream ends with the text so far. */
export function stop(answerId, token) {
  return fetch(ANSWERS + answerId, { method: "DELETE", headers: headers({ token }) });
}

async function* streamed(question, options) {
  const seen = { answer: null, last: null, text: "" };
  for (let failures = 0; ; ) {
    let wait = backOff(failures);
    try {
      const response = await open(question, seen, options);
      if (!response.ok) {
        const refused = await refusal(response);
        if (refused.code === "ANSWER_NOT_FOUND") {
          seen.answer = seen.last = null; // its engine is gone: the key asks anew
          failures += 1;
          continue;
        }
        if (!worthWaiting(refused) || ++failures > FALLBACK_AFTER) return yield refused;
        wait = refused.retryAfter ?? wait;
      } else if (!response.headers.get("content-type")?.startsWith("text/event-stream")) {
        return CANNOT_STREAM;
      } else {
        for await (const event of events(response.body)) {
          failures = 0;
          if (event.id) seen.last = event.id;
          seen.answer = event.data.answer_id ?? seen.answer;
          yield taken(event.data, seen);
          if (event.data.type === "end" || event.data.type === "error") return;
        }
        throw new TypeError("the stream was cut");
      }
    } catch (error) {
      options.signal.throwIfAborted();
      failures += 1;
      if (navigator.onLine && !seen.answer && error.name === "TimeoutError") return CANNOT_STREAM;
      if (navigator.onLine && !seen.answer && failures >= FALLBACK_AFTER) return CANNOT_STREAM;
      if (failures > MAX_FAILURES) return yield unreachable();
    }
    yield { type: "state", state: "reconnecting" };
    await pause(wait, options.signal);
  }
}

/** An event with all of the text so far: the wire has each delta once. */
function taken(event, seen) {
  if (event.type === "error") return told(event);
  if (event.type === "start") seen.text = "";
  if (event.type !== "content") return event;
  seen.text += event.delta;
  return { ...event, content: seen.text };
}

async function* whole(question, options) {
  for (let failures = 1; ; failures += 1) {
    let wait = backOff(failures);
    try {
      const response = await post(WHOLE, question, options);
      if (response.ok) {
        const reply = await response.json();
        return yield { type: "end", ...reply, content: reply.response };
      }
      const refused = await refusal(response);
      if (!worthWaiting(refused) || failures > FALLBACK_AFTER) return yield refused;
      wait = refused.retryAfter ?? wait;
    } catch {
      options.signal.throwIfAborted();
      if (failures > MAX_FAILURES) return yield unreachable();
    }
    yield { type: "state", state: "reconnecting" };
    await pause(wait, options.signal);
  }
}

function open(question, seen, options) {
  if (!seen.answer) return post(STREAM, question, options, SILENCE_MS);
  const more = { Accept: "text/event-stream", ...(seen.last && { "Last-Event-ID": seen.last }) };
  return send(`${ANSWERS}${seen.answer}?accumulate=false`, { headers: headers(options, more) }, options.signal, SILENCE_MS);
}

function post(url, question, options, milliseconds) {
  const more = { "Content-Type": "application/json", "Idempotency-Key": options.key };
  const init = { method: "POST", headers: headers(options, more), body: JSON.stringify({ ...question, accumulate: false }) };
  return send(url, init, options.signal, milliseconds);
}

function headers({ token }, more = {}) {
  return token ? { Authorization: `Bearer ${token}`, ...more } : more;
}

/** Sends a request. Where `milliseconds` are given its response has to begin within them. */
async function send(url, init, signal, milliseconds) {
  const controller = new AbortController();
  const leave = () => controller.abort(signal.reason);
  signal.addEventListener("abort", leave, { once: true });
  const timer = milliseconds && setTimeout(() => controller.abort(new DOMException("silence", "TimeoutError")), milliseconds);
  try {
    signal.throwIfAborted();
    return await fetch(url, { ...init, signal: controller.signal });
  } finally {
    clearTimeout(timer);
  }
}

/** Yields a body's events. A body that says nothing for long, not even a heartbeat, is cut. */
async function* events(body) {
  const ready = [];
  const parser = createParser({ onEvent: (event) => ready.push({ id: event.id, data: JSON.parse(event.data) }) });
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await within(reader.read());
      if (done) return;
      parser.feed(value);
      yield* ready.splice(0);
    }
  } finally {
    reader.cancel().catch(() => {}); // it has ended, or nobody wants the rest
  }
}

function within(reading) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new TypeError("the stream is silent")), SILENCE_MS);
  });
  return Promise.race([reading, late]).finally(() => clearTimeout(timer));
}

async function refusal(response) {
  const body = await response.json().catch(() => ({}));
  const seconds = Number(response.headers.get("retry-after"));
  const gateway = response.status >= 500; // a proxy's page says nothing, and may be gone soon
  return told({ retryable: gateway, code: gateway ? "ENGINE_UNAVAILABLE" : "", ...body, retryAfter: seconds ? seconds * 1000 : undefined });
}

/** Whether to ask again by ourselves; where that would take long the student decides. */
function worthWaiting({ retryable, retryAfter = 0 }) {
  return retryable && retryAfter <= LONGEST_WAIT_MS;
}

function told(event) {
  return { ...event, type: "error", sentence: SENTENCES[event.code] ?? event.response ?? GENERAL };
}

function unreachable() {
  return told({ code: "UNREACHABLE", retryable: true });
}

const GENERAL = "Something went wrong. Please try again.";
const SENTENCES = {
  UNREACHABLE: "I cannot reach StudyAI. Check your connection, then try again.",
  IMAGE_UNREADABLE: "I cannot read this picture. Please take another one.",
  PAYLOAD_TOO_LARGE: "This picture is too large. Please take another one.",
  UNAUTHENTICATED: "Please enter your access code in the settings.",
  FORBIDDEN: "You may not ask here. Please talk to your teacher.",
  RATE_LIMITED: "That was a lot of questions. Take a short break, then try again.",
  OVERLOADED: "Many students are asking right now. Please try again in a moment.",
  DRAINING: "StudyAI is being updated. Please try again in a moment.",
  ENGINE_UNAVAILABLE: "StudyAI is not available right now. Please try again in a moment.",
  UPSTREAM_RATE_LIMITED: "Many students are asking right now. Please try again in a moment.",
  UPSTREAM_UNAVAILABLE: "The AI is not available right now. Please try again in a moment.",
  UPSTREAM_AUTH: "The AI is not available right now. Please tell your teacher.",
  UPSTREAM_REJECTED: "I cannot answer that question. Please ask another one.",
  UPSTREAM_TRUNCATED: "The answer broke off. Please try again.",
  UPSTREAM_TIMEOUT: "The AI went silent. Please try again.",
  DEADLINE_EXCEEDED: "The answer took too long. Please try again.",
};

/** Milliseconds before another try: none at first, then longer each time, and never the same for all. */
function backOff(failures) {
  return Math.min(250 * 2 ** failures, 5000) * (0.5 + Math.random() / 2);
}

/** Waits, but not for a network that is back already. */
function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const done = (how) => () => {
      clearTimeout(timer);
      removeEventListener("online", online);
      signal.removeEventListener("abort", aborted);
      how(signal.reason);
    };
    const online = done(resolve);
    const aborted = done(reject);
    const timer = setTimeout(online, milliseconds);
    addEventListener("online", online);
    signal.addEventListener("abort", aborted);
  });
}
