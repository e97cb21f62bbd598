// One question and its answer, over whatever network there is: streamed, resumed, asked again under the same key, or in
// one reply. The key names the question, so that however often it is sent the model is asked once.
import { brokenOff, refusal, told, unreachable } from "./failures.js";
import { backOff, events, headers, pause, send } from "./wire.js";

const STREAM = "/api/ai/chat-image-stream";
const WHOLE = "/api/ai/chat-image";
const ANSWERS = "/api/ai/answers/";
const MAX_FAILURES = 12; // in a row, with a network: about a minute
const LONGEST_WAIT_MS = 5000;
const ASKED_AT_MOST = 3; // of an answer that engines forget
const FALLBACK_AFTER = 3; // streams that broke before a single event came
const CANNOT_STREAM = Symbol("cannot stream");

/** What is known of an answer of which nothing is known: who keeps it can go on from it later. */
export const nothingSeen = () => ({ answer: null, last: null, text: "" });

/**
 * Yields what happens: the documented events, and `{type: "state", state}` where `state` is "reconnecting" or "fallback".
 * The last is `end`, `error` (with `sentence`, `code` and `retryable`), or `{type: "left"}` when `signal` was aborted.
 * `options`: `key`, `streaming`, `token`, `signal`, and `seen`, from which it goes on and which it keeps up to date.
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

/**
 * Stops an answer for all who read it: they get its end with the text so far. Returns whether that worked.
 * Where only its key is known, its stream is joined for the id that it begins with.
 */
export async function stop(question, options) {
  try {
    const id = options.seen.answer ?? (await answerId(question, options));
    const init = { method: "DELETE", headers: headers(options.token), keepalive: true };
    return Boolean(id) && (await fetch(ANSWERS + id, init)).ok;
  } catch {
    return false;
  }
}

async function answerId(question, options) {
  for await (const event of streamed(question, { ...options, seen: nothingSeen() })) return event.answer_id;
}

async function* streamed(question, options) {
  const { seen } = options;
  let forgotten = 0;
  for (let failures = 0; ; ) {
    let wait = backOff(failures);
    try {
      const response = await open(question, options);
      if (!response.ok) {
        const refused = await refusal(response, options.token);
        if (refused.code === "ANSWER_NOT_FOUND") {
          if (++forgotten === ASKED_AT_MOST) return yield brokenOff();
          seen.answer = seen.last = null; // its engine is gone: the key asks anew
          continue;
        }
        if (!worthWaiting(refused) || ++failures > FALLBACK_AFTER) return yield refused;
        wait = refused.retryAfter ?? wait;
      } else if (!response.headers.get("content-type")?.startsWith("text/event-stream")) {
        return CANNOT_STREAM;
      } else {
        for await (const event of events(response.body)) {
          failures = 0;
          yield taken(event, seen);
          if (event.data.type === "end" || event.data.type === "error") return;
        }
        throw new TypeError("the stream was cut");
      }
    } catch (error) {
      options.signal.throwIfAborted();
      if (navigator.onLine) {
        failures += 1;
        if (!seen.answer && (error.name === "TimeoutError" || failures >= FALLBACK_AFTER)) return CANNOT_STREAM;
        if (failures > MAX_FAILURES) return yield unreachable();
      } else {
        wait = LONGEST_WAIT_MS; // and again, however long: the page has promised it
      }
    }
    yield { type: "state", state: "reconnecting" };
    await pause(wait, options.signal);
  }
}

/** An event with all of the text so far: the wire has each delta once. */
function taken({ id, data }, seen) {
  if (id) seen.last = id;
  if (data.type === "error") return told(data);
  if (data.type === "start") Object.assign(seen, { answer: data.answer_id, text: "" });
  if (data.type !== "content") return data;
  seen.text += data.delta;
  return { ...data, content: seen.text };
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
      const refused = await refusal(response, options.token);
      if (!worthWaiting(refused) || failures > FALLBACK_AFTER) return yield refused;
      wait = refused.retryAfter ?? wait;
    } catch {
      options.signal.throwIfAborted();
      if (!navigator.onLine) [failures, wait] = [0, LONGEST_WAIT_MS];
      if (failures > MAX_FAILURES) return yield unreachable();
    }
    yield { type: "state", state: "reconnecting" };
    await pause(wait, options.signal);
  }
}

function open(question, options) {
  const { seen, token, signal } = options;
  if (!seen.answer) return post(STREAM, question, options, { prompt: true });
  const more = { Accept: "text/event-stream", ...(seen.last && { "Last-Event-ID": seen.last }) };
  return send(`${ANSWERS}${seen.answer}?accumulate=false`, { headers: headers(token, more) }, signal, { prompt: true });
}

function post(url, question, { key, token, signal }, patience) {
  const more = { "Content-Type": "application/json", "Idempotency-Key": key };
  const body = JSON.stringify({ ...question, accumulate: false });
  return send(url, { method: "POST", headers: headers(token, more), body }, signal, patience);
}

/** Whether to ask again by ourselves; where that would take long the student decides. */
function worthWaiting({ retryable, retryAfter = 0 }) {
  return retryable && retryAfter <= LONGEST_WAIT_MS;
}
