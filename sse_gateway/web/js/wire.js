// Requests and event streams over a network that may be slow, silent or gone.
import { createParser } from "../vendor/eventsource-parser.js";

const SILENCE_MS = 45_000; // a heartbeat comes every 15 s

/** Sends a request. With `prompt` its response has to begin before the line counts as dead. */
export async function send(url, init, signal, { prompt = false } = {}) {
  const controller = new AbortController();
  const leave = () => controller.abort(signal.reason);
  signal.addEventListener("abort", leave, { once: true });
  const timer = prompt && setTimeout(() => controller.abort(new DOMException("silence", "TimeoutError")), SILENCE_MS);
  try {
    signal.throwIfAborted();
    return await fetch(url, { ...init, signal: controller.signal });
  } finally {
    clearTimeout(timer);
  }
}

export function headers(token, more = {}) {
  return token ? { Authorization: `Bearer ${token}`, ...more } : more;
}

/** Yields a body's events. A body that says nothing for long, not even a heartbeat, is cut. */
export async function* events(body) {
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

/** Milliseconds before another try: few at first, then more each time, and never the same for all. */
export function backOff(failures) {
  return Math.min(250 * 2 ** failures, 5000) * (0.5 + Math.random() / 2);
}

/** Waits, but not for a network that is back already. */
export function pause(milliseconds, signal) {
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
